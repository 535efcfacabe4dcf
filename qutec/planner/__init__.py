"""The memory planner: where every buffer and scratch area of a program lives in one arena.

`problem` states what must be placed, `first_fit` places it, `validate` replays the program on the result
without knowing how it was found, `misfit` explains a result that is too large.
"""

from qutec.planner.arena import plan_program
from qutec.planner.first_fit import SearchLimits
from qutec.planner.misfit import explain_misfit
from qutec.planner.plan import Alignment, Allocation, Plan, PlanError
from qutec.planner.validate import validate_plan

__all__ = [
    "Alignment",
    "Allocation",
    "Plan",
    "PlanError",
    "SearchLimits",
    "explain_misfit",
    "plan_program",
    "validate_plan",
]
