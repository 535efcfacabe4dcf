// SPDX-License-Identifier: Apache-2.0
/* Without an activation the sum over the output pixels is linear in the map:
 *
 *     sum over pixels of (bias + sum over taps of w * x) = pixels * bias + sum over taps of w * S,
 *
 * where S of a tap is the sum of the inputs that it meets. Taps `stride` apart along an axis meet the same lines of
 * the map but for one at either end, so that all but stride * stride of these sums follow from one before. */
#include "qute_head_features.h"

/* Larger kernels take a slow road. */
#define MAX_TAPS 9
/* Output pixels at a time: so many values of 9 bits have a sum of 16 bits. */
#define MAX_PIXELS 128
/* Heads at a time. */
#define MAX_HEADS 4

#if QUTE_DSP

/* Channels at a time; the last block of a map overlaps the one before it. */
#define LANES 4

/* Channels {0, 2} and {1, 3}. */
typedef struct {
    uint32_t even;
    uint32_t odd;
} lane_sums;

QUTE_INLINE lane_sums added(lane_sums sums, int32_t offset)
{
    const uint32_t pair = qute_pair(offset);
    sums.even = qute_sadd16(sums.even, pair);
    sums.odd = qute_sadd16(sums.odd, pair);
    return sums;
}

QUTE_INLINE lane_sums negated(lane_sums sums)
{
    sums.even = qute_ssub16(0, sums.even);
    sums.odd = qute_ssub16(0, sums.odd);
    return sums;
}

QUTE_INLINE lane_sums with_run(lane_sums sums, const int8_t *pixel, int32_t count, int32_t step)
{
#pragma GCC unroll 4
    for (; count > 0; count--) {
        const uint32_t word = qute_load_s8x4(pixel);
        sums.even = qute_sxtab16(sums.even, word);
        sums.odd = qute_sxtab16_odd(sums.odd, word);
        pixel += step;
    }
    return sums;
}

/* totals[lane] += weights * sums of `taps` taps. */
QUTE_INLINE void add_products(
    const int8_t *weights, int32_t step, const lane_sums *sums, int32_t taps, int32_t totals[LANES])
{
    int32_t t0 = totals[0];
    int32_t t1 = totals[1];
    int32_t t2 = totals[2];
    int32_t t3 = totals[3];
    for (; taps > 0; taps--) {
        const uint32_t word = qute_load_s8x4(weights);
        const uint32_t even = qute_sxtb16(word);
        const uint32_t odd = qute_sxtb16_odd(word);
        t0 = qute_smlabb(even, sums->even, t0);
        t1 = qute_smlabb(odd, sums->odd, t1);
        t2 = qute_smlatt(even, sums->even, t2);
        t3 = qute_smlatt(odd, sums->odd, t3);
        weights += step;
        sums++;
    }
    totals[0] = t0;
    totals[1] = t1;
    totals[2] = t2;
    totals[3] = t3;
}

#else

#define LANES 1

typedef int32_t lane_sums;

QUTE_INLINE lane_sums added(lane_sums sum, int32_t offset)
{
    return sum + offset;
}

QUTE_INLINE lane_sums negated(lane_sums sum)
{
    return -sum;
}

QUTE_INLINE lane_sums with_run(lane_sums sum, const int8_t *pixel, int32_t count, int32_t step)
{
    for (; count > 0; count--) {
        sum += *pixel;
        pixel += step;
    }
    return sum;
}

/* totals[0] += weights * sums of `taps` taps. */
QUTE_INLINE void add_products(
    const int8_t *weights, int32_t step, const lane_sums *sums, int32_t taps, int32_t totals[LANES])
{
    int32_t total = totals[0];
    for (; taps > 0; taps--) {
        total += *weights * *sums++;
        weights += step;
    }
    totals[0] = total;
}

#endif

/* The lines of the map that one tap meets along an axis: every stride-th from the first on. */
typedef struct {
    int32_t first;
    int32_t count;
} lines;

/* How the sum of a tap follows from that of the tap `before` places earlier, if that is not 0: plus an offset and the
 * pixels of one grid, less those of another of the same size. A grid is `runs` runs of `length` pixels, along the
 * rows or across; `plus` and `minus` are its first byte, or -1 for none. */
typedef struct {
    int32_t plus;
    int32_t minus;
    int16_t offset;
    uint8_t runs;
    uint8_t length;
    uint8_t across;
    uint8_t before;
} tap_plan;

typedef struct {
    qute_head_axis rows;
    qute_head_axis columns;
    int32_t row_step;
    int32_t column_step;
    int32_t taps;
    tap_plan tap[MAX_TAPS];
} plan;

QUTE_COLD lines lines_of_tap(const qute_head_axis *axis, int32_t tap)
{
    const int32_t base = tap - axis->padding;
    int32_t begin = base < 0 ? -base : 0;
    int32_t end = axis->size > base ? axis->size - base : 0;
    lines met;
    if (axis->stride > 1) {
        begin = (begin + axis->stride - 1) / axis->stride;
        end = (end + axis->stride - 1) / axis->stride;
    }
    end = end < axis->outputs ? end : axis->outputs;
    met.first = base + begin * axis->stride;
    met.count = end > begin ? end - begin : 0;
    return met;
}

/* The first byte of line `tap` - padding + `distance`, plus `start`; -1 if it lies outside of the map. */
static int32_t line_at(const qute_head_axis *axis, int32_t tap, int32_t distance, int32_t start)
{
    const int32_t line = tap - axis->padding + distance;
    return line >= 0 && line < axis->size ? line * axis->input_step + start : -1;
}

QUTE_COLD void plan_tap(const plan *p, int32_t y, int32_t x, int32_t input_offset, tap_plan *tap)
{
    lines rows = lines_of_tap(&p->rows, y);
    lines columns = lines_of_tap(&p->columns, x);
    int32_t count = rows.count * columns.count;
    tap->before = 0;
    tap->plus = rows.first * p->rows.input_step + columns.first * p->columns.input_step;
    tap->minus = -1;
    if (x >= p->columns.stride) {
        const int32_t start = rows.first * p->rows.input_step;
        tap->before = (uint8_t)p->columns.stride;
        tap->plus = line_at(&p->columns, x, (p->columns.outputs - 1) * p->columns.stride, start);
        tap->minus = line_at(&p->columns, x, -p->columns.stride, start);
        columns.count = 1;
    } else if (y >= p->rows.stride) {
        const int32_t start = columns.first * p->columns.input_step;
        tap->before = (uint8_t)(p->rows.stride * p->columns.taps);
        tap->plus = line_at(&p->rows, y, (p->rows.outputs - 1) * p->rows.stride, start);
        tap->minus = line_at(&p->rows, y, -p->rows.stride, start);
        rows.count = 1;
    }
    if (tap->before != 0) {
        count = rows.count * columns.count * ((tap->plus >= 0) - (tap->minus >= 0));
    }
    if (rows.count == 0 || columns.count == 0) {
        tap->plus = -1;
        tap->minus = -1;
    }
    tap->offset = (int16_t)(input_offset * count);
    tap->across = columns.count == 1;
    tap->runs = (uint8_t)(tap->across ? columns.count : rows.count);
    tap->length = (uint8_t)(tap->across ? rows.count : columns.count);
}

/* Plans the sums over `count` rows of outputs from `first` on. */
QUTE_COLD void make_plan(plan *p, const qute_head_axis *rows, int32_t first, int32_t count, int32_t input_offset)
{
    tap_plan *tap = p->tap;
    p->rows = *rows;
    p->rows.outputs = count;
    p->rows.padding -= first * rows->stride;
    for (int32_t y = 0; y < p->rows.taps; y++) {
        for (int32_t x = 0; x < p->columns.taps; x++) {
            plan_tap(p, y, x, input_offset, tap++);
        }
    }
}

/* The sums of all taps for the block of channels at `input`. */
QUTE_NOINLINE void sum_taps(const plan *p, const int8_t *input, lane_sums *sums)
{
    const tap_plan *tap = p->tap;
    for (int32_t left = p->taps; left > 0; left--) {
        const int32_t step = tap->across ? p->row_step : p->column_step;
        lane_sums sum = {0};
        if (tap->before != 0) {
            sum = sums[-tap->before];
        }
        sum = negated(sum);
#pragma GCC unroll 1
        for (int32_t pass = 0; pass < 2; pass++) {
            const int32_t at = pass == 0 ? tap->minus : tap->plus;
            if (at >= 0) {
                const int8_t *pixel = input + at;
                for (int32_t run = tap->runs; run > 0; run--) {
                    sum = with_run(sum, pixel, tap->length, step);
                    pixel += p->row_step;
                }
            }
            sum = pass == 0 ? negated(sum) : sum;
        }
        *sums++ = added(sum, tap->offset);
        tap++;
    }
}

/* Adds weights * sums over all taps to the lanes of `totals`. */
QUTE_INLINE void add_kernel(const plan *p, const int8_t *weights, const lane_sums *sums, int32_t *totals)
{
    for (int32_t y = p->rows.taps; y > 0; y--) {
        add_products(weights, p->columns.weight_step, sums, p->columns.taps, totals);
        weights += p->rows.weight_step;
        sums += p->columns.taps;
    }
}

/* The features of the block of channels from `channel` on, for `heads` heads. `whole` is set where the plan is that of
 * all rows of outputs. */
QUTE_NOINLINE void features_of_block(const qute_head_features_params *params,
                              plan *p,
                              const qute_head_axis *rows,
                              int32_t whole,
                              const int8_t *input,
                              int32_t channel,
                              int32_t first,
                              int32_t heads,
                              int16_t *output)
{
    const int32_t kernel = p->taps * params->channels;
    const int32_t band = MAX_PIXELS / p->columns.outputs;
    const int32_t pixels = params->output_height * params->output_width;
    const int32_t index = first * params->channels + channel;
    int32_t totals[MAX_HEADS * LANES];
    lane_sums sums[MAX_TAPS];

#pragma GCC unroll 1
    for (int32_t i = 0; i < heads * LANES; i++) {
        totals[i] = pixels * params->bias[index + i / LANES * params->channels + i % LANES];
    }
    for (int32_t row = 0; row < rows->outputs; row += band) {
        const int8_t *weights = params->weights + first * kernel + channel;
        const int32_t left = rows->outputs - row;
        if (!whole) {
            make_plan(p, rows, row, left < band ? left : band, params->input_offset);
        }
        sum_taps(p, input + channel, sums);
#pragma GCC unroll 1
        for (int32_t head = 0; head < heads; head++) {
            add_kernel(p, weights, sums, totals + head * LANES);
            weights += kernel;
        }
    }
#pragma GCC unroll 1
    for (int32_t head = 0; head < heads; head++) {
        qute_store_features(params, totals + head * LANES, LANES, index + head * params->channels, 1, output);
    }
}

/* A feature tap by tap, for kernels and maps that no plan is made for. `input` and `weights` start at the channel. */
QUTE_COLD int32_t sum_by_tap(
    const qute_head_axis *rows, const qute_head_axis *columns, const int8_t *input, int32_t offset, const int8_t *weights)
{
    int32_t total = 0;
    for (int32_t y = 0; y < rows->taps; y++) {
        const lines row_lines = lines_of_tap(rows, y);
        for (int32_t x = 0; x < columns->taps; x++) {
            const lines column_lines = lines_of_tap(columns, x);
            int32_t sum = row_lines.count * column_lines.count * offset;
            for (int32_t i = 0; i < row_lines.count; i++) {
                const int32_t row = (row_lines.first + i * rows->stride) * rows->input_step;
                for (int32_t j = 0; j < column_lines.count; j++) {
                    sum += input[row + (column_lines.first + j * columns->stride) * columns->input_step];
                }
            }
            total += weights[y * rows->weight_step + x * columns->weight_step] * sum;
        }
    }
    return total;
}

QUTE_COLD void features_by_tap(const qute_head_features_params *params,
                            const qute_head_axis *rows,
                            const qute_head_axis *columns,
                            const int8_t *input,
                            int16_t *output)
{
    const int32_t pixels = params->output_height * params->output_width;
    const int8_t *weights = params->weights;
    int32_t index = 0;
    for (int32_t head = 0; head < params->heads; head++) {
        for (int32_t channel = 0; channel < params->channels; channel++) {
            const int32_t sum = sum_by_tap(rows, columns, input + channel, params->input_offset, weights + channel);
            const int32_t total = sum + pixels * params->bias[index];
            qute_store_features(params, &total, 1, index, 1, output);
            index++;
        }
        weights += params->kernel_height * params->kernel_width * params->channels;
    }
}

void qute_head_features_s8(const qute_head_features_params *params, const int8_t *input, int16_t *output)
{
    const int32_t channels = params->channels;
    qute_head_axis rows = qute_head_rows(params);
    int32_t whole;
    plan p;

    p.columns = qute_head_columns(params);
    if (p.columns.outputs > MAX_PIXELS) {
        const qute_head_axis axis = rows;
        rows = p.columns;
        p.columns = axis;
    }
    p.taps = rows.taps * p.columns.taps;
    p.row_step = rows.stride * rows.input_step;
    p.column_step = p.columns.stride * p.columns.input_step;
    if (p.taps > MAX_TAPS || channels < LANES || p.columns.outputs > MAX_PIXELS) {
        features_by_tap(params, &rows, &p.columns, input, output);
        return;
    }

    whole = rows.outputs * p.columns.outputs <= MAX_PIXELS;
    if (whole) {
        make_plan(&p, &rows, 0, rows.outputs, params->input_offset);
    } else {
        p.rows = rows;
    }
    for (int32_t first = 0; first < params->heads; first += MAX_HEADS) {
        const int32_t left = params->heads - first;
        const int32_t heads = left < MAX_HEADS ? left : MAX_HEADS;
        for (int32_t next = 0; next < channels; next += LANES) {
            const int32_t channel = next + LANES <= channels ? next : channels - LANES;
            features_of_block(params, &p, &rows, whole, input, channel, first, heads, output);
        }
    }
}
