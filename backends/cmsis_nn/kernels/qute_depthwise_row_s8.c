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

QUTE_NOINLINE int32_t sum_of_taps(
    const taps *t, const int8_t *input, const int8_t *filter, int32_t offset, int32_t sum)
{
    const int32_t columns = t->columns;
    const int32_t input_step = t->input_column_step;
    const int32_t filter_step = t->filter_column_step;
    for (int32_t y = t->rows; y > 0; y--) {
        const int8_t *tap = input;
        const int8_t *weight = filter;
        int32_t x = columns;
        if (x == 3) {
            sum = qute_wrapping_add(sum, (tap[2 * input_step] + offset) * weight[2 * filter_step]);
            sum = qute_wrapping_add(sum, (tap[input_step] + offset) * weight[filter_step]);
            x = 1;
        }
        for (; x > 0; x--) {
            sum = qute_wrapping_add(sum, (*tap + offset) * *weight);
            tap += input_step;
            weight += filter_step;
        }
        input += t->input_row_step;
        filter += t->filter_row_step;
    }
    return sum;
}

#if QUTE_DSP

/* Four output channels of one input channel. */
QUTE_NOINLINE void sums_of_taps(
    const taps *t, const int8_t *input, const int8_t *filter, int32_t offset, int32_t sums[4])
{
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];
    for (int32_t y = t->rows; y > 0; y--) {
        const int8_t *tap = input;
        const int8_t *weight = filter;
        for (int32_t x = t->columns; x > 0; x--) {
            const uint32_t value = (uint32_t)(*tap + offset);
            const uint32_t word = qute_load_s8x4(weight);
            const uint32_t even = qute_sxtb16(word);
            const uint32_t odd = qute_sxtb16_odd(word);
            s0 = qute_smlabb(even, value, s0);
            s1 = qute_smlabb(odd, value, s1);
            s2 = qute_smlatb(even, value, s2);
            s3 = qute_smlatb(odd, value, s3);
            tap += t->input_column_step;
            weight += t->filter_column_step;
        }
        input += t->input_row_step;
        filter += t->filter_row_step;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#endif

/* The `count` output channels of one input channel, from `channel` on. */
QUTE_NOINLINE void multiply_channel(const qute_depthwise *call,
                                    const taps *t,
                                    const int8_t *input,
                                    const int8_t *filter,
                                    int32_t channel,
                                    int8_t *output)
{
    const int32_t offset = call->params->input_offset;
    const int32_t end = channel + call->params->ch_mult;
#if QUTE_DSP
    for (; channel + 4 <= end; channel += 4) {
        int32_t sums[4] = {0, 0, 0, 0};
        sums_of_taps(t, input, filter + channel, offset, sums);
        qute_depthwise_store_s8x4(call, channel, sums, output + channel);
    }
#endif
    for (; channel < end; channel++) {
        const int32_t bias = call->bias ? call->bias[channel] : 0;
        output[channel] = qute_output_s8(sum_of_taps(t, input, filter + channel, offset, bias),
                                         call->quant->multiplier[channel],
                                         call->quant->shift[channel],
                                         call->params->output_offset,
                                         call->params->activation.min,
                                         call->params->activation.max);
    }
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
        t.columns = columns.end - columns.begin;
        t.rows = t.columns > 0 ? rows.end - rows.begin : 0;
        if (t.rows > 0) {
            input += (y * call->input_dims->w + x) * channels;
            filter += rows.begin * t.filter_row_step + columns.begin * out_channels;
        }
        for (int32_t channel = 0; channel < out_channels; channel += params->ch_mult) {
            multiply_channel(call, &t, input, filter, channel, output);
            input++;
        }
        output += out_channels;
    }
}
