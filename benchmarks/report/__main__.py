"""Generates tables and plots of `benchmarks/README.md` and `README.md` from the files of results.

    python -m benchmarks.report             writes the pages, and plots beside the files
    python -m benchmarks.report --check     exit code 1 if a page is not up to date
    python -m benchmarks.report --compare OLD.json NEW.json      1 if anything of ours is worse

Only the text between `<!-- generated: NAME -->` and `<!-- end -->` is replaced. A bad file is exit
code 2. Plots need matplotlib (the extra `notebooks`).
"""

import argparse
import sys
from pathlib import Path

from benchmarks.report.compare import print_comparison
from benchmarks.report.page import PAGE, find_stale, format_parts, write_pages
from benchmarks.report.readme import README, format_readme_parts
from benchmarks.report.records import RESULTS, RecordError, read_folder, read_record


def main(arguments: list[str] | None = None) -> int:
    """Writes, checks or compares; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the files")
    parser.add_argument(
        "--page",
        type=Path,
        default=PAGE,
        help="another page to write, without README.md",
    )
    parser.add_argument("--check", action="store_true", help="only check that it is up to date")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"))
    options = parser.parse_args(arguments)
    try:
        if options.compare:
            return print_comparison(*map(read_record, options.compare))
        records = read_folder(options.results)
        pages = {options.page: format_parts(records)}
        if options.page == PAGE:
            pages[README] = format_readme_parts(records)
        if not options.check:
            write_pages(pages, records)
            return 0
        stale = find_stale(pages, records)
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2
    if stale:
        print(f"not up to date: {', '.join(stale)}; run python -m benchmarks.report")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
