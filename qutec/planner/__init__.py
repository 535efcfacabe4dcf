"""The memory planner: in which order the calls of a program run, and where everything lives in one arena.

`access` states in which order kernels read and write, `overlap` how near an output may come to an input.
`flow` is a program without its order, `schedule` finds the order, `problem` states what must be placed
then, `first_fit` and `exact` place it, `network` puts it all together, and adds moves; `spare` gives
kernels what is left. `input_rows` takes an input in row by row. `validate` replays the program on the
result without knowing how it was found, `misfit` explains a result that is too large.
"""

from qutec.planner.access import AccessOrder, access_order, is_pointwise
from qutec.planner.arena import DEFAULT_PLAN_SECONDS, plan_program
from qutec.planner.effort import Effort
from qutec.planner.flow import Sharing
from qutec.planner.input_rows import with_input_rows
from qutec.planner.misfit import explain_misfit
from qutec.planner.network import LAYERWISE, Goal, PlannedNetwork, plan_network
from qutec.planner.overlap import Overlap, pointwise_block, safe_overlap
from qutec.planner.plan import Alignment, Allocation, PinError, Plan, PlanError, Scope, Technique
from qutec.planner.spare import with_spare_row_scratch, with_spare_scratch
from qutec.planner.validate import validate_plan

__all__ = [
    "DEFAULT_PLAN_SECONDS",
    "LAYERWISE",
    "AccessOrder",
    "Alignment",
    "Allocation",
    "Effort",
    "Goal",
    "Overlap",
    "PinError",
    "Plan",
    "PlanError",
    "PlannedNetwork",
    "Scope",
    "Sharing",
    "Technique",
    "access_order",
    "explain_misfit",
    "is_pointwise",
    "plan_network",
    "plan_program",
    "pointwise_block",
    "safe_overlap",
    "validate_plan",
    "with_input_rows",
    "with_spare_row_scratch",
    "with_spare_scratch",
]
