// SPDX-License-Identifier: Apache-2.0
/* What the dense layers of the heads share. */
#ifndef QUTE_HEAD_LOGITS_H
#define QUTE_HEAD_LOGITS_H

#include "qute_kernels.h"
#include "qute_requantize.h"

/* Requantises the sums of `count` classes from `index` on and adds their biases. */
QUTE_COLD void qute_store_logits(
    const qute_head_logits_params *params, const int32_t *sums, int32_t index, int32_t count, int32_t *output)
{
#pragma GCC unroll 1
    for (; count > 0; count--) {
        int32_t sum = *sums++;
        if (sum > params->limit) {
            sum = params->limit;
        } else if (sum < -params->limit) {
            sum = -params->limit;
        }
        const int32_t scaled = qute_requantize(sum, params->multiplier[index], params->shift[index]);
        output[index] = qute_wrapping_add(scaled, params->bias[index]);
        index++;
    }
}

#endif
