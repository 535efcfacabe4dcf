// SPDX-License-Identifier: Apache-2.0
#include "qute_depthwise.h"
#include "qute_output.h"

/* Taps of one output channel, which are bytes at fixed steps in the map and in the filter. */
typedef struct {
    int32_t rows;
    int32_t columns;
    int32_t input_row_step;
    int32_t input_column_step;
    int32_t filter_row_step;
    int32_t filter_column_step;
} taps;

/* `count` outputs whose windows have the same taps inside the map. Steps are from one to the next: of output channels of a
 * pixel, from `first` on, channel_step is 1 and input_step 0 or 1; of pixels of channel `first`, channel_step is 0. */
typedef struct {
    const int8_t *input;
    const int8_t *filter;
    int8_t *output;
    int32_t input_step;
    int32_t channel_step;
    int32_t output_step;
    int32_t first;
    int32_t count;
} run;

/* The taps of a row; `columns` is a literal for the usual numbers of them, else 0. */
QUTE_INLINE int32_t add_row(
    const taps *t, const int8_t *row, const int8_t *weights, int32_t offset, int32_t sum, const int32_t columns)
{
    const int32_t step = t->input_column_step;
    const int32_t weight_step = t->filter_column_step;
    if (columns > 0) {
        sum = qute_wrapping_add(sum, (row[0] + offset) * weights[0]);
        sum = qute_wrapping_add(sum, (row[step] + offset) * weights[weight_step]);
        if (columns > 2) {
            sum = qute_wrapping_add(sum, (row[2 * step] + offset) * weights[2 * weight_step]);
        }
        return sum;
    }
    for (int32_t x = t->columns; x > 0; x--) {
        sum = qute_wrapping_add(sum, (*row + offset) * *weights);
        row += step;
        weights += weight_step;
    }
    return sum;
}

/* Saturated, not clamped. `rows` is a literal as well, and `step`: 1 where the outputs are channels of a pixel, else 0. */
QUTE_INLINE void multiply(const qute_depthwise *call,
                          const taps *steps,
                          const run *o,
                          const int32_t rows,
                          const int32_t columns,
                          const int32_t step)
{
    /* Copies, since a compiler cannot know that the outputs are not the originals. */
    const taps t = *steps;
    const int32_t *multiplier = call->quant->multiplier + o->first;
    const int32_t *shift = call->quant->shift + o->first;
    const int32_t *bias = call->bias ? call->bias + o->first : NULL;
    const int32_t offset = call->params->input_offset;
    const int32_t output_offset = call->params->output_offset;
    const int32_t input_step = o->input_step;
    const int32_t channel_step = step ? step : o->channel_step;
    const int32_t output_step = step ? step : o->output_step;
    const int8_t *input = o->input;
    const int8_t *filter = o->filter;
    int8_t *output = o->output;
    int32_t i = 0;
    for (int32_t count = o->count; count > 0; count--) {
        const int8_t *row = input;
        const int8_t *weights = filter + i;
        int32_t sum = bias ? bias[i] : 0;
        if (rows == 3) {
            sum = add_row(&t, row, weights, offset, sum, columns);
            sum = add_row(&t, row + t.input_row_step, weights + t.filter_row_step, offset, sum, columns);
            sum = add_row(&t, row + 2 * t.input_row_step, weights + 2 * t.filter_row_step, offset, sum, columns);
        } else {
            for (int32_t y = t.rows; y > 0; y--) {
                sum = add_row(&t, row, weights, offset, sum, columns);
                row += t.input_row_step;
                weights += t.filter_row_step;
            }
        }
        input += input_step;
        *output = qute_saturated_output_s8(sum, multiplier[i], shift[i], output_offset);
        output += output_step;
        i += channel_step;
    }
}

QUTE_NOINLINE void multiply_three_columns(const qute_depthwise *call, const taps *t, const run *o)
{
    multiply(call, t, o, 0, 3, 0);
}

/* With DSP instructions this is for three channels and less: two ways are enough. */
#if !QUTE_DSP
QUTE_NOINLINE void multiply_3x3(const qute_depthwise *call, const taps *t, const run *o)
{
    multiply(call, t, o, 3, 3, 1);
}

QUTE_NOINLINE void multiply_pixels_3x3(const qute_depthwise *call, const taps *t, const run *o)
{
    multiply(call, t, o, 3, 3, 0);
}

QUTE_NOINLINE void multiply_two_columns(const qute_depthwise *call, const taps *t, const run *o)
{
    multiply(call, t, o, 0, 2, 0);
}

#endif

QUTE_NOINLINE void multiply_any(const qute_depthwise *call, const taps *t, const run *o)
{
    multiply(call, t, o, 0, 0, 0);
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

/* A run by the kernel for its taps. */
static void multiply_run(const qute_depthwise *call, const taps *t, const run *o)
{
#if !QUTE_DSP
    if (t->columns == 3 && t->rows == 3) {
        (o->channel_step ? multiply_3x3 : multiply_pixels_3x3)(call, t, o);
        return;
    }
    if (t->columns == 2) {
        multiply_two_columns(call, t, o);
        return;
    }
#endif
    (t->columns == 3 ? multiply_three_columns : multiply_any)(call, t, o);
}

/* `count` pixels with the same taps, channel by channel. */
static void multiply_pixels(const qute_depthwise *call,
                            const taps *t,
                            const int8_t *input,
                            const int8_t *filter,
                            int8_t *output,
                            int32_t count)
{
    const int32_t outputs = call->output_dims->c;
    const int32_t multiple = call->params->ch_mult;
    run o = {input, filter, output, call->params->stride.w * call->input_dims->c, 0, outputs, 0, count};
    int32_t left = multiple;
    for (; o.first < outputs; o.first++) {
        multiply_run(call, t, &o);
        o.filter++;
        o.output++;
        if (--left == 0) {
            o.input++;
            left = multiple;
        }
    }
}

/* All channels of one pixel. */
QUTE_INLINE void multiply_pixel(
    const qute_depthwise *call, const taps *t, const int8_t *input, const int8_t *filter, int8_t *output)
{
    const int32_t multiple = call->params->ch_mult;
    const int32_t outputs = call->output_dims->c;
    const int32_t input_step = multiple == 1;
    const int32_t count = multiple == 1 ? outputs : multiple;
    for (int32_t channel = 0; channel < outputs; channel += count, input++) {
        int32_t first = channel;
#if QUTE_DSP
        for (; first + 4 <= channel + count && multiple >= 4; first += 4) {
            int32_t sums[4] = {0, 0, 0, 0};
            sums_of_taps(t, input, filter + first, call->params->input_offset, sums);
            qute_depthwise_store_s8x4(call, first, sums, output + first);
        }
#endif
        if (first < channel + count) {
            const run o = {input, filter + first, output + first, input_step, 1, 1, first, channel + count - first};
            multiply_run(call, t, &o);
        }
    }
}

/* Pixels from out_x on whose windows have all columns inside the map, as that of out_x has. */
static int32_t whole_pixels(const qute_depthwise *call, int32_t out_x)
{
    const cmsis_nn_dw_conv_params *params = call->params;
    const int32_t extent = (call->filter_dims->w - 1) * params->dilation.w;
    const int32_t x = out_x * params->stride.w - params->padding.w;
    const int32_t count = (call->input_dims->w - 1 - extent - x) / params->stride.w + 1;
    const int32_t left = call->output_dims->w - out_x;
    return count < left ? count : left;
}

/* Channels that multiply_pixel takes in one run, which costs more for each than a run of as many pixels. */
QUTE_INLINE int32_t channels_at_once(const qute_depthwise *call)
{
    const int32_t multiple = call->params->ch_mult;
#if QUTE_DSP
    if (multiple >= 4) {
        return INT32_MAX; /* in fours */
    }
#endif
    return multiple == 1 ? call->output_dims->c : multiple;
}

void qute_depthwise_row_s8(const qute_depthwise *call, int32_t out_y)
{
    const cmsis_nn_dw_conv_params *params = call->params;
    const int32_t channels = call->input_dims->c;
    const int32_t out_channels = call->output_dims->c;
    const qute_taps rows = qute_depthwise_rows(call, out_y);
    const int32_t y = out_y * params->stride.h - params->padding.h + rows.begin * params->dilation.h;
    const int32_t row_bytes = call->output_dims->w * out_channels;
    int8_t *const row = call->output + out_y * row_bytes;
    int8_t *output = row;
    taps t;

    t.input_column_step = params->dilation.w * channels;
    t.input_row_step = params->dilation.h * call->input_dims->w * channels;
    t.filter_column_step = out_channels;
    t.filter_row_step = call->filter_dims->w * out_channels;

    for (int32_t out_x = 0; out_x < call->output_dims->w;) {
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
        const int32_t count = t.columns < call->filter_dims->w ? 1 : whole_pixels(call, out_x);
        if (2 * count > channels_at_once(call)) {
            multiply_pixels(call, &t, input, filter, output, count);
            output += count * out_channels;
            out_x += count;
        } else {
            multiply_pixel(call, &t, input, filter, output);
            output += out_channels;
            out_x++;
        }
    }
    qute_clamp_s8(row, row_bytes, params->activation.min, params->activation.max);
}
