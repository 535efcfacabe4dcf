"""The arena over time: as an SVG fragment for the HTML report, as a bar chart for the terminal.

In the map, x is the index of the call and y the byte in the arena, so a buffer is a rectangle: as wide as
its life, as high as its size. A rectangle that begins in the middle of a column takes over bytes of one that
ends there. The column of a region is the wider the more layers run in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from qutec.planner import Allocation, Plan
from qutec.report.data import RegionReport
from qutec.report.labels import CHARACTER, escaped, plain, shortened

__all__ = ["arena_svg", "arena_text"]

# User units of the SVG. The text is larger on narrow screens, where a unit is less than half a pixel.
_WIDTH, _HEIGHT = 960, 540
_LEFT, _RIGHT, _TOP, _BOTTOM = 104, 16, 64, 96
_FONT, _FONT_NARROW = 14.0, 26.0
_FEWEST_CHARACTERS = 3
_END_COLUMN = 0.5
"""Width of the caller's columns, before the first and after the last call, over that of a call."""
_LAYERS_PER_COLUMN = 4
"""Layers of a region for which its column is one column wider."""
_TICKS = 5
_LOWEST_BOX = 4.0
"""Height of the box of a buffer that is too small to be seen to scale."""

_PART_KINDS = {"rows": "rows", "passing row": "rows passing", "sums": "rows", "scratch": "scratch"}

_STYLE = f"""
.arena-map {{ display: block; width: 100%; height: auto; font: {_FONT}px system-ui, sans-serif;
  --arena-ink: #1c2430; --arena-faint: #5b6675; --arena-grid: #dfe4ea; --arena-edge: #ffffff;
  --arena-peak: #b3261e; --arena-band: #fbe9e7; --arena-on-fill: #10161e;
  --arena-input: #8ec5f0; --arena-output: #8fd3a5; --arena-internal: #c3cbd6; --arena-scratch: #f4cf7a;
  --arena-rows: #c9b6ea; }}
@media screen and (prefers-color-scheme: dark) {{ .arena-map {{
  --arena-ink: #e6eaf0; --arena-faint: #9aa6b5; --arena-grid: #313a46; --arena-edge: #12161c;
  --arena-peak: #ff8a80; --arena-band: #3a2323; --arena-on-fill: #f2f5f9;
  --arena-input: #1f5f93; --arena-output: #23703f; --arena-internal: #4a5565; --arena-scratch: #7d5a0f;
  --arena-rows: #5d4690; }} }}
.arena-map text {{ fill: var(--arena-ink); }}
.arena-map .faint {{ fill: var(--arena-faint); }}
.arena-map .grid {{ stroke: var(--arena-grid); }}
.arena-map .band {{ fill: var(--arena-band); }}
.arena-map .hit {{ fill: transparent; }}
.arena-map .box {{ stroke: var(--arena-edge); stroke-width: 1.5; }}
.arena-map .input {{ fill: var(--arena-input); }}
.arena-map .output {{ fill: var(--arena-output); }}
.arena-map .internal {{ fill: var(--arena-internal); }}
.arena-map .scratch {{ fill: var(--arena-scratch); stroke-dasharray: 4 3; }}
.arena-map .rows {{ fill: var(--arena-rows); }}
.arena-map .part {{ stroke: var(--arena-edge); stroke-width: 1; }}
.arena-map .part.passing {{ fill-opacity: 0.55; }}
.arena-map .flat {{ stroke: none; }}
.arena-map .box:hover {{ stroke: var(--arena-ink); }}
.arena-map text.name {{ fill: var(--arena-on-fill); pointer-events: none; }}
.arena-map .size {{ stroke: var(--arena-peak); stroke-width: 2; }}
.arena-map text.peak {{ fill: var(--arena-peak); font-weight: 600; }}
.arena-map .bound {{ stroke: var(--arena-ink); stroke-width: 1.5; stroke-dasharray: 7 5; }}
.arena-map .narrow {{ display: none; }}
@media (max-width: 640px) {{
  .arena-map {{ font-size: {_FONT_NARROW}px; }}
  .arena-map .wide {{ display: none; }}
  .arena-map .narrow {{ display: inline; }} }}
"""


@dataclass(frozen=True)
class _Scale:
    """From calls and bytes to user units."""

    edges: tuple[float, ...]
    """Left edges of the calls, and the right edge of the last, counted in columns of plain calls."""
    top_bytes: int

    @property
    def calls(self) -> int:
        return len(self.edges) - 1

    @property
    def column(self) -> float:
        """Width of a plain call's column."""
        return (_WIDTH - _LEFT - _RIGHT) / (self.edges[-1] + 2 * _END_COLUMN)

    def width(self, call: int) -> float:
        """Of a call's column."""
        return self.x(call + 1) - self.x(call)

    def x(self, call: float) -> float:
        """Left edge of a call's column; `calls` is the right edge of the last one."""
        if not 0 <= call < self.calls:
            beyond = min(max(call, -_END_COLUMN), self.calls + _END_COLUMN)
            place = beyond if call < 0 else self.edges[-1] + beyond - self.calls
        else:
            left, right = self.edges[int(call)], self.edges[int(call) + 1]
            place = left + (call - int(call)) * (right - left)
        return _LEFT + (_END_COLUMN + place) * self.column

    def y(self, byte: float) -> float:
        return _HEIGHT - _BOTTOM - byte / max(self.top_bytes, 1) * (_HEIGHT - _TOP - _BOTTOM)


def _scale(calls: int, top_bytes: int, regions: Sequence[RegionReport]) -> _Scale:
    layers = {region.layer: len(region.layers) for region in regions}
    widths = (1 + layers.get(call, 0) / _LAYERS_PER_COLUMN for call in range(calls))
    return _Scale(tuple(accumulate(widths, initial=0.0)), top_bytes)


def arena_svg(
    plan: Plan,
    layer_names: Sequence[str],
    *,
    scale_bytes: int | None = None,
    regions: Sequence[RegionReport] = (),
) -> str:
    """Draw a plan as one self-contained `<svg>` element for the body of an HTML page.

    `layer_names[i]` is the name of call i; `scale_bytes` is what the full height stands for, the plan's own
    arena by default; `regions` are shown with what is inside. It scales with its
    container, from 360 to 1600 pixels; colours are the CSS custom properties `--arena-*`, which follow the
    system's light or dark scheme and are light in print, and which a page may set on the class `arena-map`.
    Every rectangle and column has a tooltip.

    Raises:
        ValueError: the number of names is not the number of calls.
    """
    _check_names(plan, layer_names)
    scale = _scale(len(plan.live_bytes), max(scale_bytes or 0, plan.arena_bytes), regions)
    parts = [
        f'<svg class="arena-map" viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg" '
        f'role="img" aria-label="{escaped(_summary(plan))}">',
        f"<style>{_STYLE}</style>",
        *_columns(plan, layer_names, scale),
        *_byte_axis(plan, scale),
        *_boxes(plan, layer_names, scale, regions),
        *_region_parts(regions, scale),
        *_call_axis(scale),
        *_size_lines(plan, layer_names, scale),
        *_legend(plan, regions),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def arena_text(plan: Plan, layer_names: Sequence[str], width: int) -> str:
    """A bar for each call, as long as its live bytes, with the arena's size and bound below.

    `width` is that of the terminal in characters; lines are no longer, but never cut below 40. ASCII
    but for the names, one line break at the end.

    Raises:
        ValueError: the number of names is not the number of calls.
    """
    _check_names(plan, layer_names)
    width = max(width, 40)
    names = [plain(name) for name in layer_names]
    column = min(max(map(len, names), default=0), width // 3)
    digits = len(str(max(plan.live_bytes, default=0)))
    room = width - column - digits - len("    <- peak")
    peaks = set(plan.peak_calls)
    lines = []
    for i, (name, live) in enumerate(zip(names, plan.live_bytes, strict=True)):
        bar = "#" * round(room * live / max(plan.arena_bytes, 1))
        mark = " <- peak" if i in peaks else ""
        lines.append(f"{shortened(name, column):<{column}}  {live:>{digits}} {bar}{mark}".rstrip())
    return "\n".join([*lines, *_wrapped(_summary(plan), width)]) + "\n"


def _check_names(plan: Plan, layer_names: Sequence[str]) -> None:
    if len(layer_names) != len(plan.live_bytes):
        raise ValueError(f"{len(layer_names)} layer names for {len(plan.live_bytes)} calls")


def _summary(plan: Plan) -> str:
    if plan.optimal:
        return f"Arena {plan.arena_bytes} bytes, equal to the lower bound: proven smallest"
    gap = 100 * (plan.arena_bytes / plan.lower_bound_bytes - 1) if plan.lower_bound_bytes else 0.0
    return f"Arena {plan.arena_bytes} bytes, lower bound {plan.lower_bound_bytes} bytes: gap {gap:.1f} %"


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".lstrip()
    yield line


def _columns(plan: Plan, layer_names: Sequence[str], scale: _Scale) -> Iterator[str]:
    """The calls behind the boxes: a tooltip each, and a band where most bytes are live."""
    peaks = set(plan.peak_calls)
    for i, (name, live) in enumerate(zip(layer_names, plan.live_bytes, strict=True)):
        kind = "band" if i in peaks else "hit"
        yield (
            f'<rect class="{kind}" x="{scale.x(i):.2f}" y="{_TOP}" width="{scale.width(i):.2f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"><title>call {i}: {escaped(name)}, {live} bytes live'
            f"{', the peak' if i in peaks else ''}</title></rect>"
        )


def _byte_axis(plan: Plan, scale: _Scale) -> Iterator[str]:
    for byte in _ticks(scale.top_bytes):
        y = scale.y(byte)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.2f}" y2="{y:.2f}"/>'
        yield (
            f'<text class="faint" x="{_LEFT - 8}" y="{y:.2f}" dy="0.35em" text-anchor="end">'
            f"{_size(byte)}</text>"
        )


def _ticks(top: int) -> range:
    """Round numbers of bytes, powers of two times 1 or 1024, about `_TICKS` of them."""
    step = 1
    while top // step > _TICKS:
        step *= 2
    return range(0, top + 1, step)


def _size(count: int) -> str:
    return f"{count // 1024} KiB" if count and count % 1024 == 0 else f"{count} B"


def _call_axis(scale: _Scale) -> Iterator[str]:
    """Numbers below the columns, as many as the larger text has room for."""
    y = _HEIGHT - _BOTTOM + 10
    yield f'<text class="faint" x="{_LEFT - 8}" y="{y}" dy="0.95em" text-anchor="end">call</text>'
    step = 1
    for candidate in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000):
        step = candidate
        if candidate * scale.column >= _FONT_NARROW * CHARACTER * (len(str(scale.calls)) + 1):
            break
    for i in range(0, scale.calls, step):
        middle = scale.x(i) + scale.width(i) / 2
        yield f'<text class="faint" x="{middle:.2f}" y="{y}" dy="0.95em" text-anchor="middle">{i}</text>'


def _kind(allocation: Allocation, calls: int) -> str:
    if allocation.scratch_of is not None:
        return "scratch"
    if allocation.last_use == calls:
        return "output"
    return "input" if allocation.first_use < 0 else "internal"


def _boxes(
    plan: Plan, layer_names: Sequence[str], scale: _Scale, regions: Sequence[RegionReport]
) -> Iterator[str]:
    """Boxes first and names on top, so that a name is never behind a neighbour's edge.

    Nor behind the rows of a region, which lie on inputs that end with it: there it is left of them.
    """
    with_rows = {region.layer for region in regions}
    continued, continues = _hand_overs(plan)
    labels: list[str] = []
    for a in plan.allocations:
        if not a.bytes:
            continue
        left = scale.x(a.first_use + 0.5 * (a.name in continues))
        right = scale.x(a.last_use + 1 - 0.5 * (a.name in continued))
        bottom = scale.y(a.offset)
        height = bottom - scale.y(a.offset + a.bytes)
        kind = _kind(a, scale.calls) + (" flat" if height < _LOWEST_BOX else "")
        height = max(height, _LOWEST_BOX)
        yield (
            f'<rect class="box {kind}" x="{left:.2f}" y="{bottom - height:.2f}" width="{right - left:.2f}" '
            f'height="{height:.2f}"><title>{_tooltip(a, layer_names)}</title></rect>'
        )
        name, fewest = (a.name, _FEWEST_CHARACTERS) if a.scratch_of is None else ("scratch", 7)
        if a.scratch_of in with_rows:
            continue
        if a.last_use in with_rows and a.first_use < a.last_use:
            right = scale.x(a.last_use)
        for size, label_class in ((_FONT, "wide"), (_FONT_NARROW, "narrow")):
            labels += _box_label(name, fewest, label_class, size, (left, right, bottom - height, bottom))
    yield from labels


def _region_parts(regions: Sequence[RegionReport], scale: _Scale) -> Iterator[str]:
    """What a region holds, within the box of its scratch; parts that take turns lie side by side."""
    labels: list[str] = []
    for region in regions:
        placed = [(part, part.offset) for part in region.parts if part.offset is not None and part.bytes]
        for i, (part, offset) in enumerate(placed):
            over = [
                k
                for k, (other, start) in enumerate(placed)
                if offset < start + other.bytes and start < offset + part.bytes
            ]
            width = scale.width(region.layer) / len(over)
            left = scale.x(region.layer) + over.index(i) * width
            bottom, top = scale.y(offset), scale.y(offset + part.bytes)
            kind = _PART_KINDS[part.kind] + (" flat" if bottom - top < _LOWEST_BOX else "")
            held = "" if part.rows_held is None else f"{part.rows_held} of {part.rows} rows, "
            yield (
                f'<rect class="part {kind}" x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" '
                f'height="{bottom - top:.2f}"><title>{escaped(part.layer)}: {part.kind}, {held}'
                f"{part.bytes} bytes at {offset}</title></rect>"
            )
            text = f"{part.rows_held}/{part.rows} rows" if part.kind == "rows" else part.kind
            for size, label_class in ((_FONT, "wide"), (_FONT_NARROW, "narrow")):
                box = (left, left + width, top, bottom)
                labels += _box_label(text, len(text), label_class, size, box)
    yield from labels


def _hand_overs(plan: Plan) -> tuple[set[str], set[str]]:
    """The buffers that end where another begins on some of their bytes, and those others."""
    buffers = [a for a in plan.allocations if a.scratch_of is None and a.bytes]
    beginning: dict[int, list[Allocation]] = {}
    for a in buffers:
        beginning.setdefault(a.first_use, []).append(a)
    continued, continues = set(), set()
    for a in buffers:
        for b in beginning.get(a.last_use, ()) if a.first_use < a.last_use else ():
            if a.offset < b.offset + b.bytes and b.offset < a.offset + a.bytes:
                continued.add(a.name)
                continues.add(b.name)
    return continued, continues


def _tooltip(allocation: Allocation, layer_names: Sequence[str]) -> str:
    def when(time: int) -> str:
        if time < 0:
            return "the caller's input"
        return f"call {time} ({layer_names[time]})" if time < len(layer_names) else "the caller's output"

    first, last = when(allocation.first_use), when(allocation.last_use)
    life = first if first == last else f"{first} to {last}"
    return escaped(f"{allocation.name}: {allocation.bytes} bytes at {allocation.offset}, {life}")


def _box_label(
    name: str, fewest: int, label_class: str, size: float, box: tuple[float, float, float, float]
) -> Iterator[str]:
    """The name inside its box, along the longer side; nothing when fewer than `fewest` characters fit."""
    left, right, top, bottom = box
    upright = right - left < bottom - top and (right - left) < len(name) * size * CHARACTER
    length, depth = (bottom - top, right - left) if upright else (right - left, bottom - top)
    characters = int((length - 4) / (size * CHARACTER))
    if depth < 1.15 * size or characters < min(fewest, len(name)):
        return
    x, y = (left + right) / 2, (top + bottom) / 2
    turn = f' transform="rotate(-90 {x:.2f} {y:.2f})"' if upright else ""
    yield (
        f'<text class="name {label_class}" x="{x:.2f}" y="{y:.2f}" dy="0.35em" text-anchor="middle"{turn}>'
        f"{escaped(shortened(name, characters))}</text>"
    )


def _size_lines(plan: Plan, layer_names: Sequence[str], scale: _Scale) -> Iterator[str]:
    """The arena's size, which the search reached, and the bound that no placement can beat."""
    for value, line in ((plan.arena_bytes, "size"), (plan.lower_bound_bytes, "bound")):
        if line == "bound" and plan.optimal:
            continue
        y = scale.y(value)
        yield f'<line class="{line}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.2f}" y2="{y:.2f}"/>'
    short = f"{plan.arena_bytes} B, " + ("optimal" if plan.optimal else f"bound {plan.lower_bound_bytes} B")
    long = _summary(plan)
    if plan.peak_calls:
        call = plan.peak_calls[0]
        long += f"; peak at call {call}"
        # Bold text is about a tenth wider.
        room = int((_WIDTH - _LEFT) / (1.1 * _FONT * CHARACTER)) - len(long) - len(", ")
        if room >= _FEWEST_CHARACTERS:
            long += f", {shortened(plain(layer_names[call]), room)}"
    yield f'<text class="peak wide" x="{_LEFT}" y="{_TOP - 14}">{escaped(long)}</text>'
    yield f'<text class="peak narrow" x="{_LEFT}" y="{_TOP - 14}">{escaped(short)}</text>'


def _legend(plan: Plan, regions: Sequence[RegionReport]) -> Iterator[str]:
    """One row of what there is, spaced for the larger text."""
    found = {_kind(a, len(plan.live_bytes)) for a in plan.allocations if a.bytes}
    found |= {_PART_KINDS.get(part.kind, "").split(" ")[0] for region in regions for part in region.parts}
    y = _HEIGHT - 22
    shown = [kind for kind in ("input", "internal", "output", "scratch", "rows") if kind in found]
    for i, kind in enumerate(shown):
        x = _LEFT + i * 170
        yield f'<rect class="box {kind}" x="{x}" y="{y - 20}" width="24" height="24"/>'
        yield f'<text x="{x + 34}" y="{y - 8}" dy="0.35em">{kind}</text>'
