"""What is inside a region that runs row by row: what it keeps of each map, and where in the arena."""

from __future__ import annotations

from collections.abc import Iterator

from qutec.planner import Plan
from qutec.program import Program, RowRegion
from qutec.program.row_layout import row_layout
from qutec.report.data import RegionReport, RowPart

__all__ = ["region_reports"]


def region_reports(program: Program, plan: Plan) -> tuple[RegionReport, ...]:
    """One for each region of a program in the plan's order."""
    return tuple(
        RegionReport(index, tuple(one.name for one in call.calls), tuple(_parts(call, start or 0)))
        for index, (call, start) in enumerate(zip(program.calls, plan.scratch_offsets, strict=True))
        if isinstance(call, RowRegion)
    )


def _parts(region: RowRegion, start: int) -> Iterator[RowPart]:
    """The parts of a region's scratch, `start` bytes into the arena, layer by layer."""
    layout = row_layout(region)
    for number, stage in enumerate(layout.schedule.stages):
        name = stage.call.output.buffer
        held = layout.schedule.held.get(name)
        if held is not None:
            place = layout.rows.get(name)
            kind = "in place" if held.within else "passing row" if held.passing else "rows"
            size = 0 if held.within else held.rows * stage.row_bytes
            offset = None if place is None else start + place
            yield RowPart(stage.call.name, kind, held.rows, stage.rows, size, offset)
        if (place := layout.sums[number]) is not None:
            yield RowPart(stage.call.name, "sums", None, None, stage.sums_bytes, start + place)
        place, size = layout.scratch[number]
        if place is not None and size:
            yield RowPart(stage.call.name, "scratch", None, None, size, start + place)
