// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_convolve.h"
#include "qute_window.h"

/* A column is the window row by row: runs of bytes from the input, zeros where it is outside the map. */

/* Where the next values of a column go. */
typedef struct {
    int16_t *target;
#if QUTE_DSP
    uint32_t offset_pair;
    /* Bytes that wait for the rest of their group: runs do not end where groups do. */
    uint32_t pending;
    uint32_t pending_bits;
    /* Four bytes that the offset turns into zeros. */
    uint32_t zero_points;
#else
    int32_t offset;
#endif
} column_writer;

#if QUTE_DSP

/* int16 values from one group of a column to its next. */
#define GROUP_STEP 8

QUTE_INLINE void start_column(column_writer *column, int16_t *columns, int32_t length, int32_t number, int32_t offset)
{
    (void)length;
    column->target = columns + 2 * number;
    column->offset_pair = qute_pair(offset);
    column->pending = 0;
    column->pending_bits = 0;
    column->zero_points = ((uint32_t)-offset & 0xffU) * 0x01010101U;
}

QUTE_INLINE int16_t *write_group(int16_t *target, uint32_t offset_pair, uint32_t bytes)
{
    qute_store_s16x2(target, qute_sxtab16(offset_pair, bytes));
    qute_store_s16x2(target + 4, qute_sxtab16_odd(offset_pair, bytes));
    return target + GROUP_STEP;
}

/* `count` bytes, `step` = 4 bytes from one word to the next or 0 for the same word again and again. */
QUTE_NOINLINE void append(column_writer *column, const int8_t *source, int32_t step, int32_t count)
{
    const uint32_t offset_pair = column->offset_pair;
    const uint32_t bits = column->pending_bits;
    uint32_t pending = column->pending;
    int16_t *target = column->target;

    if (bits == 0) {
        for (; count >= 4; count -= 4) {
            target = write_group(target, offset_pair, qute_load_s8x4(source));
            source += step;
        }
    } else {
        for (; count >= 4; count -= 4) {
            const uint32_t word = qute_load_s8x4(source);
            target = write_group(target, offset_pair, pending | (word << bits));
            pending = word >> (32 - bits);
            source += step;
        }
    }
    if (count > 0) {
        const uint32_t word = qute_load_s8_tail(source, count);
        const uint32_t filled = bits + 8 * (uint32_t)count;
        pending |= word << bits;
        if (filled >= 32) {
            target = write_group(target, offset_pair, pending);
            pending = bits == 0 ? 0 : word >> (32 - bits);
        }
        column->pending_bits = filled & 31;
    }
    column->pending = pending;
    column->target = target;
}

QUTE_INLINE void write_zeros(column_writer *column, int32_t count)
{
    if (count > 0) {
        append(column, (const int8_t *)&column->zero_points, 0, count);
    }
}

QUTE_INLINE void write_values(column_writer *column, const int8_t *values, int32_t count)
{
    append(column, values, 4, count);
}

QUTE_INLINE void end_column(column_writer *column)
{
    if (column->pending_bits != 0) {
        write_group(column->target, column->offset_pair, column->pending);
    }
}

#else

static void start_column(column_writer *column, int16_t *columns, int32_t length, int32_t number, int32_t offset)
{
    column->target = columns + length * number;
    column->offset = offset;
}

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

#endif

/* The window that begins at column x of the input. */
static void write_window(column_writer *column, const qute_windows *windows, int32_t x)
{
    const cmsis_nn_dims *input_dims = windows->input_dims;
    const cmsis_nn_dims *filter_dims = windows->filter_dims;
    const cmsis_nn_tile dilation = windows->params->dilation;
    const int32_t depth = filter_dims->c;
    const int32_t pixel_step = input_dims->c * dilation.w;
    const int32_t row_values = filter_dims->w * depth;
    const qute_taps rows = windows->rows;
    const qute_taps taps = qute_valid_taps(x, filter_dims->w, dilation.w, input_dims->w);
    const int32_t valid = taps.end - taps.begin;

    if (valid == 0) {
        write_zeros(column, filter_dims->h * row_values);
        end_column(column);
        return;
    }
    write_zeros(column, rows.begin * row_values);
    for (int32_t tap = rows.begin; tap < rows.end; tap++) {
        const int8_t *pixel = windows->input +
            ((windows->y + tap * dilation.h) * input_dims->w + x + taps.begin * dilation.w) * input_dims->c;
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

#if QUTE_BLOCKS

/* Two windows at once that lie inside the map but for whole rows of taps, where these are whole groups. */
static void write_pair(const qute_windows *windows, int32_t x, int32_t run, int16_t *columns)
{
    const cmsis_nn_conv_params *params = windows->params;
    const cmsis_nn_dims *input_dims = windows->input_dims;
    const int32_t groups = run >> 2;
    const int32_t row_step = params->dilation.h * input_dims->w * input_dims->c - run;
    const int8_t *pixel = windows->input +
        ((windows->y + windows->rows.begin * params->dilation.h) * input_dims->w + x) * input_dims->c;

    columns = qute_zero_groups(columns, windows->rows.begin * groups);
    for (int32_t rows = windows->rows.end - windows->rows.begin; rows > 0; rows--) {
        columns = qute_widen_pairs(
            &pixel, params->stride.w * input_dims->c, groups, qute_pair(params->input_offset), columns);
        pixel += row_step;
    }
    qute_zero_groups(columns, (windows->filter_dims->h - windows->rows.end) * groups);
}

#endif

void qute_window_columns_s16(const qute_windows *windows, int32_t x, int32_t count, int16_t *columns)
{
    const cmsis_nn_dims *filter_dims = windows->filter_dims;
    const int32_t stride = windows->params->stride.w;
    const int32_t row_values = filter_dims->w * filter_dims->c;
    const int32_t length = qute_column_length(filter_dims->h * row_values);

#if QUTE_BLOCKS
    const int32_t one_run = filter_dims->c == windows->input_dims->c && windows->params->dilation.w == 1;
    if (one_run && count == 2 && (row_values & 3) == 0 && x >= 0 &&
        x + stride + filter_dims->w <= windows->input_dims->w) {
        write_pair(windows, x, row_values, columns);
        return;
    }
#endif
    for (int32_t p = 0; p < count; p++) {
        column_writer column;
        start_column(&column, columns, length, p, windows->params->input_offset);
        write_window(&column, windows, x + p * stride);
    }
}
