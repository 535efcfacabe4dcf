// SPDX-License-Identifier: Apache-2.0
/* What the dense layers of the heads share. */
#ifndef QUTE_HEAD_LOGITS_H
#define QUTE_HEAD_LOGITS_H

#include "qute_kernels.h"
#include "qute_requantize.h"

/* Classes that share the loads of their features. */
#define QUTE_LOGIT_ROWS 3

QUTE_INLINE int32_t qute_logit(const qute_head_logits_params *params, int32_t sum, int32_t index)
{
    const int32_t scaled = qute_requantize(sum, params->multiplier[index], params->shift[index]);
    return qute_wrapping_add(scaled, params->bias[index]);
}

#endif
