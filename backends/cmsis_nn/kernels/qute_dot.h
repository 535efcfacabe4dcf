// SPDX-License-Identifier: Apache-2.0
/* One input vector times rows of weights: fully connected layers, and pixels of deep 1x1 kernels on their own. */
#ifndef QUTE_DOT_H
#define QUTE_DOT_H

#include "qute_intrinsics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Row r has the weights from r * depth on, bias[r], and multiplier and shift [r * scaling_step]. */
typedef struct {
    const int8_t *weights;
    int32_t depth;
    int32_t rows;
    int32_t input_offset;
    int32_t common; /* added to the sum of every row */
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t scaling_step;
    int32_t output_offset;
    int16_t *widened; /* aligned to 4, with room for this number of values: of the input, widened once for all rows */
    int32_t room;
} qute_dot_layer;

/* An output for each row, saturated. Fastest without an input offset, everything aligned to 4, depth a multiple of 8, and
 * room for all values. */
void qute_dot_s8(const qute_dot_layer *layer, const int8_t *x, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
