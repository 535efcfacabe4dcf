// SPDX-License-Identifier: Apache-2.0
#include "qute_depthwise.h"

/* Taps of one output channel, which are bytes at fixed steps in the map and in the filter. */
typedef struct {
    int32_t rows;
    int32_t columns;
    int32_t input_row_step;
    int32_t input_column_step;
    int32_t filter_row_step;
    int32_t filter_column_step;
} taps;

static int32_t sum_of_taps(const taps *t, const int8_t *input, const int8_t *filter, int32_t offset, int32_t sum)
{
    for (int32_t y = t->rows; y > 0; y--) {
        const int8_t *tap = input;
        const int8_t *weight = filter;
        for (int32_t x = t->columns; x > 0; x--) {
            sum = qute_wrapping_add(sum, (*tap + offset) * *weight);
            tap += t->input_column_step;
            weight += t->filter_column_step;
        }
        input += t->input_row_step;
        filter += t->filter_row_step;
    }
    return sum;
}

void qute_depthwise_row_s8(const qute_depthwise *call, int32_t out_y)
{
    const cmsis_nn_dw_conv_params *params = call->params;
    const int32_t channels = call->input_dims->c;
    const int32_t out_channels = call->output_dims->c;
    const qute_taps rows = qute_depthwise_rows(call, out_y);
    const int32_t y = out_y * params->stride.h - params->padding.h + rows.begin * params->dilation.h;
    int8_t *output = call->output + out_y * call->output_dims->w * out_channels;
    taps t;

    t.input_column_step = params->dilation.w * channels;
    t.input_row_step = params->dilation.h * call->input_dims->w * channels;
    t.filter_column_step = out_channels;
    t.filter_row_step = call->filter_dims->w * out_channels;

    for (int32_t out_x = 0; out_x < call->output_dims->w; out_x++) {
        const qute_taps columns = qute_depthwise_columns(call, out_x);
        const int32_t x = out_x * params->stride.w - params->padding.w + columns.begin * params->dilation.w;
        const int8_t *input = call->input;
        const int8_t *filter = call->filter;
        int32_t rest = params->ch_mult;
        t.columns = columns.end - columns.begin;
        t.rows = t.columns > 0 ? rows.end - rows.begin : 0;
        if (t.rows > 0) {
            input += (y * call->input_dims->w + x) * channels;
            filter += rows.begin * t.filter_row_step + columns.begin * out_channels;
        }
        for (int32_t channel = 0; channel < out_channels; channel++) {
            const int32_t bias = call->bias ? call->bias[channel] : 0;
            const int32_t sum = sum_of_taps(&t, input, filter + channel, params->input_offset, bias);
            output[channel] = qute_depthwise_output(call, channel, sum);
            if (--rest == 0) {
                rest = params->ch_mult;
                input++;
            }
        }
        output += out_channels;
    }
}
