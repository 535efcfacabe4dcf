// SPDX-License-Identifier: Apache-2.0
/* The two convolutions behind arm_convolve_wrapper_s8 and what they share. */
#ifndef QUTE_CONVOLVE_H
#define QUTE_CONVOLVE_H

#include "arm_nnfunctions.h"
#include "qute_requantize.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Per-channel requantisation and where it clamps to. */
typedef struct {
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t offset;
    int32_t min;
    int32_t max;
} qute_channels;

/* An unpadded, ungrouped 1x1 kernel: a matrix product on the input as it lies. */
QUTE_INLINE int qute_is_pointwise(const cmsis_nn_conv_params *params,
                                  const cmsis_nn_dims *input_dims,
                                  const cmsis_nn_dims *filter_dims)
{
    return filter_dims->h == 1 && filter_dims->w == 1 && filter_dims->c == input_dims->c && params->padding.h == 0 &&
        params->padding.w == 0;
}

/* int16 values of one im2col column: whole groups of four. */
QUTE_INLINE int32_t qute_column_length(int32_t depth)
{
    return (depth + 3) & ~3;
}

QUTE_INLINE int32_t qute_bias(const qute_channels *channels, int32_t channel)
{
    return channels->bias ? channels->bias[channel] : 0;
}

QUTE_INLINE int8_t qute_channel_output(const qute_channels *channels, int32_t channel, int32_t sum)
{
    return qute_output_s8(sum,
                          channels->multiplier[channel],
                          channels->shift[channel],
                          channels->offset,
                          channels->min,
                          channels->max);
}

/* Pointwise convolution of any stride, without scratch. */
void qute_convolve_1x1_s8(const cmsis_nn_conv_params *params,
                          const qute_channels *channels,
                          const cmsis_nn_dims *input_dims,
                          const int8_t *input,
                          const int8_t *filter,
                          const cmsis_nn_dims *output_dims,
                          int8_t *output);

/* Any convolution, grouped or not. `columns` holds two columns of qute_column_length values. */
void qute_convolve_s8(int16_t *columns,
                      const cmsis_nn_conv_params *params,
                      const qute_channels *channels,
                      const cmsis_nn_dims *input_dims,
                      const int8_t *input,
                      const cmsis_nn_dims *filter_dims,
                      const int8_t *filter,
                      const cmsis_nn_dims *output_dims,
                      int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
