"""Other ways to compile a network that does not fit: options, and boards with more memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx_ir as ir

from qutec.exits import ExitOptions, choose_exits
from qutec.finish import finish
from qutec.misfit import Variant
from qutec.optimize import Optimize
from qutec.quantize import quantize
from qutec.report import Report
from qutec.stages import CompileOptions, LoweredNetwork, lowered, plan_within
from qutec.targets import Target, target, target_names

__all__ = ["boards", "other_options"]

_PLAN_SECONDS = 0.5
"""The planner's search for each way that is tried: there are many, and whoever is told of them is waiting."""


def other_options(
    network: LoweredNetwork, options: CompileOptions, sram_budget: int | None, flash_budget: int | None
) -> Iterator[Variant]:
    """Options that may make the network smaller, for a network that does not fit."""
    options = _quick(options)

    def compiled(network: LoweredNetwork, options: CompileOptions) -> Report:
        plan = plan_within(network.program, options, sram_budget)
        return finish(network, plan, options, sram_budget, flash_budget).report

    if options.optimize is not Optimize.SRAM:
        yield "--optimize sram", lambda: compiled(network, replace(options, optimize=Optimize.SRAM))
    if options.optimize is not Optimize.FLASH:
        yield "--optimize flash", lambda: compiled(network, replace(options, optimize=Optimize.FLASH))
    if not options.stream_input and not options.keep_input and not options.pin:
        yield "--stream-input", lambda: compiled(*_streamed(network, options))
        if options.optimize is not Optimize.SRAM:
            smallest = replace(options, optimize=Optimize.SRAM)
            yield "--optimize sram --stream-input", lambda: compiled(*_streamed(network, smallest))
    if options.keep_input:
        yield "without --keep-input", lambda: compiled(network, replace(options, keep_input=False))
    if network.base is not None and len(network.members) == 1 and options.exits.mode != "final":
        alone = ExitOptions("final", temperature=options.exits.temperature)
        # Passes change the model that they are given.
        base = replace(network.loaded, model=ir.from_proto(ir.to_proto(network.base)))
        loaded = choose_exits(base, alone).loaded
        quantized = quantize(loaded.model, network.calibration, options.method)
        program = lowered(quantized, network.program.name, options)
        final = replace(network, loaded=loaded, heads=(), base=None, quantized=quantized, program=program)
        yield "--exits final", lambda: compiled(final, options)


def _quick(options: CompileOptions) -> CompileOptions:
    return replace(options, plan_seconds=min(options.plan_seconds, _PLAN_SECONDS))


def _streamed(network: LoweredNetwork, options: CompileOptions) -> tuple[LoweredNetwork, CompileOptions]:
    """The network with its input handed in by rows. Raises UnsupportedModelError where that cannot be."""
    options = replace(options, stream_input=True)
    program = lowered(network.quantized, network.program.name, options)
    return replace(network, program=program), options


def boards(network: LoweredNetwork, options: CompileOptions) -> Iterator[Variant]:
    """The network on boards, those with the least SRAM first."""
    options = _quick(options)
    known = (target(name) for name in target_names())
    for board in sorted((b for b in known if b.sram_bytes), key=lambda b: (b.sram_bytes, b.flash_bytes)):

        def compiled(board: Target = board) -> Report:
            there = replace(options, target=board)
            program = lowered(network.quantized, network.program.name, there)
            plan = plan_within(program, there, board.sram_bytes)
            moved = replace(network, program=program)
            return finish(moved, plan, there, board.sram_bytes, board.flash_bytes).report

        yield f"--target {board.name}", compiled
