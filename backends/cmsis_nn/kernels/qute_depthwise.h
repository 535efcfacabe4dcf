// SPDX-License-Identifier: Apache-2.0
/* What the depthwise kernels share. */
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
    /* The output row to compute: rows are finished one after the other. */
    int32_t row;
} qute_depthwise;

/* The part of a window that lies inside the map: where its first tap is in the input and in the filter, channel
 * 0, and bytes from tap to tap. */
typedef struct {
    const int8_t *input;
    const int8_t *filter;
    int32_t rows;
    int32_t columns;
    int32_t input_row_step;
    int32_t input_column_step;
    int32_t filter_row_step;
    int32_t filter_column_step;
} qute_depthwise_window;

/* The four channels from `channel` on, of the pixels of one row, for a channel multiplier of 1. DSP only. */
void qute_depthwise_s8x4(const qute_depthwise *call, int32_t channel);

QUTE_INLINE void qute_depthwise_steps(const qute_depthwise *call, qute_depthwise_window *window)
{
    const int32_t channels = call->input_dims->c;
    window->input_column_step = call->params->dilation.w * channels;
    window->input_row_step = call->params->dilation.h * call->input_dims->w * channels;
    window->filter_column_step = channels * call->params->ch_mult;
    window->filter_row_step = call->filter_dims->w * window->filter_column_step;
}

/* Places the window whose first tap is pixel (y, x). One that lies outside has no rows. */
QUTE_INLINE void qute_depthwise_place(
    const qute_depthwise *call, int32_t y, int32_t x, qute_taps rows, qute_taps columns, qute_depthwise_window *window)
{
    const cmsis_nn_tile dilation = call->params->dilation;
    window->rows = rows.end - rows.begin;
    window->columns = columns.end - columns.begin;
    window->input = call->input;
    window->filter = call->filter;
    if (window->rows > 0 && window->columns > 0) {
        const int32_t pixel = (y + rows.begin * dilation.h) * call->input_dims->w + x + columns.begin * dilation.w;
        window->input += pixel * call->input_dims->c;
        window->filter += rows.begin * window->filter_row_step + columns.begin * window->filter_column_step;
    } else {
        window->rows = 0;
    }
}

#ifdef __cplusplus
}
#endif

#endif
