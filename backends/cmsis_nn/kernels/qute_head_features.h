// SPDX-License-Identifier: Apache-2.0
/* What the kernels of pooled features share. */
#ifndef QUTE_HEAD_FEATURES_H
#define QUTE_HEAD_FEATURES_H

#include "qute_kernels.h"
#include "qute_requantize.h"

/* `value`, unknown to the compiler: it makes no copy of a loop for a step of 1. */
QUTE_INLINE int32_t qute_any(int32_t value)
{
#if defined(__GNUC__)
    __asm__("" : "+r"(value));
#endif
    return value;
}

/* Sums over all output pixels as `count` features, from `index` (head * channels + channel) on, `step` apart. */
QUTE_COLD void qute_store_features(const qute_head_features *features,
                                   const int32_t *sums,
                                   int32_t count,
                                   int32_t index,
                                   int32_t step,
                                   int16_t *output)
{
    while (--count >= 0) {
        const int32_t scaled = (int32_t)(((int64_t)*sums++ * features->multiplier[index]) >> 16);
        const int32_t rounded = ((scaled >> (features->shift - 1)) + 1) >> 1;
        output[index] = (int16_t)qute_clamp(rounded, INT16_MIN, INT16_MAX);
        index += step;
    }
}

#endif
