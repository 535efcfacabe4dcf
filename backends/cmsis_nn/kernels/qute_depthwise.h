// SPDX-License-Identifier: Apache-2.0
/* The kernels behind arm_depthwise_conv_wrapper_s8, one output row at a time, and what they share. */
#ifndef QUTE_DEPTHWISE_H
#define QUTE_DEPTHWISE_H

#include "arm_nnfunctions.h"
#include "qute_requantize.h"
#include "qute_window.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One call on one map; fields as in arm_depthwise_conv_wrapper_s8. */
typedef struct {
    const cmsis_nn_dw_conv_params *params;
    const cmsis_nn_per_channel_quant_params *quant;
    const cmsis_nn_dims *input_dims;
    const int8_t *input;
    const cmsis_nn_dims *filter_dims;
    const int8_t *filter;
    const int32_t *bias;
    const cmsis_nn_dims *output_dims;
    int8_t *output;
    uint32_t *scratch; /* qute_depthwise_scratch bytes */
    int32_t can_scale; /* whether qute_scaling.h holds for all channels */
} qute_depthwise;

/* Whether there is qute_depthwise_row_s8x4. Without optimisation its assembly would not find enough registers, and cores with
 * Helium have kernels of their own. */
#if QUTE_DSP && defined(__OPTIMIZE__) && !QUTE_MVE
#define QUTE_DEPTHWISE_S8X4 1
#else
#define QUTE_DEPTHWISE_S8X4 0
#endif

/* Taps for which qute_depthwise_row_s8x4 needs no scratch. */
#define QUTE_DEPTHWISE_TAPS_ON_STACK 9

/* Whether qute_depthwise_row_s8x4 computes calls of this kind, given its scratch. */
QUTE_INLINE int qute_depthwise_is_s8x4(const cmsis_nn_dw_conv_params *params, const cmsis_nn_dims *input_dims)
{
    return QUTE_DEPTHWISE_S8X4 && params->ch_mult == 1 && input_dims->c >= 4;
}

/* Bytes of its scratch: never more than Arm's library asks for, which has none for dilated kernels. */
QUTE_INLINE int32_t qute_depthwise_scratch(const cmsis_nn_dw_conv_params *params,
                                           const cmsis_nn_dims *input_dims,
                                           const cmsis_nn_dims *filter_dims)
{
    const int32_t taps = filter_dims->h * filter_dims->w;
    const int is_dilated = params->dilation.h != 1 || params->dilation.w != 1;
    if (!qute_depthwise_is_s8x4(params, input_dims) || is_dilated || taps <= QUTE_DEPTHWISE_TAPS_ON_STACK) {
        return 0;
    }
    return 2 * 4 * taps;
}

/* Output row `out_y` of any call. */
void qute_depthwise_row_s8(const qute_depthwise *call, int32_t out_y);

/* The whole row, four channels at a time, where qute_depthwise_is_s8x4. */
void qute_depthwise_row_s8x4(const qute_depthwise *call, int32_t out_y);

/* Four channels of an output row for a kernel of three columns, not dilated, of which two or three rows lie inside the
 * map; at least one pixel has all columns inside. Steps are in bytes. The order of the fields is that of reading. */
typedef struct {
    const int8_t *filter; /* from the first row inside on */
    int32_t filter_row_step;
    int32_t channels;
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t output_offset; /* twice the offset, plus one */
    const int8_t *input; /* column 0 of the first row inside */
    int32_t row_step;
    uint32_t input_offset; /* in both halves */
    int8_t *output;
    const int8_t *inner_end; /* where the pixels end that have a last column */
    int32_t column_step; /* from the second column to the third */
    int32_t pixel_step; /* from the third column to the first one of the next pixel */
    int32_t is_right_padded;
    int32_t is_left_padded;
    uint32_t words[4 + 3 * 6 + 4 * 3];
} qute_depthwise_group;

void qute_depthwise_three_columns(qute_depthwise_group *group, int32_t rows);

/* Sums of four channels, to which the bias is added, as bytes of the output. DSP only. */
void qute_depthwise_store_s8x4(const qute_depthwise *call, int32_t channel, const int32_t sums[4], int8_t *output);

/* The rows of the window of output row `out_y` that lie inside the map. */
QUTE_INLINE qute_taps qute_depthwise_rows(const qute_depthwise *call, int32_t out_y)
{
    const int32_t y = out_y * call->params->stride.h - call->params->padding.h;
    return qute_valid_taps(y, call->filter_dims->h, call->params->dilation.h, call->input_dims->h);
}

/* The row of the map where `rows`, as above, begin; row 0 if there are none. */
QUTE_INLINE int32_t qute_depthwise_first_row(const qute_depthwise *call, int32_t out_y, qute_taps rows)
{
    const int32_t y = out_y * call->params->stride.h - call->params->padding.h + rows.begin * call->params->dilation.h;
    return rows.begin < rows.end ? y : 0;
}

/* The columns of the window of output column `out_x` that lie inside the map. */
QUTE_INLINE qute_taps qute_depthwise_columns(const qute_depthwise *call, int32_t out_x)
{
    const int32_t x = out_x * call->params->stride.w - call->params->padding.w;
    return qute_valid_taps(x, call->filter_dims->w, call->params->dilation.w, call->input_dims->w);
}

#ifdef __cplusplus
}
#endif

#endif
