// SPDX-License-Identifier: Apache-2.0
/* Convolutions with Helium: filters times the windows of up to three output pixels.
 *
 * Three pixels times two channels take six accumulators, which is what the seven even registers that VMLADAVA can add
 * to and five pointers leave room for: 96 products in 12 instructions. All channels of three pixels are computed, in
 * blocks, before the next three: order of accesses as in qute_convolve.h, with three pixels in place of two. */
#ifndef QUTE_HELIUM_PRODUCT_H
#define QUTE_HELIUM_PRODUCT_H

#include "qute_convolve.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pixels that are computed side by side. */
#define QUTE_HELIUM_PIXELS 3

/* What windows of `depth` bytes are multiplied with: filters [count][depth], and how the sums become output. Sums begin
 * at `base` (NULL: 0), to which input_offset times the sum of a filter is added. Arrays begin at the first of `count`
 * channels; outputs of neighbouring pixels lie `pixel_step` bytes apart. */
typedef struct {
    const int8_t *weights;
    int32_t depth;
    int32_t count;
    const int32_t *base;
    int32_t input_offset;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t shifts_right; /* whether every shift is below 0 */
    int32_t offset;
    int32_t min;
    int32_t max;
    int32_t pixel_step;
} qute_helium_product;

/* `pixels` output pixels, 1 to QUTE_HELIUM_PIXELS, from their windows. */
void qute_helium_product_s8(
    const qute_helium_product *product, const int8_t *const windows[], int32_t pixels, int8_t *output);

/* Pointwise convolution of any stride, without scratch: see qute_convolve_1x1_s8. */
void qute_helium_convolve_1x1_s8(const cmsis_nn_conv_params *params,
                                 const qute_channels *channels,
                                 const cmsis_nn_dims *input_dims,
                                 const int8_t *input,
                                 const int8_t *filter,
                                 const cmsis_nn_dims *output_dims,
                                 int8_t *output);

/* Any convolution, grouped or not: see qute_convolve_s8. `scratch` is aligned to 4. */
void qute_helium_convolve_s8(void *scratch,
                             const cmsis_nn_conv_params *params,
                             const qute_channels *channels,
                             const cmsis_nn_dims *input_dims,
                             const int8_t *input,
                             const cmsis_nn_dims *filter_dims,
                             const int8_t *filter,
                             const cmsis_nn_dims *output_dims,
                             int8_t *output);

/* Its bytes: where the sums of each channel begin, and three windows. */
QUTE_INLINE int32_t qute_helium_convolve_scratch(const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims)
{
    return (int32_t)sizeof(int32_t) * output_dims->c +
        QUTE_HELIUM_PIXELS * filter_dims->h * filter_dims->w * filter_dims->c;
}

#ifdef __cplusplus
}
#endif

#endif
