// SPDX-License-Identifier: Apache-2.0
/* Without an activation the sum over the output pixels is linear in the map:
 *
 *     sum over pixels of (bias + sum over taps of w * x) = pixels * bias + sum over taps of w * S,
 *
 * where S of a tap is the sum of the inputs that it meets. Taps `stride` apart along an axis meet the same lines of
 * the map but for one at either end, so that all but stride * stride of these sums follow from one before. */
#include "qute_head_features.h"

/* Sums of so many taps are kept at a time; larger kernels are done in parts. */
#define MAX_TAPS 9

#if QUTE_DSP
#define MAX_LANES 4
/* Pixels whose sum an int16 holds. */
#define MAX_PIXELS_IN_S16 255
#else
#define MAX_LANES 1
#endif

/* A part of a kernel: its first tap and its size. */
typedef struct {
    int32_t row;
    int32_t column;
    int32_t rows;
    int32_t columns;
} part;

/* The lines of the map that one tap meets along an axis; `count` may be 0. */
typedef struct {
    int32_t first;
    int32_t count;
} lines;

QUTE_INLINE int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static lines lines_of_tap(const qute_head_axis *axis, int32_t tap)
{
    const int32_t base = tap - axis->padding;
    lines met;
    int32_t begin = base < 0 ? -base : 0;
    int32_t end = axis->size > base ? axis->size - base : 0;
    if (axis->stride > 1) {
        begin = (begin + axis->stride - 1) / axis->stride;
        end = (end + axis->stride - 1) / axis->stride;
    }
    end = smaller(end, axis->outputs);
    met.first = base + begin * axis->stride;
    met.count = end > begin ? end - begin : 0;
    return met;
}

/* One line, or none if it lies outside of the map. */
static lines one_line(const qute_head_axis *axis, int32_t line)
{
    lines met;
    met.first = line;
    met.count = line >= 0 && line < axis->size ? 1 : 0;
    return met;
}

/* A kernel on a map, from the first of `lanes` channels. */
typedef struct {
    qute_head_axis rows;
    qute_head_axis columns;
    const int8_t *input;
    int32_t input_offset;
} source;

/* Adds sign * the sum of (x + offset) over a grid of pixels. */
QUTE_INLINE void add_grid(const source *from, lines rows, lines columns, int32_t sign, int32_t *sums, int32_t lanes)
{
    const int32_t row_step = from->rows.stride * from->rows.input_step;
    const int32_t column_step = from->columns.stride * from->columns.input_step;
    const int32_t offsets = sign * from->input_offset * rows.count * columns.count;
    const int8_t *row;

    if (rows.count == 0 || columns.count == 0) {
        return;
    }
    row = from->input + rows.first * from->rows.input_step + columns.first * from->columns.input_step;
#if QUTE_DSP
    if (lanes == 4) {
        uint32_t even = 0;
        uint32_t odd = 0;
        int32_t room = MAX_PIXELS_IN_S16;
        for (int32_t y = rows.count; y > 0; y--) {
            const int8_t *pixel = row;
            int32_t left = columns.count;
            row += row_step;
            for (;;) {
                const int32_t run = smaller(left, room);
                left -= run;
                room -= run;
#pragma GCC unroll 4
                for (int32_t x = run; x > 0; x--) {
                    const uint32_t word = qute_load_s8x4(pixel);
                    even = qute_sxtab16(even, word);
                    odd = qute_sxtab16_odd(odd, word);
                    pixel += column_step;
                }
                if (left == 0) {
                    break;
                }
                sums[0] += sign * (int16_t)even;
                sums[1] += sign * (int16_t)odd;
                sums[2] += sign * ((int32_t)even >> 16);
                sums[3] += sign * ((int32_t)odd >> 16);
                even = 0;
                odd = 0;
                room = MAX_PIXELS_IN_S16;
            }
        }
        sums[0] += sign * (int16_t)even + offsets;
        sums[1] += sign * (int16_t)odd + offsets;
        sums[2] += sign * ((int32_t)even >> 16) + offsets;
        sums[3] += sign * ((int32_t)odd >> 16) + offsets;
        return;
    }
#endif
    for (int32_t lane = 0; lane < lanes; lane++) {
        int32_t sum = offsets;
        for (int32_t y = 0; y < rows.count; y++) {
            const int8_t *pixel = row + y * row_step + lane;
            for (int32_t x = columns.count; x > 0; x--) {
                sum += sign * *pixel;
                pixel += column_step;
            }
        }
        sums[lane] += sum;
    }
}

/* sums[tap][lane] of every tap of a part. */
QUTE_INLINE void sum_taps(const source *from, const part *p, int32_t sums[MAX_TAPS][MAX_LANES], int32_t lanes)
{
    int32_t(*target)[MAX_LANES] = sums;
    for (int32_t y = 0; y < p->rows; y++) {
        const int32_t row_tap = p->row + y;
        const int32_t last_row = (from->rows.outputs - 1) * from->rows.stride + row_tap - from->rows.padding;
        for (int32_t x = 0; x < p->columns; x++) {
            const int32_t column_tap = p->column + x;
            lines rows[2];
            lines columns[2];
            int32_t before;
            rows[0] = rows[1] = lines_of_tap(&from->rows, row_tap);
            columns[0] = columns[1] = lines_of_tap(&from->columns, column_tap);
            if (x >= from->columns.stride) {
                const int32_t last = (from->columns.outputs - 1) * from->columns.stride;
                const int32_t tap = column_tap - from->columns.padding;
                before = from->columns.stride;
                columns[0] = one_line(&from->columns, last + tap);
                columns[1] = one_line(&from->columns, tap - from->columns.stride);
            } else if (y >= from->rows.stride) {
                before = from->rows.stride * p->columns;
                rows[0] = one_line(&from->rows, last_row);
                rows[1] = one_line(&from->rows, row_tap - from->rows.padding - from->rows.stride);
            } else {
                before = 0;
                rows[1].count = 0;
            }
            for (int32_t lane = 0; lane < lanes; lane++) {
                (*target)[lane] = before != 0 ? target[-before][lane] : 0;
            }
            for (int32_t i = 0; i < 2; i++) {
                add_grid(from, rows[i], columns[i], 1 - 2 * i, *target, lanes);
            }
            target++;
        }
    }
}

/* The features of `lanes` channels from `channel` on, for every head. */
QUTE_INLINE void features_of_channels(
    const qute_head_features_params *params, const int8_t *input, int32_t channel, int16_t *output, int32_t lanes)
{
    const int32_t taps = params->kernel_height * params->kernel_width;
    const int32_t pixels = params->output_height * params->output_width;
    const int32_t part_columns = smaller(params->kernel_width, MAX_TAPS);
    const int32_t part_rows = MAX_TAPS / part_columns;
    const int8_t *weights = params->weights + channel;
    int32_t sums[MAX_TAPS][MAX_LANES];
    source from;
    from.rows = qute_head_rows(params);
    from.columns = qute_head_columns(params);
    from.input = input + channel;
    from.input_offset = params->input_offset;

    for (int32_t head = 0; head < params->heads; head++) {
        const int32_t index = head * params->channels + channel;
        int32_t totals[MAX_LANES];
        for (int32_t lane = 0; lane < lanes; lane++) {
            totals[lane] = pixels * params->bias[index + lane];
        }
        for (int32_t row = 0; row < params->kernel_height; row += part_rows) {
            for (int32_t column = 0; column < params->kernel_width; column += part_columns) {
                part p;
                p.row = row;
                p.column = column;
                p.rows = smaller(part_rows, params->kernel_height - row);
                p.columns = smaller(part_columns, params->kernel_width - column);
                if (head == 0 || taps > MAX_TAPS) {
                    sum_taps(&from, &p, sums, lanes);
                }
                /* The taps of a part follow each other: one that is narrower than the kernel has one row. */
                for (int32_t i = 0; i < p.rows * p.columns; i++) {
                    for (int32_t lane = 0; lane < lanes; lane++) {
                        totals[lane] += weights[lane] * sums[i][lane];
                    }
                    weights += params->channels;
                }
            }
        }
        for (int32_t lane = 0; lane < lanes; lane++) {
            output[index + lane] = qute_head_feature(params, totals[lane], index + lane);
        }
    }
}

void qute_head_features_s8(const qute_head_features_params *params, const int8_t *input, int16_t *output)
{
    int32_t channel = 0;
#if QUTE_DSP
    for (; channel + 4 <= params->channels; channel += 4) {
        features_of_channels(params, input, channel, output, 4);
    }
#endif
    for (; channel < params->channels; channel++) {
        features_of_channels(params, input, channel, output, 1);
    }
}
