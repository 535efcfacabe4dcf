"""The nodes of one inference over time, as an SVG fragment for the HTML report.

x is time and every node a rectangle as wide as it is long, coloured by operator; a band above says which part
of the network it belongs to. Nodes that overlap, as with the execution mode "parallel", are stacked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qutec.report.labels import escaped, fitting
from qutec.report.profile_data import NodeRow

__all__ = ["STYLE", "colour_classes", "timeline_svg"]

_WIDTH = 960
_LEFT, _RIGHT = 12, 12
_BAND_TOP, _BAND, _LANE_TOP, _LANE, _GAP = 8, 30, 46, 72, 4
_AXIS = 44
_FONT, _FONT_NARROW = 14.0, 26.0
_TICKS = 6
_NARROWEST = 0.75
"""Width of a node that is too short to be seen to scale."""
_EDGE_FROM = 4.0

_COLOURS = 8
"""Operators with a colour of their own, the costliest ones; the others share the last."""

_LIGHT = ("#8ec5f0", "#f4cf7a", "#8fd3a5", "#e7a3b5", "#b9a9e8", "#9fd8d5", "#e8b48a", "#c3cbd6")
_DARK = ("#1f5f93", "#7d5a0f", "#23703f", "#7d3349", "#55459a", "#1d6b68", "#80491c", "#4a5565")


def _variables(colours: Sequence[str]) -> str:
    return " ".join(f"--op-{index}: {colour};" for index, colour in enumerate(colours))


STYLE = f"""
:root {{ {_variables(_LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(_DARK)} }} }}
{" ".join(f".op-{i} {{ fill: var(--op-{i}); background: var(--op-{i}); }}" for i in range(_COLOURS))}
.timeline {{ display: block; width: 100%; height: auto; font: {_FONT}px system-ui, sans-serif; }}
.timeline text {{ fill: var(--ink); }}
.timeline .faint {{ fill: var(--soft); }}
.timeline .grid {{ stroke: var(--line); }}
.timeline .part {{ fill: none; stroke: var(--soft); }}
.timeline .node {{ stroke: var(--page); }}
.timeline .thin {{ stroke: none; }}
.timeline .node:hover {{ stroke: var(--ink); stroke-width: 1.5; }}
.timeline .inside {{ pointer-events: none; }}
.timeline .narrow {{ display: none; }}
@media (max-width: 640px) {{ .timeline {{ font-size: {_FONT_NARROW}px; }}
  .timeline .wide {{ display: none; }} .timeline .narrow {{ display: inline; }} }}
.bar {{ height: .9rem; min-width: 1px; border-radius: 2px }} .bars {{ min-width: 6rem; width: 40% }}
@media (max-width: 640px) {{ .bars {{ min-width: 2.5rem; width: 25% }} }}
.key {{ display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .4rem }}
"""
"""Style of everything that is coloured by operator; it needs the colours of `qutec.report.page`."""


def colour_classes(operators: Sequence[str]) -> dict[str, str]:
    """CSS class of each operator; `operators` by cost, the most first."""
    return {op: f"op-{min(index, _COLOURS - 1)}" for index, op in enumerate(operators)}


def timeline_svg(nodes: Sequence[NodeRow], operators: Sequence[str]) -> str:
    """Draw the nodes as one `<svg>` element; `operators` by cost give the colours.

    It scales with its container, from 360 to 1600 pixels. Every node has a tooltip.
    """
    end = max((node.start_us + node.us for node in nodes), default=0.0) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / end
    lanes = _lanes(nodes)
    bottom = _LANE_TOP + (max(lanes, default=0) + 1) * (_LANE + _GAP)
    classes = colour_classes(operators)
    parts = [
        f'<svg class="timeline" viewBox="0 0 {_WIDTH} {bottom + _AXIS}" xmlns="http://www.w3.org/2000/svg" '
        f'role="img" aria-label="{len(nodes)} nodes in {end:.1f} microseconds">',
        *_axis(end, scale, bottom),
        *_parts(nodes, scale),
        *_boxes(nodes, lanes, scale, classes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _lanes(nodes: Sequence[NodeRow]) -> list[int]:
    """Row of each node: the first that is free when it begins."""
    ends: list[float] = []
    lanes = []
    for node in nodes:
        # Rounding must not put a node that follows another beside it.
        free = (lane for lane, end in enumerate(ends) if end <= node.start_us + 1e-6)
        lane = next(free, len(ends))
        if lane == len(ends):
            ends.append(0.0)
        ends[lane] = node.start_us + node.us
        lanes.append(lane)
    return lanes


def _axis(end: float, scale: float, bottom: float) -> Iterator[str]:
    step = _step(end)
    count = int(end / step + 1e-9)
    for index in range(count + 1):
        x = _LEFT + index * step * scale
        anchor = "start" if index == 0 else "end" if x > _WIDTH - 60 else "middle"
        unit = " µs" if index == 0 else ""
        kind = "faint" if index % 2 == 0 else "faint wide"
        yield f'<line class="grid" x1="{x:.2f}" x2="{x:.2f}" y1="{_LANE_TOP - 4}" y2="{bottom}"/>'
        yield (
            f'<text class="{kind}" x="{x:.2f}" y="{bottom + 8}" dy="0.95em" '
            f'text-anchor="{anchor}">{index * step:g}{unit}</text>'
        )


def _step(end: float) -> float:
    """A round number of which about `_TICKS` make the end."""
    step = 1e-3
    while True:
        for factor in (1, 2, 5):
            if end / (step * factor) <= _TICKS:
                return step * factor
        step *= 10


def _parts(nodes: Sequence[NodeRow], scale: float) -> Iterator[str]:
    """A bracket over each run of nodes of one part; none where there is one part only."""
    if len({node.section for node in nodes}) < 2:
        return
    begin = 0
    for index in range(1, len(nodes) + 1):
        if index < len(nodes) and nodes[index].section == nodes[begin].section:
            continue
        last = nodes[index - 1]
        left = _LEFT + nodes[begin].start_us * scale
        width = max((last.start_us + last.us - nodes[begin].start_us) * scale, _NARROWEST)
        name = nodes[begin].section
        yield (
            f'<rect class="part" x="{left:.2f}" y="{_BAND_TOP}" width="{width:.2f}" height="{_BAND}">'
            f"<title>{escaped(name)}</title></rect>"
        )
        for size, kind in ((_FONT, "wide"), (_FONT_NARROW, "narrow")):
            label = fitting(name, width - 8, size, 3)
            if label:
                yield _label(label, left + width / 2, _BAND_TOP + _BAND / 2, kind)
        begin = index


def _boxes(
    nodes: Sequence[NodeRow], lanes: Sequence[int], scale: float, classes: dict[str, str]
) -> Iterator[str]:
    labels = []
    for node, lane in zip(nodes, lanes, strict=True):
        left, width = _LEFT + node.start_us * scale, max(node.us * scale, _NARROWEST)
        top = _LANE_TOP + lane * (_LANE + _GAP)
        thin = "" if width >= _EDGE_FROM else " thin"
        yield (
            f'<rect class="node {classes.get(node.op, f"op-{_COLOURS - 1}")}{thin}" x="{left:.2f}" y="{top}" '
            f'width="{width:.2f}" height="{_LANE}"><title>{escaped(node.name)} ({escaped(node.op)}, '
            f"{escaped(node.section)}): {node.us:.1f} µs, {node.share:.1%}</title></rect>"
        )
        for size, kind in ((_FONT, "wide"), (_FONT_NARROW, "narrow")):
            label = fitting(node.op, width - 6, size, 4)
            if label:
                labels.append(_label(label, left + width / 2, top + _LANE / 2, kind))
    yield from labels


def _label(text: str, x: float, y: float, kind: str) -> str:
    return (
        f'<text class="inside {kind}" x="{x:.2f}" y="{y:.2f}" dy="0.35em" text-anchor="middle">'
        f"{escaped(text)}</text>"
    )
