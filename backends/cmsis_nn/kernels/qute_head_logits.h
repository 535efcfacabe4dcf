// SPDX-License-Identifier: Apache-2.0
/* The dense layers of the heads, for a file that has defined the type `feature`. */
#ifndef QUTE_HEAD_LOGITS_H
#define QUTE_HEAD_LOGITS_H

#include "qute_kernels.h"
#include "qute_requantize.h"

/* The sum of weights * features of one row, to be defined by that file. */
static int32_t dot_product(const feature *input, int32_t offset, const int8_t *weights, int32_t count);

QUTE_INLINE void qute_head_logits(const qute_head_logits_params *params, const feature *input, int32_t *output)
{
    const int8_t *weights = params->weights;
    int32_t row = 0;
    for (int32_t head = 0; head < params->heads; head++) {
        for (int32_t i = 0; i < params->classes; i++) {
            const int32_t sum = dot_product(input, params->input_offset, weights, params->inputs);
            const int32_t left = qute_shift_left(qute_clamp(sum, -params->limit, params->limit), params->left_shift);
            const int32_t scaled = qute_doubling_high_mul(left, params->multiplier[row]);
            output[row] = qute_wrapping_add(scaled, params->bias[row]);
            weights += params->inputs;
            row++;
        }
        input += params->inputs;
    }
}

#endif
