"""The parts of a self-contained HTML page: its frame and style, tables, escaped text."""

import html
from collections.abc import Iterable, Mapping, Sequence

from zoo_pretrained.printable import MAX_MESSAGE, printable

STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --muted: #5c6470; --paper: #fbfbfa;
  --card: #fff; --line: #e1e3e6; --first: #2563eb; --second: #c2570c; --hit: 37 99 235;
  --miss: 217 92 20; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --muted: #a0a8b4; --paper: #16181c;
  --card: #1f2227; --line: #343941; --first: #7aa7ff; --second: #f5a05a; --hit: 70 125 245;
  --miss: 225 105 35; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 0 0 .5rem; }
p { margin: .25rem 0 .75rem; color: var(--muted); max-width: 45rem; }
.facts, .cards { display: grid; gap: .75rem; margin: 0;
  grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.charts { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.facts > div, .charts > div, figure { background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .75rem; margin: 0; min-width: 0; }
dt { color: var(--muted); font-size: .85rem; }
dd { margin: 0; font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; }
svg { display: block; width: 100%; max-width: 36rem; }
svg text { fill: var(--muted); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); }
polyline { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
circle { fill: currentColor; }
.curve0 { color: var(--first); }
.curve1 { color: var(--second); }
.legend { margin: .25rem 0 0; font-size: .85rem; display: flex; gap: 1.25rem; }
.legend span::before { content: ""; display: inline-block; width: 1.2em; height: .2em;
  background: currentColor; margin-right: .4em; vertical-align: middle; }
.scroll { overflow: auto; max-height: min(52rem, 80vh); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { position: sticky; top: 0; background: var(--paper); }
th:first-child, td.text { text-align: left; overflow-wrap: anywhere; }
tbody th { font-weight: 400; }
.confusion td { border: 1px solid var(--paper); min-width: 2.4rem; text-align: center; }
.confusion thead th { text-align: center; vertical-align: bottom; position: static; }
.confusion thead th:first-child { color: var(--muted); font-weight: 400; text-align: left; }
.confusion thead span { display: inline-block; writing-mode: vertical-rl; max-height: 9rem;
  transform: rotate(180deg); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.confusion tbody th { position: sticky; left: 0; background: var(--paper); max-width: 10rem; }
.hit { background: rgb(var(--hit) / calc(var(--share) * .65)); }
.miss { background: rgb(var(--miss) / calc(var(--share) * .65)); }
.bar { min-width: 6rem; width: 12rem; }
.bar > div { height: .6rem; border-radius: .3rem; background: var(--line); overflow: hidden; }
.bar > div > div { height: 100%; width: calc(var(--share) * 100%); background: var(--first); }
.cards img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  border-radius: .25rem; }
figcaption { font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; margin-top: .5rem; }
figcaption span { color: var(--muted); display: block; }
li { overflow-wrap: anywhere; font-size: .9rem; }
"""

# No script runs and nothing is fetched, whatever a browser takes the text for.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def escape(text: object) -> str:
    """The text as one line of HTML, for elements and attributes."""
    return html.escape(printable(text, MAX_MESSAGE))


def make_page(title: str, parts: Iterable[str]) -> str:
    """A whole page of a title and parts in HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def make_section(title: str, *parts: str) -> str:
    """A part of the page with a heading; "" where it has no content."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>" if any(parts) else ""


def make_facts(facts: Mapping[str, object]) -> str:
    """Tiles of names and values."""
    tiles = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    return f'<dl class="facts">{"".join(tiles)}</dl>'


def make_table(header: Sequence[str], rows: Iterable[Sequence[str]], name: str = "rows") -> str:
    """A table of cells.

    Args:
      header: the columns' titles, escaped.
      rows: the first cell is the row's title, escaped; the others are whole `<td>` elements.
      name: the table's CSS class.
    """
    titles = "".join(f"<th>{title}</th>" for title in header)
    body = "".join(f"<tr><th>{first}</th>{''.join(cells)}</tr>" for first, *cells in rows)
    return (
        f'<div class="scroll"><table class="{name}"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
