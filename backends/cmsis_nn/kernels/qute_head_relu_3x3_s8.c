// SPDX-License-Identifier: Apache-2.0
/* Kernels of 3x3 and stride 1, channel by channel. What all heads share, the inputs of one channel widened to 16 bits,
 * is kept in a tile on the stack; the weights of a head are kept in registers for all of a tile. */
#include "qute_intrinsics.h"

/* Without optimisation there are not enough registers. */
#if QUTE_DSP && defined(__OPTIMIZE__)

#include "qute_head_features.h"

#define KERNEL 3
/* Heads whose sums are kept at a time. */
#define MAX_HEADS 4
/* Pairs of lines of a tile, and the outputs that it serves: lines, and places along each. */
#define PAIRS 4
#define LINES (2 * PAIRS - (KERNEL - 1))
#define PLACES 13

/* One place of a tile: {line 0, line 1}, {line 2, line 3} and so on, each plus the offset, or 0 outside of the map. */
typedef struct {
    uint32_t pairs[PAIRS];
} column;

/* Widens lines y to end_y - 1, two at a time, at `count` places that are inside the map; `input` is the first of them
 * in line 0. */
QUTE_NOINLINE void widen(
    const qute_head_relu_params *params, const int8_t *input, int32_t y, int32_t end_y, column *tile, int32_t count)
{
    const uint32_t offset = qute_pair(params->features.input_offset);
    const int32_t last = params->outer.size - 1;
    const int32_t step = params->inner.input_step;
    for (uint32_t *pair = tile->pairs; y < end_y; y += 2) {
        /* Lines outside of the map are read from inside it, and masked. */
        const int32_t upper = qute_clamp(y, 0, last);
        const int32_t lower = qute_clamp(y + 1, 0, last);
        const uint32_t mask = (upper == y ? 0xffffU : 0U) | (lower == y + 1 ? 0xffff0000U : 0U);
        const int32_t below = (lower - upper) * params->outer.input_step;
        const int8_t *line = input + upper * params->outer.input_step;
        uint32_t *to = pair++;
        for (int32_t left = count; left > 0; left--) {
            *to = qute_sadd16(qute_pkhbt(line[0], line[below]), offset) & mask;
            to += PAIRS;
            line += qute_any(step);
        }
    }
}

/* Clears places begin to end - 1, a few, which a call of memset would make dearer. */
QUTE_NOINLINE void clear(column *tile, int32_t begin, int32_t end)
{
    for (; begin < end; begin += qute_any(1)) {
        const column zero = {{0}};
        tile[begin] = zero;
    }
}

/* What one column of the window adds to the output of the upper line, and to that of the lower. The first column has
 * the bias for its sum. */
#define ADD_UPPER(place, sum)                                                                                          \
    "smlad %[first], %[upper], %[a" place "], %[" sum "]\n\t"                                                          \
    "smlabt %[first], %[lower], %[c" place "], %[first]\n\t"
#define ADD_LOWER(place, sum)                                                                                          \
    "smlatb %[second], %[upper], %[a" place "], %[" sum "]\n\t"                                                        \
    "smlad %[second], %[lower], %[c" place "], %[second]\n\t"
#define NEXT_COLUMN "ldrd %[upper], %[lower], [%[at]], %[pitch]\n\t"
#define LAST_COLUMN "ldrd %[upper], %[lower], [%[at], %[pitch]]\n\t"
#define ADD_POSITIVE(sum)                                                                                              \
    "bic %[" sum "], %[" sum "], %[" sum "], asr #31\n\t"                                                              \
    "add %[total], %[total], %[" sum "]\n\t"

#define WEIGHTS                                                                                                        \
    [a0] "r"(a0), [a1] "r"(a1), [a2] "r"(a2), [c0] "r"(c0), [c1] "r"(c1), [c2] "r"(c2), [start] "r"(start),            \
        [pitch] "i"(sizeof(column))

/* The sum of max(0, .) over `count` > 0 places of `lines` lines of outputs. In assembly, because compilers that
 * schedule this themselves run out of registers or copy the loops many times. A window begins with its middle column,
 * which is the last one of the window before it and still in registers. */
QUTE_NOINLINE int32_t sum_of_tile(const qute_head_relu_params *params,
                                  const column *tile,
                                  int32_t count,
                                  int32_t lines,
                                  const int8_t *weights,
                                  int32_t start)
{
    const int32_t line = params->outer.weight_step;
    const int32_t place = params->inner.weight_step;
    /* Weights in the pairs that meet a tile: lines {0, 1} and {1, 2} of each place. */
    const uint32_t a0 = qute_pkhbt(weights[0], weights[line]);
    const uint32_t c0 = qute_pkhbt(weights[line], weights[2 * line]);
    const uint32_t a1 = qute_pkhbt(weights[place], weights[place + line]);
    const uint32_t c1 = qute_pkhbt(weights[place + line], weights[place + 2 * line]);
    const uint32_t a2 = qute_pkhbt(weights[2 * place], weights[2 * place + line]);
    const uint32_t c2 = qute_pkhbt(weights[2 * place + line], weights[2 * (place + line)]);
    const uint32_t *pair = tile->pairs;
    int32_t total = 0;
    uint32_t upper;
    uint32_t lower;
    int32_t first;
    for (; lines > 1; lines -= 2) {
        const uint32_t *at = pair;
        const uint32_t *const end = at + count * PAIRS;
        int32_t second;
        upper = at[PAIRS];
        lower = at[PAIRS + 1];
        do {
            __asm__ volatile(ADD_UPPER("1", "start") ADD_LOWER("1", "start")
                             NEXT_COLUMN ADD_UPPER("0", "first") ADD_LOWER("0", "second")
                             LAST_COLUMN ADD_UPPER("2", "first") ADD_LOWER("2", "second")
                             ADD_POSITIVE("first") ADD_POSITIVE("second")
                             : [at] "+&r"(at), [total] "+&r"(total), [upper] "+&r"(upper), [lower] "+&r"(lower),
                               [first] "=&r"(first), [second] "=&r"(second)
                             : WEIGHTS
                             : "memory");
        } while (at != end);
        pair++;
    }
    if (lines == 1) {
        const uint32_t *at = pair;
        const uint32_t *const end = at + count * PAIRS;
        upper = at[PAIRS];
        lower = at[PAIRS + 1];
        do {
            __asm__ volatile(ADD_UPPER("1", "start")
                             NEXT_COLUMN ADD_UPPER("0", "first")
                             LAST_COLUMN ADD_UPPER("2", "first")
                             ADD_POSITIVE("first")
                             : [at] "+&r"(at), [total] "+&r"(total), [upper] "+&r"(upper), [lower] "+&r"(lower),
                               [first] "=&r"(first)
                             : WEIGHTS
                             : "memory");
        } while (at != end);
    }
    return total;
}

QUTE_INLINE int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

QUTE_INLINE int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* The features of one channel for `heads` heads, whose first weight is at `weights` and first feature at `index`. */
QUTE_INLINE void features_of_channel(const qute_head_relu_params *params,
                                     const int8_t *input,
                                     const int8_t *weights,
                                     int32_t index,
                                     int32_t heads,
                                     int16_t *output)
{
    const qute_head_features *features = &params->features;
    int32_t totals[MAX_HEADS] = {0};
    for (int32_t out_x = 0; out_x < params->inner.outputs; out_x += PLACES) {
        const int32_t x = out_x - params->inner.padding;
        const int32_t count = smaller(params->inner.outputs - out_x, PLACES);
        const int32_t places = count + KERNEL - 1;
        const int32_t left = smaller(x < 0 ? -x : 0, places);
        const int32_t inside = larger(smaller(params->inner.size - x, places) - left, 0);
        const int8_t *const first = input + (inside > 0 ? (x + left) * params->inner.input_step : 0);
        column tile[PLACES + KERNEL - 1];
        clear(tile, 0, left);
        clear(tile, left + inside, places);
        int32_t out_y = 0;
        do {
            const int32_t lines = smaller(params->outer.outputs - out_y, LINES);
            const int32_t y = out_y - params->outer.padding;
            const int8_t *kernel = weights;
            const int16_t *bias = params->bias + index;
            widen(params, first, y, y + lines + KERNEL - 1, tile + left, inside);
            for (int32_t k = 0; k < heads; k++) {
                const int32_t start = qute_shift_left(*bias, params->bias_shift);
                totals[k] += sum_of_tile(params, tile, count, lines, kernel, start);
                kernel += KERNEL * KERNEL * features->channels;
                bias += features->channels;
            }
            out_y += LINES;
        } while (out_y < params->outer.outputs);
    }
    qute_store_features(features, totals, heads, index, features->channels, output);
}

void qute_head_relu_3x3_s8(const qute_head_relu_params *params, const int8_t *input, int16_t *output)
{
    const qute_head_features *features = &params->features;
    for (int32_t head = 0; head < features->heads; head += MAX_HEADS) {
        const int32_t heads = smaller(features->heads - head, MAX_HEADS);
        const int8_t *weights = features->weights + head * KERNEL * KERNEL * features->channels;
        for (int32_t channel = 0; channel < features->channels; channel++) {
            features_of_channel(
                params, input + channel, weights + channel, head * features->channels + channel, heads, output);
        }
    }
}

#else

#define LANES 1

#include "qute_head_relu.h"

void qute_head_relu_3x3_s8(const qute_head_relu_params *params, const int8_t *input, int16_t *output)
{
    qute_head_relu(params, input, output);
}

#endif
