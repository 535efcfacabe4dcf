"""Accuracy of the exits over their cost, as an SVG fragment for the HTML report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qutec.report.labels import escaped
from qutec.report.profile_data import ExitCost

__all__ = ["trade_off_svg"]

_WIDTH, _HEIGHT = 960, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 20, 60
_STEP = 0.05

_STYLE = """
.trade-off { display: block; width: 100%; height: auto; font: 14px system-ui, sans-serif; }
.trade-off text { fill: var(--ink); } .trade-off .faint { fill: var(--soft); }
.trade-off .grid { stroke: var(--line); } .trade-off circle { fill: var(--op-0); stroke: var(--ink); }
@media (max-width: 640px) { .trade-off { font-size: 26px; } }
"""


def trade_off_svg(exits: Sequence[ExitCost]) -> str:
    """A point for each exit whose time and accuracy are known; nothing where there are not two of them."""
    known = [(item.name, item.us, item.accuracy) for item in exits]
    points = [(name, us, accuracy) for name, us, accuracy in known if us is not None and accuracy is not None]
    if len(points) < 2:
        return ""
    most = max(us for _, us, _ in points) * 1.15 or 1.0
    low = math.floor(min(accuracy for _, _, accuracy in points) / _STEP - 0.5) * _STEP
    high = math.ceil(max(accuracy for _, _, accuracy in points) / _STEP + 0.5) * _STEP
    low, high = max(low, 0.0), min(high, 1.0) if low < 1.0 else 1.05
    parts = [
        f'<svg class="trade-off" viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg" '
        'role="img" aria-label="accuracy of the exits over their time">',
        f"<style>{_STYLE}</style>",
    ]

    right = _WIDTH - _RIGHT

    def y(accuracy: float) -> float:
        return _TOP + (high - accuracy) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    for index in range(3):
        level = low + (high - low) * index / 2
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(level):.2f}" y2="{y(level):.2f}"/>'
            f'<text class="faint" x="{_LEFT - 8}" y="{y(level):.2f}" dy="0.35em" text-anchor="end">'
            f"{level:.0%}</text>"
        )
    for index in range(1, 4):
        us = most * index / 4
        x = _LEFT + us / most * (_WIDTH - _LEFT - _RIGHT)
        parts.append(
            f'<text class="faint" x="{x:.2f}" y="{_HEIGHT - _BOTTOM + 12}" dy="0.95em" text-anchor="middle">'
            f"{us:,.0f} µs</text>"
        )
    for name, us, accuracy in points:
        x = _LEFT + us / most * (_WIDTH - _LEFT - _RIGHT)
        beside = "end" if x > _WIDTH / 2 else "start"
        shift = -14 if beside == "end" else 14
        label = escaped(name)
        parts.append(
            f'<circle cx="{x:.2f}" cy="{y(accuracy):.2f}" r="7"><title>{label}: {us:,.1f} µs, '
            f"{accuracy:.1%}</title></circle>"
            f'<text x="{x + shift:.2f}" y="{y(accuracy):.2f}" dy="0.35em" '
            f'text-anchor="{beside}">{label}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
