"""Makes the tables and plots of `benchmarks/README.md` from the files of results.

    python -m benchmarks.report             writes the page, and plots beside the files
    python -m benchmarks.report --check     exit code 1 if the page is not up to date
    python -m benchmarks.report --compare OLD.json NEW.json      1 if anything of ours is worse

Only what stands between `<!-- made: NAME -->` and `<!-- end -->` is replaced. A bad file is exit
code 2. Plots need matplotlib (the extra `notebooks`).
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.report import compare, tables
from benchmarks.report.records import RESULTS, Record, RecordError, read, read_all

PAGE = Path(__file__).parent.parent / "README.md"
NO_GPU = "No GPU has been measured yet."

TABLES: dict[str, Callable[[Record], list[str]]] = {
    "models": tables.models,
    "layers": tables.models,
    "scaling": tables.scaling,
    "operators": tables.operators,
}
# What the plot of each kind shows.
PLOTTED = {
    "models": "Ours over each peer",
    "layers": "Ours over each peer",
    "scaling": "Time against what grows",
}


def sections(records: Iterable[Record]) -> dict[str, str]:
    """The made parts of the page, by name: one a kind of benchmark on CPUs, and all of GPUs."""
    records = list(records)
    parts = {
        kind: [section(record) for record in records if record.kind == kind and not record.gpu]
        or [f"No results of {kind} yet."]
        for kind in TABLES
    }
    parts["gpu"] = [section(record) for record in records if record.gpu] or [NO_GPU]
    return {name: "\n\n".join(each) for name, each in parts.items()}


def section(record: Record) -> str:
    """A file's heading, table and, where it has one, the link to its plot."""
    lines = TABLES[record.kind](record)
    if record.kind in PLOTTED:
        lines += ["", f"![{PLOTTED[record.kind]}](results/{plotted(record).name})"]
    return "\n".join(lines)


def plotted(record: Record) -> Path:
    """Where a file's plot lies."""
    return record.path.with_suffix(".svg")


def filled(page: str, parts: dict[str, str]) -> str:
    """The page with its made parts replaced.

    Raises:
      RecordError: a part's markers are not there.
    """
    for name, text in parts.items():
        begin, end = f"<!-- made: {name} -->", "<!-- end -->"
        place = re.search(f"{re.escape(begin)}\n.*?{re.escape(end)}", page, re.DOTALL)
        if place is None:
            raise RecordError(f"{PAGE.name}: expected {begin} on a line, and {end} on one below it")
        before, after = page[: place.start()], page[place.end() :]
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page


def draw(record: Record) -> None:
    """Writes a file's plot."""
    from benchmarks.report import plots

    (plots.growth if record.kind == "scaling" else plots.ratios)(record, plotted(record))


def main(arguments: list[str] | None = None) -> int:
    """Writes, checks or compares; gives the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the files")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"))
    options = parser.parse_args(arguments)
    try:
        if options.compare:
            return compared(*map(read, options.compare))
        return written(options.page, read_all(options.results), options.check)
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2


def compared(old: Record, new: Record) -> int:
    """Prints what changed; 1 where anything is worse."""
    found = compare.changes(old, new)
    print(*compare.report(old, new, found), sep="\n")
    return int(any(change.regression for change in found))


def written(path: Path, records: list[Record], check: bool) -> int:
    """Writes the page and the plots; or only checks them, and gives 1 where they are stale."""
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: expected a page to fill in: {error.strerror}") from None
    made = filled(page, sections(records))
    drawn = [record for record in records if record.kind in PLOTTED]
    if check:
        stale = [path.name] * (made != page)
        stale += [plotted(record).name for record in drawn if not plotted(record).exists()]
        if stale:
            print(f"not up to date: {', '.join(stale)}; run python -m benchmarks.report")
        return int(bool(stale))
    for record in drawn:
        draw(record)
    path.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
