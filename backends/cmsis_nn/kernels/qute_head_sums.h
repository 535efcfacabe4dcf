// SPDX-License-Identifier: Apache-2.0
/* Without an activation the sum over the output pixels is linear in the map: that of w * x over all taps and pixels is
 * that of w * S over the taps, S the sum of the inputs that a tap meets on its way over the map. At a stride of 1,
 * neighbouring taps meet the same lines but for one at either end, so that S follows from the one before.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_SUMS_H
#define QUTE_HEAD_SUMS_H

#include "qute_head_features.h"
#include "qute_head_lanes.h"

/* Heads at a time. */
#define MAX_HEADS 3

/* Sums over lines of the map, for a block of channels. */
typedef struct {
    const int8_t *input; /* the first value of the block */
    int32_t offset;
    const qute_head_sum_axis *across; /* the axis along lines */
    const qute_head_lines *part;      /* of each line */
    int32_t values[LANES];
} line_sums;

/* Adds `count` != 0 lines of an axis from `first` on or, where that is below 0, subtracts -count. */
QUTE_NOINLINE void add_lines(line_sums *sums, const qute_head_sum_axis *axis, int32_t first, int32_t count)
{
    const int32_t sign = count < 0 ? -1 : 1;
    const int32_t pixels = sums->part->count;
    const int32_t step = sums->across->stride * sums->across->input_step;
    const int8_t *line = sums->input + first * axis->input_step + sums->part->first * sums->across->input_step;
    for (count *= sign; count > 0; count--) {
        const int8_t *pixel = line;
#if LANES == 4
        uint32_t even = qute_pair(pixels * sums->offset);
        uint32_t odd = even;
#pragma GCC unroll 1
        for (int32_t i = pixels; i > 0; i--) {
            const uint32_t word = qute_load_s8x4(pixel);
            even = qute_sxtab16(even, word);
            odd = qute_sxtab16_odd(odd, word);
            pixel += step;
            /* Once more, by hand: compilers add a loop for what is left over. */
            if (--i > 0) {
                const uint32_t next = qute_load_s8x4(pixel);
                even = qute_sxtab16(even, next);
                odd = qute_sxtab16_odd(odd, next);
                pixel += step;
            }
        }
        sums->values[0] = qute_smlabb(even, (uint32_t)sign, sums->values[0]);
        sums->values[1] = qute_smlabb(odd, (uint32_t)sign, sums->values[1]);
        sums->values[2] = qute_smlatb(even, (uint32_t)sign, sums->values[2]);
        sums->values[3] = qute_smlatb(odd, (uint32_t)sign, sums->values[3]);
#else
        int32_t sum = pixels * sums->offset;
        for (int32_t i = pixels; i > 0; i--) {
            sum += *pixel;
            pixel += step;
        }
        sums->values[0] += sign * sum;
#endif
        line += axis->stride * axis->input_step;
    }
}

/* From the sums of the tap before `tap` along an axis to its own. */
QUTE_COLD void move_sums(line_sums *sums, const qute_head_sum_axis *axis, int32_t tap)
{
    const qute_head_lines *lines = axis->lines + tap;
    const int32_t first = lines->first;
    const int32_t end = first + lines->count;
    int32_t old_first = first;
    int32_t old_end = first;
    if (tap > 0 && axis->stride == 1) {
        old_first = lines[-1].first;
        old_end = old_first + lines[-1].count;
    } else {
        memset(sums->values, 0, sizeof sums->values);
    }
    if (sums->part->count == 0) {
        return;
    }
    if (first != old_first) {
        add_lines(sums, axis, old_first, old_first - first);
    }
    if (end != old_end) {
        add_lines(sums, axis, old_end, end - old_end);
    }
}

/* totals[lane] += weights[lane] * values[lane] for `count` heads, whose weights are `step` bytes apart. */
QUTE_COLD void add_products(
    const int8_t *weights, int32_t step, const int32_t *values, int32_t *totals, int32_t count)
{
    const int32_t *const end = totals + count * LANES;
#if LANES == 4
    const int32_t v0 = values[0];
    const int32_t v1 = values[1];
    const int32_t v2 = values[2];
    const int32_t v3 = values[3];
    do {
        const uint32_t word = qute_load_s8x4(weights);
        const int32_t t0 = totals[0] + (int8_t)word * v0;
        const int32_t t1 = totals[1] + (int8_t)(word >> 8) * v1;
        const int32_t t2 = totals[2] + (int8_t)(word >> 16) * v2;
        const int32_t t3 = totals[3] + (int8_t)(word >> 24) * v3;
        *totals++ = t0;
        *totals++ = t1;
        *totals++ = t2;
        *totals++ = t3;
        weights += step;
    } while (totals != end);
#else
    do {
        *totals++ += *weights * *values;
        weights += step;
    } while (totals != end);
#endif
}

/* The features of the block of channels at `channel`, for `heads` heads from `head` on. */
QUTE_INLINE void features_of_block(
    const qute_head_sums_params *params, const int8_t *input, int32_t channel, int32_t head, int32_t heads, int16_t *output)
{
    const qute_head_features *features = &params->features;
    const int32_t kernel = params->outer.taps * params->inner.taps * features->channels;
    const int8_t *row = features->weights + head * kernel + channel;
    int32_t totals[MAX_HEADS * LANES] = {0};
    int32_t row_sums[LANES] = {0};
    line_sums sums;
    sums.input = input + channel;
    sums.offset = features->input_offset;
    for (int32_t i = 0; i < params->outer.taps; i++) {
        const int8_t *tap = row;
        memcpy(sums.values, row_sums, sizeof row_sums);
        sums.across = &params->inner;
        sums.part = params->inner.lines;
        move_sums(&sums, &params->outer, i);
        memcpy(row_sums, sums.values, sizeof row_sums);
        sums.across = &params->outer;
        sums.part = params->outer.lines + i;
        for (int32_t j = 0;;) {
            add_products(tap, kernel, sums.values, totals, heads);
            tap += params->inner.weight_step;
            if (++j == params->inner.taps) {
                break;
            }
            move_sums(&sums, &params->inner, j);
        }
        row += params->outer.weight_step;
    }
    for (int32_t k = 0; k < heads; k++) {
        qute_store_features(
            features, totals + k * LANES, LANES, (head + k) * features->channels + channel, 1, output);
    }
}

QUTE_INLINE void qute_head_sums(const qute_head_sums_params *params, const int8_t *input, int16_t *output)
{
    const qute_head_features *features = &params->features;
    for (int32_t head = 0; head < features->heads; head += MAX_HEADS) {
        const int32_t left = features->heads - head;
        const int32_t heads = left < MAX_HEADS ? left : MAX_HEADS;
        for (int32_t next = 0; next < features->channels; next += LANES) {
            features_of_block(params, input, qute_block(next, features->channels), head, heads, output);
        }
    }
}

#endif
