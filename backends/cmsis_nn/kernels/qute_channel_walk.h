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
    int32_t offset;
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
    walk->offset = channels->offset;
    walk->pixel_step = product->pixel_step;
    walk->shift_step = (int32_t)((uintptr_t)channels->shift - multipliers);
    walk->bias_step = (int32_t)((uintptr_t)channels->bias - multipliers);
}

/* The exponent of the shift to the right to r0, the multiplier to r7 and r1 to the next; flags as of a comparison of the
 * exponent with 0. */
#define QUTE_LOAD_SCALING                                                                                              \
    "ldr r0, [r1, r5]\n\t"                                                                                             \
    "ldr r7, [r1], #4\n\t"                                                                                             \
    "rsbs r0, r0, #0\n\t"

/* qute_shifted_output_s8; r5 is lost. */
#define QUTE_SCALE(sum)                                                                                                \
    "smull r5, " sum ", " sum ", r7\n\t"                                                                               \
    "lsrs r5, r5, #31\n\t"                                                                                             \
    "adc " sum ", r5, " sum ", lsl #1\n\t"                                                                             \
    "add " sum ", " sum ", " sum ", asr #31\n\t"                                                                       \
    "asrs " sum ", " sum ", r0\n\t"                                                                                    \
    "adc " sum ", " sum ", r3\n\t"                                                                                     \
    "ssat " sum ", #8, " sum "\n\t"

/* Outputs of `pixels` pixels of a channel whose shift is to the left, of which the multiplier is behind it already. */
QUTE_COLD void qute_put_left_shifted(qute_channel_walk *walk, const int32_t *sums, int32_t pixels)
{
    const int32_t *multiplier = walk->multiplier - 1;
    const int32_t shift = *(const int32_t *)((uintptr_t)multiplier + (uintptr_t)walk->shift_step);
    for (int32_t i = 0; i < pixels; i++) {
        walk->output[i * walk->pixel_step] = qute_saturated_output_s8(sums[i], *multiplier, shift, walk->offset);
    }
    walk->output++;
}

#endif

#endif
