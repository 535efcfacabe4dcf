// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"

/* Without optimisation there are not enough registers. */
#if QUTE_DSP && defined(__OPTIMIZE__)

#include "qute_head_features.h"
#include "qute_head_relu_3x3.h"

/* Heads that share a tile. */
#define MAX_HEADS 4
/* Lines of the map in a tile, which serves two lines of outputs. */
#define LINES 4

/* A tile has pairs {line 0, line 2} and {line 1, line 3}. */
QUTE_NOINLINE void fill_tile(const tile_line *lines,
                             int32_t at,
                             int32_t left,
                             int32_t inside,
                             uint32_t none,
                             uint32_t offset,
                             tile_column *column,
                             const tile_column *end)
{
    const block_pairs outside = pairs_of(none, none, offset);
    const int8_t *line_0 = pixels_at(lines, at);
    const int8_t *line_1 = pixels_at(lines + 1, at);
    const int8_t *line_2 = pixels_at(lines + 2, at);
    const int8_t *line_3 = pixels_at(lines + 3, at);
    QUTE_ROLLED
    for (; left > 0; left--) {
        put_column(column++, outside, outside);
    }
    QUTE_ROLLED
    for (; inside > 0; inside--) {
        const block_pairs first = pairs_of(qute_load_s8x4(line_0), qute_load_s8x4(line_2), offset);
        put_column(column++, first, pairs_of(qute_load_s8x4(line_1), qute_load_s8x4(line_3), offset));
        line_0 += lines[0].step;
        line_1 += lines[1].step;
        line_2 += lines[2].step;
        line_3 += lines[3].step;
    }
    QUTE_ROLLED
    while (column != end) {
        put_column(column++, outside, outside);
    }
}

/* What one column of the window adds to the output of the upper line, and to that of the lower; `m` is the half of the
 * middle line's weights. The first column has the bias for its sum. */
#define ADD_UPPER(outer, middle, m, sum)                                                                               \
    "smlad %[upper], %[first], %[" outer "], %[" sum "]\n\t"                                                           \
    "smlab" m " %[upper], %[second], %[" middle "], %[upper]\n\t"
#define ADD_LOWER(outer, middle, m, sum)                                                                               \
    "smlat" m " %[lower], %[first], %[" middle "], %[" sum "]\n\t"                                                     \
    "smlad %[lower], %[second], %[" outer "], %[lower]\n\t"
#define NEXT_COLUMN "ldrd %[first], %[second], [%[at]], %[pitch]\n\t"
#define LAST_COLUMN "ldrd %[first], %[second], [%[at], %[pitch]]\n\t"
#define ADD_POSITIVE(sum)                                                                                              \
    "usat %[" sum "], #31, %[" sum "]\n\t"                                                                             \
    "add %[total], %[total], %[" sum "]\n\t"

#define WEIGHTS                                                                                                        \
    [o0] "r"(w.outer[0]), [o1] "r"(w.outer[1]), [o2] "r"(w.outer[2]), [m01] "r"(w.middle_01), [m2] "r"(w.middle_2),    \
        [start] "r"(start), [pitch] "i"(sizeof(tile_column))

/* Adds max(0, .) of `count` > 0 places of one or two lines of outputs of one head to the sums of a block of channels. In
 * assembly, because compilers that schedule this themselves run out of registers. A window begins with its middle column,
 * which is the last one of the window before it and still in registers. */
QUTE_NOINLINE void add_head(const tile_column *tile,
                            int32_t count,
                            int32_t lines,
                            const int8_t *weights,
                            const int16_t *bias,
                            int32_t bias_shift,
                            int32_t *sums)
{
    const pixel_pairs *pixels = tile->channels;
    const int16_t *const bias_end = bias + LANES;
    QUTE_ROLLED
    do {
        const channel_weights w = weights_of(weights);
        const int32_t start = qute_shift_left(*bias++, bias_shift);
        const pixel_pairs *at = pixels++;
        const pixel_pairs *const end = at + count * LANES;
        uint32_t first = at[LANES].first;
        uint32_t second = at[LANES].second;
        int32_t total = *sums;
        int32_t upper;
        int32_t lower;
        if (lines == 1) {
            do {
                __asm__ volatile(ADD_UPPER("o1", "m01", "t", "start")
                                 NEXT_COLUMN ADD_UPPER("o0", "m01", "b", "upper")
                                 LAST_COLUMN ADD_UPPER("o2", "m2", "t", "upper")
                                 ADD_POSITIVE("upper")
                                 : [at] "+&r"(at), [total] "+&r"(total), [first] "+&r"(first), [second] "+&r"(second),
                                   [upper] "=&r"(upper)
                                 : WEIGHTS
                                 : "memory");
            } while (at != end);
        } else {
            do {
                __asm__ volatile(ADD_UPPER("o1", "m01", "t", "start") ADD_LOWER("o1", "m01", "t", "start")
                                 NEXT_COLUMN ADD_UPPER("o0", "m01", "b", "upper") ADD_LOWER("o0", "m01", "b", "lower")
                                 LAST_COLUMN ADD_UPPER("o2", "m2", "t", "upper") ADD_LOWER("o2", "m2", "t", "lower")
                                 ADD_POSITIVE("upper") ADD_POSITIVE("lower")
                                 : [at] "+&r"(at), [total] "+&r"(total), [first] "+&r"(first), [second] "+&r"(second),
                                   [upper] "=&r"(upper), [lower] "=&r"(lower)
                                 : WEIGHTS
                                 : "memory");
            } while (at != end);
        }
        *sums++ = total;
        weights += KERNEL * KERNEL;
    } while (bias != bias_end);
}

/* The features of a block of channels for `heads` heads from `head` on. */
QUTE_NOINLINE void features_of_block(
    const qute_head_relu_params *params, const int8_t *input, int32_t channel, int32_t head, int32_t heads, int16_t *output)
{
    const int32_t channels = params->features.channels;
    const int32_t step = params->inner.input_step;
    const uint32_t none = outside_of(params);
    int32_t sums[MAX_HEADS * LANES];
    int32_t lines;
    qute_clear(sums, heads * LANES);
    for (int32_t out_y = 0; out_y < params->outer.outputs; out_y += lines) {
        const int32_t y = out_y - params->outer.padding;
        const qute_taps met = qute_valid_taps(y, LINES, 1, params->outer.size);
        tile_line rows[LINES];
        lines = qute_smaller(params->outer.outputs - out_y, 2);
        find_lines(params, input + (y + met.begin) * params->outer.input_step, met.begin, met.end, &none, rows, LINES);
        for (int32_t out_x = 0; out_x < params->inner.outputs; out_x += PLACES) {
            const int32_t count = qute_smaller(params->inner.outputs - out_x, PLACES);
            const int32_t x = out_x - params->inner.padding;
            const qute_taps places = qute_valid_taps(x, count + KERNEL - 1, 1, params->inner.size);
            const int8_t *weights = params->features.weights + (head * channels + channel) * KERNEL * KERNEL;
            const int16_t *bias = params->bias + head * channels + channel;
            tile_column tile[PLACES + KERNEL - 1];
            fill_tile(rows,
                      (x + places.begin) * step + channel,
                      places.begin,
                      places.end - places.begin,
                      none,
                      qute_pair(params->features.input_offset),
                      tile,
                      tile + count + KERNEL - 1);
            for (int32_t k = 0; k < heads; k++) {
                add_head(tile, count, lines, weights, bias, params->bias_shift, sums + k * LANES);
                weights += channels * KERNEL * KERNEL;
                bias += channels;
            }
        }
    }
    for (int32_t k = 0; k < heads; k++) {
        const int32_t index = (head + k) * channels + channel;
        qute_store_features(&params->features, sums + k * LANES, LANES, index, 1, output);
    }
}

void qute_head_relu_3x3_s8x4(const qute_head_relu_params *params, const int8_t *input, int16_t *output)
{
    const qute_head_features *features = &params->features;
    for (int32_t head = 0; head < features->heads; head += MAX_HEADS) {
        const int32_t heads = qute_smaller(features->heads - head, MAX_HEADS);
        for (int32_t next = 0; next < features->channels; next += LANES) {
            features_of_block(params, input, qute_block(next, features->channels), head, heads, output);
        }
    }
}

#else

#define LANES 1
#define CHANNEL_STEP 9

#include "qute_head_relu.h"

void qute_head_relu_3x3_s8x4(const qute_head_relu_params *params, const int8_t *input, int16_t *output)
{
    qute_head_relu(params, input, output);
}

#endif
