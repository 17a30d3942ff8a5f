"""Tables of classifying photos and of loading weights, in Markdown."""

from collections.abc import Sequence

from benchmarks.report.markdown import format_milliseconds, format_number, format_table, text_column
from benchmarks.report.records import Record


def format_classify(record: Record) -> list[str]:
    """Seconds of whole processes, and every candidate's photos a second."""
    starts, batch = record.content["start_s"], record.content["batch"]
    rows = [
        {
            "candidate": name,
            "versions": ", ".join(f"{key} {value}" for key, value in timing["versions"].items()),
            "photos a second": format_number(batch / timing["median"]),
            "quartiles": f"{batch / timing['upper']:.1f} to {batch / timing['lower']:.1f}",
        }
        for name, timing in record.content["seconds_a_batch"].items()
    ]
    return [
        *_format_heading(record, "Classification"),
        f"`zoo classify examples/cat.jpg` takes {starts['cold']:.1f} s at its first start, and "
        f"{starts['warm']:.1f} s later.",
        "",
        f"EfficientNet-Lite0, batch {batch}, 224x224, float32:",
        "",
        *format_table([text_column(name) for name in rows[0]], rows, left=2),
    ]


def format_weights(record: Record) -> list[str]:
    """Milliseconds of loading weights by each loader, and the peak memory of loading."""
    content = record.content
    rows = [
        {"milliseconds": title, **{name: format_milliseconds(t) for name, t in timings.items()}}
        for title, timings in (
            ("in the page cache", content["seconds_warm"]),
            ("from the disk", content["seconds_cold"]),
        )
    ]
    loading, idle = (content["peak_bytes"][name]["all"] for name in ("zoo.trained", "idle"))
    text = [
        *_format_heading(record, "Loading weights"),
        f"{content['model']}, {content['bytes'] / 1e6:.1f} MB:",
        "",
        *format_table([text_column(name) for name in rows[0]], rows, left=1),
        "",
        f"The process peaks at {loading / 1e6:.0f} MB, {(loading - idle) / 1e6:.0f} MB above one "
        "that only imports.",
    ]
    if converted := content.get("convert"):
        text[-1] += (
            f" Converting {converted['model']}'s `.pth` of {converted['file_bytes'] / 1e6:.0f} MB "
            f"takes {converted['seconds']:.0f} s and peaks at {converted['peak_over_file']:.2f} "
            "times the file, Python and jax included."
        )
    return text


def _format_heading(record: Record, title: str) -> Sequence[str]:
    """Title, machine, and commands that repeat it; a blank line after."""
    commands = [f"`{command}`" for command in record.commands]
    heading = f"### {title}, jax {record.jax or 'unknown'}"
    return [heading, "", f"{record.content['device']}.", *commands, ""]
