// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_convolve.h"
#include "qute_window.h"

/* A column is the window row by row: runs of bytes from the input, zeros where it is outside the map. */

/* Where the next values of a column go. */
typedef struct {
    int16_t *target;
#if QUTE_DSP
    /* int16 values from an even word to the odd one of the same group; a group is twice as long. */
    int32_t odd;
    uint32_t offset_pair;
    /* Bytes that wait for the rest of their group: runs do not end where groups do. */
    uint32_t pending;
    uint32_t pending_bits;
    /* Four bytes that the offset turns into zeros. */
    uint32_t zero_points;
#else
    /* int16 values from one value of a column to its next. */
    int32_t step;
    int32_t offset;
#endif
} column_writer;

#if QUTE_DSP

QUTE_INLINE void start_column(
    column_writer *column, int16_t *values, int32_t number, int32_t columns, int32_t offset)
{
    column->target = values + 2 * number;
    column->odd = 2 * columns;
    column->offset_pair = qute_pair(offset);
    column->pending = 0;
    column->pending_bits = 0;
    column->zero_points = ((uint32_t)-offset & 0xffU) * 0x01010101U;
}

QUTE_INLINE int16_t *write_group(int16_t *target, int32_t odd, uint32_t offset_pair, uint32_t bytes)
{
    qute_store_s16x2(target, qute_sxtab16(offset_pair, bytes));
    qute_store_s16x2(target + odd, qute_sxtab16_odd(offset_pair, bytes));
    return target + 2 * odd;
}

/* The last `count` = 1 to 3 bytes before `end` of a run of `run` bytes. */
QUTE_INLINE uint32_t load_run_end(const int8_t *end, int32_t run, int32_t count)
{
    return run >= 4 ? qute_load_s8x4(end - 4) >> (8 * (4 - count)) : qute_load_s8_tail(end - count, count);
}

/* `rows` runs of `run` bytes, each `row_step` bytes behind the one before. */
QUTE_NOINLINE void write_runs(
    column_writer *column, const int8_t *source, int32_t run, int32_t rows, int32_t row_step)
{
    const uint32_t offset_pair = column->offset_pair;
    const int32_t odd = column->odd;
    const int32_t tail = run & 3;
    uint32_t bits = column->pending_bits;
    uint32_t pending = column->pending;
    int16_t *target = column->target;

    for (; rows > 0; rows--) {
        const int8_t *at = source;
        const int8_t *const words_end = source + (run - tail);
        if (bits == 0) {
            for (; at != words_end; at += 4) {
                target = write_group(target, odd, offset_pair, qute_load_s8x4(at));
            }
        } else {
            for (; at != words_end; at += 4) {
                const uint32_t word = qute_load_s8x4(at);
                target = write_group(target, odd, offset_pair, pending | (word << bits));
                pending = word >> (32 - bits);
            }
        }
        if (tail > 0) {
            const uint32_t word = load_run_end(at + tail, run, tail);
            const uint32_t filled = bits + 8 * (uint32_t)tail;
            pending |= word << bits;
            if (filled >= 32) {
                target = write_group(target, odd, offset_pair, pending);
                pending = bits == 0 ? 0 : word >> (32 - bits);
            }
            bits = filled & 31;
        }
        source += row_step;
    }
    column->pending_bits = bits;
    column->pending = pending;
    column->target = target;
}

QUTE_NOINLINE void append_zeros(column_writer *column, int32_t count)
{
    const uint32_t bits = column->pending_bits + 8 * (uint32_t)count;
    uint32_t pending = column->pending | (column->zero_points << column->pending_bits);
    int16_t *target = column->target;
    for (uint32_t n = bits >> 5; n > 0; n--) {
        target = write_group(target, column->odd, column->offset_pair, pending);
        pending = column->zero_points;
    }
    column->target = target;
    column->pending_bits = bits & 31;
    column->pending = pending & ((1U << (bits & 31)) - 1);
}

QUTE_INLINE void write_zeros(column_writer *column, int32_t count)
{
    if (count > 0) {
        append_zeros(column, count);
    }
}

QUTE_INLINE void end_column(column_writer *column)
{
    if (column->pending_bits != 0) {
        const uint32_t bytes = column->pending | (column->zero_points << column->pending_bits);
        write_group(column->target, column->odd, column->offset_pair, bytes);
    }
}

#else

static void start_column(column_writer *column, int16_t *values, int32_t number, int32_t columns, int32_t offset)
{
    column->target = values + number;
    column->step = columns;
    column->offset = offset;
}

static void write_runs(column_writer *column, const int8_t *source, int32_t run, int32_t rows, int32_t row_step)
{
    const int32_t offset = column->offset;
    const int32_t step = column->step;
    int16_t *target = column->target;
    for (; rows > 0; rows--) {
        const int8_t *value = source;
        for (int32_t i = run; i > 0; i--) {
            *target = (int16_t)(*value++ + offset);
            target += step;
        }
        source += row_step;
    }
    column->target = target;
}

static void write_zeros(column_writer *column, int32_t count)
{
    const int32_t step = column->step;
    int16_t *target = column->target;
    for (; count > 0; count--) {
        *target = 0;
        target += step;
    }
    column->target = target;
}

static void end_column(column_writer *column)
{
    (void)column;
}

#endif

/* The window that begins at column x of the input. */
QUTE_SMALL static void write_window(column_writer *column, const qute_windows *windows, int32_t x)
{
    const cmsis_nn_dims *input_dims = windows->input_dims;
    const cmsis_nn_dims *filter_dims = windows->filter_dims;
    const cmsis_nn_tile dilation = windows->params->dilation;
    const int32_t depth = filter_dims->c;
    const int32_t pixel_step = input_dims->c * dilation.w;
    const int32_t row_step = dilation.h * input_dims->w * input_dims->c;
    const int32_t row_values = filter_dims->w * depth;
    const qute_taps rows = windows->rows;
    const qute_taps taps = qute_valid_taps(x, filter_dims->w, dilation.w, input_dims->w);
    const int32_t valid = rows.end > rows.begin ? taps.end - taps.begin : 0;
    const int32_t row = windows->y + rows.begin * dilation.h;
    const int8_t *source = windows->input;

    if (valid == 0) {
        write_zeros(column, filter_dims->h * row_values);
        end_column(column);
        return;
    }
    source += (row * input_dims->w + x + taps.begin * dilation.w) * input_dims->c;
    write_zeros(column, rows.begin * row_values);
    if (valid == filter_dims->w && pixel_step == depth) {
        write_runs(column, source, row_values, rows.end - rows.begin, row_step);
    } else {
        for (int32_t tap = rows.begin; tap < rows.end; tap++) {
            write_zeros(column, taps.begin * depth);
            if (pixel_step == depth) {
                write_runs(column, source, valid * depth, 1, 0);
            } else {
                write_runs(column, source, depth, valid, pixel_step);
            }
            write_zeros(column, (filter_dims->w - taps.end) * depth);
            source += row_step;
        }
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

QUTE_SMALL void qute_window_column_s16(
    const qute_windows *windows, int32_t x, int32_t column, int32_t columns, int16_t *values)
{
    column_writer writer;
    start_column(&writer, values, column, columns, windows->params->input_offset);
    write_window(&writer, windows, x);
}

void qute_window_pair_s16(const qute_windows *windows, int32_t x, int16_t *values)
{
    const int32_t stride = windows->params->stride.w;
#if QUTE_BLOCKS
    const cmsis_nn_dims *filter_dims = windows->filter_dims;
    const int32_t run = filter_dims->w * filter_dims->c;
    const int32_t one_run = filter_dims->c == windows->input_dims->c && windows->params->dilation.w == 1;
    if (one_run && (run & 3) == 0 && x >= 0 && x + stride + filter_dims->w <= windows->input_dims->w) {
        write_pair(windows, x, run, values);
        return;
    }
#endif
    qute_window_column_s16(windows, x, 0, 2, values);
    qute_window_column_s16(windows, x + stride, 1, 2, values);
}
