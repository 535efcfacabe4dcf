// SPDX-License-Identifier: Apache-2.0
/* Depthwise convolutions with Helium. Order of accesses: one output pixel after the other, in row-major order. */
#ifndef QUTE_HELIUM_DEPTHWISE_H
#define QUTE_HELIUM_DEPTHWISE_H

#include "qute_depthwise.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All maps of a call whose channel multiplier is 1. `scratch` is aligned to 4. */
void qute_helium_depthwise_s8(const qute_depthwise *call, void *scratch);

/* Its bytes: three words a channel, for whole blocks of 16, where the taps of a window are, and a pixel of zero
 * points. */
QUTE_INLINE int32_t qute_helium_depthwise_scratch(const cmsis_nn_dims *input_dims, const cmsis_nn_dims *filter_dims)
{
    const int32_t taps = filter_dims->h * filter_dims->w;
    const int32_t blocks = (input_dims->c + 15) / 16;
    return 3 * 4 * 16 * blocks + (int32_t)sizeof(const int8_t *) * taps + input_dims->c;
}

/* All maps of a call with one input channel, which is a convolution once the filters are transposed. */
void qute_helium_depthwise_1_s8(const qute_depthwise *call, void *scratch);

/* Its bytes: those of the convolution, and the filters. */
int32_t qute_helium_depthwise_1_scratch(const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims);

/* Whether a call is one for qute_helium_depthwise_1_s8. */
QUTE_INLINE int qute_helium_depthwise_is_1(const cmsis_nn_dims *input_dims, const cmsis_nn_dims *output_dims)
{
    return input_dims->c == 1 && output_dims->c > 1;
}

#ifdef __cplusplus
}
#endif

#endif
