// SPDX-License-Identifier: Apache-2.0
/* What the products in assembly share that go from channel to channel by themselves. */
#ifndef QUTE_CHANNEL_WALK_H
#define QUTE_CHANNEL_WALK_H

#include "qute_blocks.h"
#include "qute_convolve.h"
#include "qute_output.h"

#if QUTE_BLOCKS

/* A channel's constants and outputs, in the order in which r1-r6 hold them. */
typedef struct {
    const int32_t *multiplier;
    int8_t *output;
    int32_t twice_offset; /* plus one */
    int32_t pixel_step;
    int32_t shift_step; /* bytes from a multiplier to the shift and to the bias of the same channel */
    int32_t bias_step;
} qute_channel_walk;

QUTE_INLINE void qute_start_walk(qute_channel_walk *walk, const qute_product *product, int8_t *output)
{
    const qute_channels *channels = product->channels;
    const uintptr_t multipliers = (uintptr_t)channels->multiplier;
    walk->multiplier = channels->multiplier;
    walk->output = output;
    walk->twice_offset = 2 * channels->offset + 1;
    walk->pixel_step = product->pixel_step;
    walk->shift_step = (int32_t)((uintptr_t)channels->shift - multipliers);
    walk->bias_step = (int32_t)((uintptr_t)channels->bias - multipliers);
}

/* The multiplier to r7 and r1 to the next, the exponent of the shift to the right to r0, and the addend of qute_scaling.h
 * to r3, which was twice the offset plus one; flags as of a comparison of that exponent, less one, with the largest. */
#define QUTE_LOAD_SCALING                                                                                              \
    "ldr r0, [r1, r5]\n\t"                                                                                             \
    "ldr r7, [r1], #4\n\t"                                                                                             \
    "mvn r5, r0\n\t"                                                                                                   \
    "rsb r0, r0, #0\n\t"                                                                                               \
    "lsl r3, r3, r5\n\t"                                                                                               \
    "cmp r5, #(22 - 1)\n\t"

/* As qute_scale does, saturated; r5 is lost. */
#define QUTE_SCALE(sum)                                                                                                \
    "add r5, r3, " sum ", asr #31\n\t"                                                                                 \
    "lsl " sum ", " sum ", #1\n\t"                                                                                     \
    "smmlar " sum ", " sum ", r7, r5\n\t"                                                                              \
    "asr " sum ", " sum ", r0\n\t"                                                                                     \
    "ssat " sum ", #8, " sum "\n\t"

/* Outputs of `pixels` pixels of a channel whose shift is out of that range; its multiplier is behind it already. */
QUTE_COLD void qute_put_unusual(qute_channel_walk *walk, const int32_t *sums, int32_t pixels)
{
    const int32_t *multiplier = walk->multiplier - 1;
    const int32_t shift = *(const int32_t *)((uintptr_t)multiplier + (uintptr_t)walk->shift_step);
    for (int32_t i = 0; i < pixels; i++) {
        walk->output[i * walk->pixel_step] = qute_saturated_output_s8(sums[i], *multiplier, shift, walk->twice_offset >> 1);
    }
    walk->output++;
}

#endif

#endif
