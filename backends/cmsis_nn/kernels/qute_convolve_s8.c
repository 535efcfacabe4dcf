// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_convolve.h"
#include "qute_window.h"

/* Two output pixels at a time: their windows are written as int16 columns, input offset added and zeros where
 * the window is outside, and multiplied with the filter in blocks of two channels by two columns.
 *
 * Layout of the columns, plain C: value k of column p at [p * length + k]. DSP: groups of four values of both
 * columns, {0: k, k+2} {1: k, k+2} {0: k+1, k+3} {1: k+1, k+3}, so that a block reads them with one pointer in
 * the order in which SXTB16 widens the four weights it meets. */

/* Where the next values of a column go. */
typedef struct {
    int16_t *target;
    uint32_t offset_pair;
    int32_t offset;
    uint32_t pending;
    int32_t pending_bytes;
} column_writer;

#if QUTE_DSP

/* int16 values from one group of a column to its next. */
#define GROUP_STEP 8

static void write_group(column_writer *column, uint32_t bytes)
{
    qute_store_s16x2(column->target, qute_sxtab16(column->offset_pair, bytes));
    qute_store_s16x2(column->target + 4, qute_sxtab16_odd(column->offset_pair, bytes));
    column->target += GROUP_STEP;
}

/* Groups do not end where rows of the window do, so up to three bytes wait in `pending`. */
static void write_byte(column_writer *column, int8_t value)
{
    column->pending |= (uint32_t)(uint8_t)value << (8 * column->pending_bytes);
    column->pending_bytes++;
    if (column->pending_bytes == 4) {
        write_group(column, column->pending);
        column->pending = 0;
        column->pending_bytes = 0;
    }
}

static void write_values(column_writer *column, const int8_t *values, int32_t count)
{
    while (column->pending_bytes != 0 && count > 0) {
        write_byte(column, *values++);
        count--;
    }
    for (; count >= 4; count -= 4) {
        write_group(column, qute_load_s8x4(values));
        values += 4;
    }
    for (; count > 0; count--) {
        write_byte(column, *values++);
    }
}

static void write_zeros(column_writer *column, int32_t count)
{
    const int8_t zero_point = (int8_t)-column->offset;
    while (column->pending_bytes != 0 && count > 0) {
        write_byte(column, zero_point);
        count--;
    }
    for (; count >= 4; count -= 4) {
        qute_store_s16x2(column->target, 0);
        qute_store_s16x2(column->target + 4, 0);
        column->target += GROUP_STEP;
    }
    for (; count > 0; count--) {
        write_byte(column, zero_point);
    }
}

static void end_column(column_writer *column)
{
    if (column->pending_bytes != 0) {
        write_group(column, column->pending);
    }
}

static int16_t *column_start(int16_t *columns, int32_t length, int32_t column)
{
    (void)length;
    return columns + 2 * column;
}

#else

static void write_values(column_writer *column, const int8_t *values, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        column->target[i] = (int16_t)(values[i] + column->offset);
    }
    column->target += count;
}

static void write_zeros(column_writer *column, int32_t count)
{
    memset(column->target, 0, (size_t)count * sizeof(int16_t));
    column->target += count;
}

static void end_column(column_writer *column)
{
    (void)column;
}

static int16_t *column_start(int16_t *columns, int32_t length, int32_t column)
{
    return columns + length * column;
}

#endif

#if QUTE_DSP

/* Four values of each column times four weights of each channel. */
QUTE_INLINE void multiply_group(const int16_t *columns,
                                const uint32_t *words,
                                int32_t *sums,
                                const int32_t channel_count,
                                const int32_t column_count)
{
    for (int32_t p = 0; p < column_count; p++) {
        const uint32_t x_even = qute_load_s16x2(columns + 2 * p);
        const uint32_t x_odd = qute_load_s16x2(columns + 4 + 2 * p);
        for (int32_t c = 0; c < channel_count; c++) {
            sums[c * 2 + p] = qute_smlad(qute_sxtb16(words[c]), x_even, sums[c * 2 + p]);
            sums[c * 2 + p] = qute_smlad(qute_sxtb16_odd(words[c]), x_odd, sums[c * 2 + p]);
        }
    }
}

#endif

/* sums[c * 2 + p] += weights of channel c times column p; the compiler unrolls by the constant counts. */
QUTE_INLINE void multiply_block(const int16_t *columns,
                                const int8_t *weights,
                                int32_t depth,
                                int32_t *sums,
                                const int32_t channel_count,
                                const int32_t column_count)
{
#if QUTE_DSP
    const int32_t tail = depth & 3;
    const int8_t *rows[2];
    int32_t n = depth >> 2;
#if QUTE_BLOCKS
    if (channel_count == 2 && column_count == 2 && n > 0) {
        qute_block_s16(columns, weights, depth, n, sums);
        weights += 4 * n;
        columns += GROUP_STEP * n;
        n = 0;
    }
#endif
    rows[0] = weights;
    rows[1] = weights + depth;
    for (; n > 0; n--) {
        uint32_t words[2] = {0, 0};
        for (int32_t c = 0; c < channel_count; c++) {
            words[c] = qute_load_s8x4(rows[c]);
            rows[c] += 4;
        }
        multiply_group(columns, words, sums, channel_count, column_count);
        columns += GROUP_STEP;
    }
    if (tail != 0) {
        uint32_t words[2] = {0, 0};
        for (int32_t c = 0; c < channel_count; c++) {
            words[c] = qute_load_s8_tail(rows[c], tail);
        }
        multiply_group(columns, words, sums, channel_count, column_count);
    }
#else
    const int32_t length = qute_column_length(depth);
    for (int32_t k = 0; k < depth; k++) {
        for (int32_t c = 0; c < channel_count; c++) {
            const int32_t weight = weights[c * depth + k];
            for (int32_t p = 0; p < column_count; p++) {
                sums[c * 2 + p] = qute_wrapping_add(sums[c * 2 + p], weight * columns[p * length + k]);
            }
        }
    }
#endif
}

/* `column_count` pixels, one behind the other in the output, for channels first <= c < last. */
QUTE_INLINE void multiply_columns(const int16_t *columns,
                                  const int8_t *weights,
                                  int32_t depth,
                                  const qute_channels *channels,
                                  int32_t first,
                                  int32_t last,
                                  int8_t *output,
                                  int32_t pixel_step,
                                  const int32_t column_count)
{
    int32_t channel = first;
    for (; channel + 2 <= last; channel += 2) {
        const int32_t bias[2] = {qute_bias(channels, channel), qute_bias(channels, channel + 1)};
        int32_t sums[4] = {bias[0], bias[0], bias[1], bias[1]};
        multiply_block(columns, weights, depth, sums, 2, column_count);
        for (int32_t p = 0; p < column_count; p++) {
            output[p * pixel_step + channel] = qute_channel_output(channels, channel, sums[p]);
            output[p * pixel_step + channel + 1] = qute_channel_output(channels, channel + 1, sums[2 + p]);
        }
        weights += 2 * depth;
    }
    if (channel < last) {
        const int32_t bias = qute_bias(channels, channel);
        int32_t sums[2] = {bias, bias};
        multiply_block(columns, weights, depth, sums, 1, column_count);
        for (int32_t p = 0; p < column_count; p++) {
            output[p * pixel_step + channel] = qute_channel_output(channels, channel, sums[p]);
        }
    }
}

/* Writes the window whose first tap is pixel (y, x) of the channels from `input` on. */
static void write_window(column_writer *column,
                         const cmsis_nn_dims *input_dims,
                         const int8_t *input,
                         const cmsis_nn_dims *filter_dims,
                         cmsis_nn_tile dilation,
                         int32_t y,
                         int32_t x)
{
    const int32_t depth = filter_dims->c;
    const int32_t pixel_step = input_dims->c * dilation.w;
    const qute_taps rows = qute_valid_taps(y, filter_dims->h, dilation.h, input_dims->h);
    const qute_taps taps = qute_valid_taps(x, filter_dims->w, dilation.w, input_dims->w);
    const int32_t row_values = filter_dims->w * depth;
    const int32_t valid = taps.end - taps.begin;

    if (valid == 0) {
        write_zeros(column, filter_dims->h * row_values);
        end_column(column);
        return;
    }
    write_zeros(column, rows.begin * row_values);
    for (int32_t tap = rows.begin; tap < rows.end; tap++) {
        const int8_t *pixel =
            input + ((y + tap * dilation.h) * input_dims->w + x + taps.begin * dilation.w) * input_dims->c;
        write_zeros(column, taps.begin * depth);
        if (pixel_step == depth) {
            write_values(column, pixel, valid * depth);
        } else {
            for (int32_t i = 0; i < valid; i++) {
                write_values(column, pixel + i * pixel_step, depth);
            }
        }
        write_zeros(column, (filter_dims->w - taps.end) * depth);
    }
    write_zeros(column, (filter_dims->h - rows.end) * row_values);
    end_column(column);
}

void qute_convolve_s8(int16_t *columns,
                      const cmsis_nn_conv_params *params,
                      const qute_channels *channels,
                      const cmsis_nn_dims *input_dims,
                      const int8_t *input,
                      const cmsis_nn_dims *filter_dims,
                      const int8_t *filter,
                      const cmsis_nn_dims *output_dims,
                      int8_t *output)
{
    const int32_t depth = filter_dims->h * filter_dims->w * filter_dims->c;
    const int32_t length = qute_column_length(depth);
    const int32_t groups = input_dims->c / filter_dims->c;
    const int32_t group_channels = output_dims->c / groups;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t group = 0; group < groups; group++) {
            const int32_t first = group * group_channels;
            const int32_t last = first + group_channels;
            const int8_t *weights = filter + first * depth;
            int8_t *target = output;
            int32_t filled = 0;

            for (int32_t out_y = 0; out_y < output_dims->h; out_y++) {
                for (int32_t out_x = 0; out_x < output_dims->w; out_x++) {
                    column_writer column = {0};
                    column.target = column_start(columns, length, filled);
                    column.offset = params->input_offset;
#if QUTE_DSP
                    column.offset_pair = qute_pair(params->input_offset);
#endif
                    write_window(&column,
                                 input_dims,
                                 input + group * filter_dims->c,
                                 filter_dims,
                                 params->dilation,
                                 out_y * params->stride.h - params->padding.h,
                                 out_x * params->stride.w - params->padding.w);
                    filled++;
                    if (filled == 2) {
                        multiply_columns(columns, weights, depth, channels, first, last, target, output_dims->c, 2);
                        target += 2 * output_dims->c;
                        filled = 0;
                    }
                }
            }
            if (filled != 0) {
                multiply_columns(columns, weights, depth, channels, first, last, target, output_dims->c, 1);
            }
        }
        input += input_dims->h * input_dims->w * input_dims->c;
        output += output_dims->h * output_dims->w * output_dims->c;
    }
}
