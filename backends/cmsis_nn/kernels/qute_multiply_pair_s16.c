// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_convolve.h"
#include "qute_output.h"
#include "qute_plain_blocks.h"

/* Channels two by two. sums[c * 2 + p] belongs to channel c and pixel p; where loops have constant counts, the compiler
 * unrolls them and keeps the sums in registers. */

/* A product under way. */
typedef struct {
    const int16_t *columns;
    /* Whole groups of four values. */
    int32_t groups;
    const int8_t *weights;
    int32_t pitch;
    /* Values of the columns behind whole groups, and whether there are any, or a rest. */
    int32_t tail;
    int32_t more;
    const qute_rest *rest;
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t offset;
    int8_t *output;
    int32_t pixel_step;
} progress;

/* Constants and outputs of a channel that is computed twice, since it has no partner. */
typedef struct {
    int32_t bias[2];
    int32_t multiplier[2];
    int32_t shift[2];
    int8_t output[4];
} last_channel;

#if QUTE_DSP

/* int16 values of a group of both columns. */
#define GROUP_STEP 8

/* Four weights of each of two channels, as words, times a group. */
QUTE_INLINE void add_group(const int16_t *columns, const uint32_t words[2], int32_t sums[4])
{
    for (int32_t c = 0; c < 2; c++) {
        const uint32_t even = qute_sxtb16(words[c]);
        const uint32_t odd = qute_sxtb16_odd(words[c]);
        for (int32_t p = 0; p < 2; p++) {
            sums[c * 2 + p] = qute_smlad(even, qute_load_s16x2(columns + 2 * p), sums[c * 2 + p]);
            sums[c * 2 + p] = qute_smlad(odd, qute_load_s16x2(columns + 4 + 2 * p), sums[c * 2 + p]);
        }
    }
}

QUTE_INLINE void add_groups(const progress *at, int32_t sums[4])
{
#if QUTE_BLOCKS
    qute_block_s16(at->columns, at->weights, at->pitch, at->groups, sums);
#else
    const int8_t *weights = at->weights;
    for (int32_t n = 0; n < at->groups; n++) {
        const uint32_t words[2] = {qute_load_s8x4(weights), qute_load_s8x4(weights + at->pitch)};
        add_group(at->columns + GROUP_STEP * n, words, sums);
        weights += 4;
    }
#endif
}

QUTE_INLINE void add_tail(const progress *at, const int8_t *weights, int32_t sums[4])
{
    const uint32_t words[2] = {qute_load_s8_tail(weights, at->tail), qute_load_s8_tail(weights + at->pitch, at->tail)};
    add_group(at->columns + GROUP_STEP * at->groups, words, sums);
}

/* `exact`: not a byte behind the weights is read. Otherwise what is read there meets zeros in the columns. */
static void set_depth(progress *at, int32_t depth, int32_t exact)
{
    at->groups = exact ? depth >> 2 : (depth + 3) >> 2;
    at->tail = exact ? depth & 3 : 0;
    at->more = at->tail | at->rest->count;
}

#else

/* Plain C has no groups: all values are the tail. */
QUTE_INLINE void add_groups(const progress *at, int32_t sums[4])
{
    (void)at;
    (void)sums;
}

/* In variables, since a compiler cannot know that sums in memory are not what it reads. */
static void add_tail(const progress *at, const int8_t *weights, int32_t sums[4])
{
#if QUTE_THUMB1_BLOCKS || QUTE_THUMB2_BLOCKS
    qute_plain_pair_s16(at->columns, weights, at->pitch, at->tail, sums);
#else
    const int8_t *second = weights + at->pitch;
    const int16_t *x = at->columns;
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];
#pragma GCC unroll 4
    for (int32_t k = at->tail; k > 0; k--) {
        const int32_t w0 = *weights++;
        const int32_t w1 = *second++;
        const int32_t x0 = x[0];
        const int32_t x1 = x[1];
        x += 2;
        s0 = qute_wrapping_add(s0, w0 * x0);
        s1 = qute_wrapping_add(s1, w0 * x1);
        s2 = qute_wrapping_add(s2, w1 * x0);
        s3 = qute_wrapping_add(s3, w1 * x1);
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
#endif
}

static void set_depth(progress *at, int32_t depth, int32_t exact)
{
    (void)exact;
    at->groups = 0;
    at->tail = depth;
    at->more = 1;
}

#endif

/* Values one by one, from number `k` on. */
#if QUTE_BLOCKS
QUTE_COLD
#else
static
#endif
void add_values(const qute_rest *rest, const int8_t *weights, int32_t pitch, int32_t k, int32_t sums[4])
{
    const int8_t *x = rest->input + k;
    const int8_t *y = x + rest->step;
    const int8_t *second = weights + pitch + k;
    const int32_t offset = rest->offset;
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];
    weights += k;
#if !QUTE_BLOCKS
#pragma GCC unroll 4
#endif
    for (int32_t left = rest->count - k; left > 0; left--) {
        const int32_t w0 = *weights++;
        const int32_t w1 = *second++;
        const int32_t x0 = *x++ + offset;
        const int32_t x1 = *y++ + offset;
        s0 = qute_wrapping_add(s0, w0 * x0);
        s1 = qute_wrapping_add(s1, w0 * x1);
        s2 = qute_wrapping_add(s2, w1 * x0);
        s3 = qute_wrapping_add(s3, w1 * x1);
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

QUTE_INLINE void add_rest(const qute_rest *rest, const int8_t *weights, int32_t pitch, int32_t sums[4])
{
    int32_t k = 0;
#if QUTE_BLOCKS
    if (rest->step == pitch && rest->count >= 4) {
        k = rest->count & ~3;
        qute_block_s8(rest->input, qute_pair(rest->offset), weights, pitch, k >> 2, sums);
    }
#elif QUTE_THUMB1_BLOCKS
    if (rest->step == pitch) {
        qute_plain_pair_s8(rest->input, rest->offset, weights, pitch, rest->count, sums);
        k = rest->count;
    }
#endif
    if (k < rest->count) {
        add_values(rest, weights, pitch, k, sums);
    }
}

/* What is not in whole groups. */
QUTE_NOINLINE void add_more(const progress *at, int32_t sums[4])
{
    const int8_t *weights = at->weights + 4 * at->groups;
    if (at->tail > 0) {
        add_tail(at, weights, sums);
    }
    if (at->rest->count > 0) {
        add_rest(at->rest, weights + at->tail, at->pitch, sums);
    }
}

/* Turns to the last channel of an odd number. */
static void begin_last(progress *at, last_channel *last)
{
    last->bias[0] = at->bias ? at->bias[0] : 0;
    last->bias[1] = last->bias[0];
    last->multiplier[0] = last->multiplier[1] = at->multiplier[0];
    last->shift[0] = last->shift[1] = at->shift[0];
    at->bias = last->bias;
    at->multiplier = last->multiplier;
    at->shift = last->shift;
    at->output = last->output;
    at->pixel_step = 2;
    at->pitch = 0;
}

void qute_multiply_pair_s16(
    const qute_product *product, const int16_t *columns, const qute_rest *rest, int8_t *output)
{
    const qute_channels *channels = product->channels;
    const int32_t first = product->first;
    const int32_t depth = product->depth - rest->count;
    const int32_t odd = (product->last - first) & 1;
    const int32_t pairs = (product->last - first) >> 1;
    last_channel last;
    progress at;

    at.columns = columns;
    at.weights = product->weights;
    at.pitch = product->depth;
    at.rest = rest;
    at.bias = channels->bias ? channels->bias + first : NULL;
    at.multiplier = channels->multiplier + first;
    at.shift = channels->shift + first;
    at.offset = channels->offset;
    at.output = output + first;
    at.pixel_step = product->pixel_step;
    set_depth(&at, depth, rest->count > 0);
    for (int32_t left = pairs + odd; left > 0; left--) {
        int32_t sums[4] = {0, 0, 0, 0};
        if (left == 1) {
            /* These may be the last weights that there are. */
            set_depth(&at, depth, 1);
            if (odd) {
                begin_last(&at, &last);
            }
        }
        /* What is constant is read where it is needed, from memory: the inner loop leaves no register for it. */
        if (at.bias) {
            sums[0] = sums[1] = at.bias[0];
            sums[2] = sums[3] = at.bias[1];
            at.bias += 2;
        }
        add_groups(&at, sums);
        if (at.more) {
            /* A copy, since the address of the sums would keep them out of registers. */
            int32_t copy[4] = {sums[0], sums[1], sums[2], sums[3]};
            add_more(&at, copy);
            for (int32_t i = 0; i < 4; i++) {
                sums[i] = copy[i];
            }
        }
        at.weights += 2 * at.pitch;
        at.output += 2;
        qute_put_block(sums, at.multiplier, at.shift, at.offset, at.output - 2, at.pixel_step);
        at.multiplier += 2;
        at.shift += 2;
    }
    if (odd) {
        output += product->last - 1;
        output[0] = last.output[0];
        output[product->pixel_step] = last.output[2];
    }
}
