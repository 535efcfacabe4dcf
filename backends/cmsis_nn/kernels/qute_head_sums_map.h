// SPDX-License-Identifier: Apache-2.0
/* Features of heads without an activation, of a whole map.
 *
 * Lines that the same taps of the outer axis meet are summed up before they are multiplied, by the sum of the weights of
 * these taps. At a stride of 1, neighbouring taps of the inner axis meet the same pixels but for one at either end.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_SUMS_MAP_H
#define QUTE_HEAD_SUMS_MAP_H

#include "qute_head_features.h"
#include "qute_head_sums.h"

/* Heads that share one reading of the map. */
#define MAX_HEADS 4

/* The sums with a pixel more, and with one less. */
QUTE_INLINE pixel_sums with_pixel(pixel_sums sums, const int8_t *pixel, int32_t offset)
{
#if LANES == 4
    const uint32_t word = qute_load_s8x4(pixel);
    sums.even = qute_sadd16(sums.even, qute_sxtab16(qute_pair(offset), word));
    sums.odd = qute_sadd16(sums.odd, qute_sxtab16_odd(qute_pair(offset), word));
    return sums;
#else
    return sums + *pixel + offset;
#endif
}

QUTE_INLINE pixel_sums without_pixel(pixel_sums sums, const int8_t *pixel, int32_t offset)
{
#if LANES == 4
    const uint32_t word = qute_load_s8x4(pixel);
    sums.even = qute_ssub16(sums.even, qute_sxtab16(qute_pair(offset), word));
    sums.odd = qute_ssub16(sums.odd, qute_sxtab16_odd(qute_pair(offset), word));
    return sums;
#else
    return sums - *pixel - offset;
#endif
}

QUTE_INLINE pixel_sums sum_of_both(pixel_sums a, pixel_sums b)
{
#if LANES == 4
    a.even = qute_sadd16(a.even, b.even);
    a.odd = qute_sadd16(a.odd, b.odd);
    return a;
#else
    return a + b;
#endif
}

/* Columns of taps that are worked on at a time, and the pixels of each; the sums of pixels must fit 16 bits. */
#define COLUMNS 3
typedef struct {
    pixel_sums of[COLUMNS];
} column_sums;

/* Adds the pixels of a line that `count` columns of taps meet. */
QUTE_INLINE void add_line(const qute_head_sum_axis *axis,
                          const qute_head_lines *column,
                          int32_t count,
                          const int8_t *line,
                          int32_t offset,
                          column_sums *sums)
{
    const int32_t step = axis->input_step;
    pixel_sums *sum = sums->of;
    pixel_sums *const end = sum + count;
    pixel_sums pixels = sum_of_pixels(line + column->first * step, column->count, axis->stride * step, offset);
    for (;;) {
        *sum = sum_of_both(*sum, pixels);
        if (++sum == end) {
            break;
        }
        column++;
        if (axis->stride == 1) {
            const int32_t old_end = column[-1].first + column[-1].count;
            if (column->first != column[-1].first) {
                pixels = without_pixel(pixels, line + column[-1].first * step, offset);
            }
            if (column->first + column->count != old_end) {
                pixels = with_pixel(pixels, line + old_end * step, offset);
            }
        } else {
            pixels = sum_of_pixels(line + column->first * step, column->count, axis->stride * step, offset);
        }
    }
}

/* totals[head][lane] += pixels * weights, the weights of the `taps` > 0 taps of a column summed up. Those of a column are
 * `tap_step` bytes apart, of columns `column_step`, of heads `head_step`. */
QUTE_INLINE void add_products(const column_sums *sums,
                              int32_t columns,
                              const int8_t *weights,
                              int32_t column_step,
                              int32_t taps,
                              int32_t tap_step,
                              int32_t heads,
                              int32_t head_step,
                              int32_t *totals)
{
    const pixel_sums *const end = sums->of + columns;
    for (; heads > 0; heads--) {
        const int8_t *column = weights;
        const pixel_sums *pixels = sums->of;
        int32_t products[LANES];
        memcpy(products, totals, sizeof products);
        QUTE_ROLLED
        do {
            const int8_t *tap = column;
            int32_t left = taps;
#if LANES == 4
            uint32_t word = qute_load_s8x4(tap);
            uint32_t even = qute_sxtb16(word);
            uint32_t odd = qute_sxtb16_odd(word);
            QUTE_ROLLED
            while (--left > 0) {
                tap += tap_step;
                word = qute_load_s8x4(tap);
                even = qute_sxtab16(even, word);
                odd = qute_sxtab16_odd(odd, word);
            }
            products[0] = qute_smlabb(pixels->even, even, products[0]);
            products[1] = qute_smlabb(pixels->odd, odd, products[1]);
            products[2] = qute_smlatt(pixels->even, even, products[2]);
            products[3] = qute_smlatt(pixels->odd, odd, products[3]);
#else
            int32_t weight = *tap;
            QUTE_ROLLED
            while (--left > 0) {
                tap += tap_step;
                weight += *tap;
            }
            products[0] += weight * *pixels;
#endif
            column += column_step;
        } while (++pixels != end);
        memcpy(totals, products, sizeof products);
        weights += head_step;
        totals += LANES;
    }
}

/* What `count` columns of taps, the first at `weights`, add to totals [heads][LANES]. */
QUTE_NOINLINE void add_columns(const qute_head_sums_params *params,
                               const int8_t *input,
                               const qute_head_lines *columns,
                               int32_t count,
                               const int8_t *weights,
                               int32_t heads,
                               int32_t *totals)
{
    const qute_head_sum_axis *outer = &params->outer;
    const int32_t kernel = outer->taps * params->inner.taps * params->features.channels;
    const qute_head_line_class *met = params->classes;
    for (int32_t left = params->class_count; left > 0; left--) {
        const int8_t *line = input + met->lines.first * outer->input_step;
        column_sums sums;
        memset(&sums, 0, sizeof sums);
        for (int32_t i = met->lines.count; i > 0; i--) {
            add_line(&params->inner, columns, count, line, params->features.input_offset, &sums);
            line += outer->stride * outer->input_step;
        }
        add_products(&sums,
                     count,
                     weights + met->tap * outer->weight_step,
                     params->inner.weight_step,
                     met->taps,
                     outer->stride * outer->weight_step,
                     heads,
                     kernel,
                     totals);
        met++;
    }
}

QUTE_INLINE void qute_head_sums_map(const qute_head_sums_params *params, const int8_t *input, int16_t *output)
{
    const qute_head_features *features = &params->features;
    const int32_t channels = features->channels;
    const int8_t *weights = features->weights;
    for (int32_t head = 0; head < features->heads; head += MAX_HEADS) {
        const int32_t heads = qute_smaller(features->heads - head, MAX_HEADS);
        for (int32_t next = 0; next < channels; next += LANES) {
            const int32_t channel = qute_block(next, channels);
            int32_t totals[MAX_HEADS * LANES];
            qute_clear(totals, heads * LANES);
            for (int32_t j = 0; j < params->inner.taps; j += COLUMNS) {
                add_columns(params,
                            input + channel,
                            params->columns + j,
                            qute_smaller(params->inner.taps - j, COLUMNS),
                            weights + j * params->inner.weight_step + channel,
                            heads,
                            totals);
            }
            for (int32_t k = 0; k < heads; k++) {
                qute_store_features(
                    features, totals + k * LANES, LANES, (head + k) * channels + channel, 1, output);
            }
        }
        weights += heads * params->outer.taps * params->inner.taps * channels;
    }
}

#endif
