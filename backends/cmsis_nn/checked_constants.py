"""What the kernels of convolutions look through the constants of a call for, decided once and for all.

A kernel that is called for a whole map does that itself. One that is called for each row of it would do so
again and again, so row calls say that it has been done (QUTE_CHECKED_CONSTANTS of kernels/qute_scaling.h).
"""

from __future__ import annotations

import numpy as np

from qutec.program import Conv2D, DepthwiseConv2D

__all__ = ["CHECKED_CONSTANTS", "can_scale"]

CHECKED_CONSTANTS = -1
"""`bias_dims->n` of a call that `can_scale`."""
_HALF = 1 << 29
"""Half of what a sum may be: that much for the bias, and for the products."""
_LARGEST_PRODUCT = 255 * 128
_MOST_RIGHT = 22
"""By how many bits a depthwise kernel shifts to the right in one step."""


def can_scale(call: Conv2D | DepthwiseConv2D) -> bool:
    """Whether all channels can be requantised in the short form of kernels/qute_scaling.h."""
    if isinstance(call, DepthwiseConv2D):
        terms = int(np.prod(call.weights.shape[:2]))
        # Convolutions look at the shift of each channel when they come to it.
        if not np.all((call.shift < 0) & (call.shift >= -_MOST_RIGHT)):
            return False
    else:
        terms = int(np.prod(call.weights.shape[1:]))
    biases_fit = np.all((call.bias >= -_HALF) & (call.bias < _HALF))
    return bool(biases_fit and np.all(call.multiplier >= 0) and terms <= _HALF // _LARGEST_PRODUCT)
