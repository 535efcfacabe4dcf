"""Where K early exits go: equally spaced along the trunk by MACs, at boundaries between blocks.

For a trunk of M MACs the exits want to be at M k / (K + 1), k = 1 .. K; among all ways to give each its own
place in order, the one with the least sum of distances is taken (dynamic programming, exact).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qutec.passes.trunk import Place

__all__ = ["assign", "spaced_targets", "spread"]


def spaced_targets(macs: int, count: int) -> list[float]:
    """The positions, in MACs, that `count` exits on a trunk of `macs` want."""
    return [macs * k / (count + 1) for k in range(1, count + 1)]


def assign(wants: Sequence[float], spots: Sequence[float]) -> list[int]:
    """For ascending `wants`, the ascending and distinct indices of `spots` that are nearest in sum.

    Requires len(wants) <= len(spots), `spots` ascending. Of equally good assignments the first in order.
    """
    infinite = float("inf")
    # best[w][s]: least cost of the first w wants on the first s spots.
    best = [[0.0] * (len(spots) + 1)] + [[infinite] * (len(spots) + 1) for _ in wants]
    for w, want in enumerate(wants, 1):
        for s, spot in enumerate(spots, 1):
            best[w][s] = min(best[w][s - 1], best[w - 1][s - 1] + abs(want - spot))
    chosen: list[int] = []
    s = len(spots)
    for w in range(len(wants), 0, -1):
        while s > w and best[w][s] == best[w][s - 1]:
            s -= 1
        chosen.append(s - 1)
        s -= 1
    return chosen[::-1]


def spread(
    places: Sequence[Place], targets: Sequence[float], taken: set[ir.Value]
) -> tuple[list[Place], str]:
    """A place for each target, and what to tell the user about it ('' where nothing).

    Block boundaries first; then also places inside depthwise-separable blocks; when even these are too
    few, places hold several exits. The end of the trunk is used only if there is no other place.

    Args:
        places: of the trunk, its end last.
        targets: wanted positions in MACs, ascending.
        taken: values that have an exit already.
    """
    before = list(places[:-1]) or list(places)
    free = [place for place in before if place.value not in taken]
    boundaries = [place for place in free if not place.inner]
    for candidates, message in (
        (boundaries, ""),
        (free, "there are fewer block boundaries than exits: some exits sit inside a separable block"),
    ):
        if len(targets) <= len(candidates):
            chosen = assign(targets, [place.macs for place in candidates])
            return [candidates[index] for index in chosen], message
    everywhere = free or before
    count = len(everywhere)
    shared = [everywhere[k * count // len(targets)] for k in range(len(targets))]
    return shared, f"the trunk has too few places ({count}) for {len(targets)} new exits: some share one"
