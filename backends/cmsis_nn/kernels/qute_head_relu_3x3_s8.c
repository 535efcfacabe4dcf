// SPDX-License-Identifier: Apache-2.0
/* Kernels of 3x3 and stride 1, channel by channel. What all heads share, the inputs of one channel widened to 16 bits,
 * goes through a strip of the stack: four lines of the map, of which two are new for every two lines of outputs. */
#include "qute_intrinsics.h"

/* Without optimisation there are not enough registers. */
#if QUTE_DSP && defined(__OPTIMIZE__)

#include "qute_head_features.h"

#define KERNEL 3
/* Heads whose sums are kept at a time. */
#define MAX_HEADS 4
/* Outputs along a strip. */
#define STRIP 13

/* One place of four lines: {line 0, line 1}, {line 2, line 3}, each plus the offset, or 0 outside of the map. */
typedef struct {
    uint32_t upper;
    uint32_t lower;
} column;

/* Moves the part of a strip that is inside the map two lines down, to end with lines y and y + 1. */
QUTE_NOINLINE void advance(const qute_head_relu_params *params, column *strip, int32_t count, const int8_t *line, int32_t y)
{
    const uint32_t offset = qute_pair(params->features.input_offset);
    const int32_t size = params->outer.size;
    /* Lines outside of the map are read from inside it, and masked. */
    const uint32_t mask = ((uint32_t)y < (uint32_t)size ? 0xffffU : 0U) |
                          ((uint32_t)(y + 1) < (uint32_t)size ? 0xffff0000U : 0U);
    const int32_t upper = qute_clamp(y, 0, size - 1) * params->outer.input_step;
    const int32_t below = qute_clamp(y + 1, 0, size - 1) * params->outer.input_step - upper;
    const int32_t step = params->inner.input_step;
    line += upper;
    for (; count > 0; count--) {
        strip->upper = strip->lower;
        strip->lower = qute_sadd16(qute_pkhbt(line[0], line[below]), offset) & mask;
        strip++;
        line += qute_any(step);
    }
}

/* max(0, .) of both outputs at each of `count` > 0 places of a strip, summed; the upper sums start with start[0], the
 * lower ones with start[1]. In assembly, because compilers that schedule this themselves run out of registers or copy
 * the loop many times. */
QUTE_NOINLINE int32_t sum_of_strip(const column *strip,
                                   int32_t count,
                                   const qute_head_relu_params *params,
                                   const int8_t *weights,
                                   const int32_t start[2])
{
    const int32_t line = params->outer.weight_step;
    const int32_t place = params->inner.weight_step;
    /* Weights in the pairs that meet a strip: lines {0, 1} and {1, 2} of each place. */
    const uint32_t a0 = qute_pkhbt(weights[0], weights[line]);
    const uint32_t c0 = qute_pkhbt(weights[line], weights[2 * line]);
    const uint32_t a1 = qute_pkhbt(weights[place], weights[place + line]);
    const uint32_t c1 = qute_pkhbt(weights[place + line], weights[place + 2 * line]);
    const uint32_t a2 = qute_pkhbt(weights[2 * place], weights[2 * place + line]);
    const uint32_t c2 = qute_pkhbt(weights[2 * place + line], weights[2 * (place + line)]);
    const column *const end = strip + count;
    int32_t total = 0;
    do {
        uint32_t upper;
        uint32_t lower;
        int32_t first;
        int32_t second;
        __asm__ volatile("ldrd %[first], %[second], [%[start]]\n\t"
                         "ldrd %[upper], %[lower], [%[strip]], #8\n\t"
                         "smlad %[first], %[upper], %[a0], %[first]\n\t"
                         "smlatb %[second], %[upper], %[a0], %[second]\n\t"
                         "smlabt %[first], %[lower], %[c0], %[first]\n\t"
                         "smlad %[second], %[lower], %[c0], %[second]\n\t"
                         "ldrd %[upper], %[lower], [%[strip]]\n\t"
                         "smlad %[first], %[upper], %[a1], %[first]\n\t"
                         "smlatb %[second], %[upper], %[a1], %[second]\n\t"
                         "smlabt %[first], %[lower], %[c1], %[first]\n\t"
                         "smlad %[second], %[lower], %[c1], %[second]\n\t"
                         "ldrd %[upper], %[lower], [%[strip], #8]\n\t"
                         "smlad %[first], %[upper], %[a2], %[first]\n\t"
                         "smlatb %[second], %[upper], %[a2], %[second]\n\t"
                         "smlabt %[first], %[lower], %[c2], %[first]\n\t"
                         "smlad %[second], %[lower], %[c2], %[second]\n\t"
                         "bic %[first], %[first], %[first], asr #31\n\t"
                         "add %[total], %[total], %[first]\n\t"
                         "bic %[second], %[second], %[second], asr #31\n\t"
                         "add %[total], %[total], %[second]\n\t"
                         : [strip] "+&r"(strip), [total] "+&r"(total), [upper] "=&r"(upper), [lower] "=&r"(lower),
                           [first] "=&r"(first), [second] "=&r"(second)
                         : [a0] "r"(a0), [a1] "r"(a1), [a2] "r"(a2), [c0] "r"(c0), [c1] "r"(c1), [c2] "r"(c2),
                           [start] "r"(start)
                         : "memory");
    } while (strip != end);
    return total;
}

QUTE_INLINE int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
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
    for (int32_t out_x = 0; out_x < params->inner.outputs; out_x += STRIP) {
        const int32_t x = out_x - params->inner.padding;
        const int32_t left = x < 0 ? -x : 0;
        const int32_t count = smaller(params->inner.outputs - out_x, STRIP);
        const int32_t inside = smaller(params->inner.size - x, count + KERNEL - 1) - left;
        column strip[STRIP + KERNEL - 1] = {{0, 0}};
        column *const first = strip + (inside > 0 ? left : 0);
        const int8_t *const line = input + (inside > 0 ? (x + left) * params->inner.input_step : 0);
        advance(params, first, inside, line, -params->outer.padding);
        for (int32_t out_y = 0; out_y < params->outer.outputs; out_y += 2) {
            advance(params, first, inside, line, out_y - params->outer.padding + 2);
            const int8_t *kernel = weights;
            const int16_t *bias = params->bias + index;
            for (int32_t k = 0; k < heads; k++) {
                int32_t start[2];
                start[0] = qute_shift_left(*bias, params->bias_shift);
                /* Where there is no lower line its outputs are far below 0. */
                start[1] = out_y + 1 < params->outer.outputs ? start[0] : INT32_MIN / 2;
                totals[k] += sum_of_strip(strip, count, params, kernel, start);
                kernel += KERNEL * KERNEL * features->channels;
                bias += features->channels;
            }
        }
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
