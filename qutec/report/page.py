"""What all HTML reports share: a self-contained page without script or network, light and dark, printable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Fact", "bar", "page", "table"]

Fact = tuple[str, str, str]
"""Term, value and a note below it."""

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --page: #fff; --warn: #9a3412; --bar: #cfe3f7 }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --page: #0d1117; --warn: #fdba74;
    --bar: #1f4464 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 1200px; margin: 0 auto; padding: 1.5rem 1rem }
h1 { font-size: 1.4rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
h1, h2, dd, .warn { overflow-wrap: anywhere }
.soft { color: var(--soft); overflow-wrap: anywhere } .warn { color: var(--warn); font-weight: 600 }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .75rem 1.5rem }
dt { color: var(--soft); font-size: .85rem } dd { margin: 0; font-size: 1.15rem;
  font-variant-numeric: tabular-nums }
dd small { display: block; color: var(--soft); font-size: .8rem }
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--page) 1rem, transparent) left / 2rem 100% no-repeat local,
  linear-gradient(to left, var(--page) 1rem, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(to right, var(--line), transparent) left / .6rem 100% no-repeat scroll,
  linear-gradient(to left, var(--line), transparent) right / .6rem 100% no-repeat scroll }
table { border-collapse: collapse; width: 100%; font-variant-numeric:
  tabular-nums }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left; max-width: 24rem; overflow: hidden;
  text-overflow: ellipsis }
.texts-2 th:nth-child(2), .texts-2 td:nth-child(2), .texts-3 th:nth-child(-n+3), .texts-3 td:nth-child(-n+3)
  { text-align: left }
.bar { display: block; min-width: 7rem; padding: 0 .3rem;
  background: linear-gradient(to left, var(--bar) var(--part), transparent var(--part)) }
@media (max-width: 1000px) { th:first-child, td:first-child { max-width: 14rem } }
@media (max-width: 640px) { table { font-size: .8rem }
  th, td { padding: .3rem .25rem } th { white-space: normal }
  th:first-child, td:first-child { max-width: 6.5rem } .bar { min-width: 4.5rem } }
@media print { body { max-width: none; padding: 0 } .scroll { overflow: visible; background: none }
  table { font-size: .7rem } th, td { padding: .15rem .25rem }
  th:first-child, td:first-child { max-width: 11rem } .bar { min-width: 4rem }
  tr, svg, dl > div { break-inside: avoid } h2 { break-after: avoid }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
svg { max-width: 100%; height: auto }
"""


def bar(value: int, whole: int) -> str:
    """A number for a table's cell, over a bar that is its part of a whole."""
    part = min(value / max(whole, 1), 1.0)
    return f'<span class="bar" style="--part: {part:.1%}">{value:,}</span>'


def page(
    title: str, subtitle: str, warnings: Iterable[str], facts: Iterable[Fact], sections: Iterable[str]
) -> str:
    """A page with a heading, warnings, facts side by side, and sections of HTML below them.

    All texts are escaped but the sections, which are HTML already.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(subtitle)}</p>',
        *(f'<p class="warn">{escape(warning)}</p>' for warning in warnings),
        "<dl>",
        *(
            f"<div><dt>{escape(term)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
            for term, value, note in facts
        ),
        "</dl>",
        *sections,
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1, name: str = "") -> str:
    """A table that scrolls sideways where it is too wide.

    Cells are HTML; the first `texts` columns are words and the others numbers; `name` is the table's id.
    """
    identity = f' id="{escape(name, quote=True)}"' if name else ""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return "\n".join(
        [
            f'<div class="scroll"><table{identity} class="texts-{texts}"><thead><tr>{head}</tr></thead>',
            "<tbody>",
            *body,
            "</tbody></table></div>",
        ]
    )
