// SPDX-License-Identifier: Apache-2.0
/* Tiles of the map for 3x3 kernels of stride 1, for blocks of four channels.
 *
 * What all heads share, the pixels plus their offset in 16 bits, is in a tile, in pairs of two lines or two
 * places that one SMLAD takes. The weights of a channel stay in registers for all of a tile. */
#ifndef QUTE_HEAD_RELU_3X3_H
#define QUTE_HEAD_RELU_3X3_H

#define LANES 4

#include "qute_head_lanes.h"
#include "qute_kernels.h"
#include "qute_window.h"

#define KERNEL 3

/* Two pairs of one channel at one place; which, the kernel says. */
typedef struct {
    uint32_t first;
    uint32_t second;
} pixel_pairs;

typedef struct {
    pixel_pairs channels[LANES];
} tile_column;

/* A line of the map from its first place in a tile on; or the same pixel all along, with a step of 0. */
typedef struct {
    const int8_t *pixels;
    int32_t step;
} tile_line;

/* Four channels of two pixels plus the offset, as pairs. */
typedef struct {
    uint32_t channels[LANES];
} block_pairs;

QUTE_INLINE block_pairs pairs_of(uint32_t first, uint32_t second, uint32_t offset)
{
    const uint32_t low = qute_pkhbt((int32_t)first, (int32_t)second);
    const uint32_t high = qute_pkhtb(second, first);
    block_pairs pairs;
    pairs.channels[0] = qute_sxtab16(offset, low);
    pairs.channels[1] = qute_sxtab16_odd(offset, low);
    pairs.channels[2] = qute_sxtab16(offset, high);
    pairs.channels[3] = qute_sxtab16_odd(offset, high);
    return pairs;
}

QUTE_INLINE void put_column(tile_column *column, block_pairs first, block_pairs second)
{
    for (int32_t lane = 0; lane < LANES; lane++) {
        const pixel_pairs pairs = {first.channels[lane], second.channels[lane]};
        column->channels[lane] = pairs;
    }
}

/* Columns outside of the map, up to `end`. */
QUTE_NOINLINE tile_column *put_zeros(tile_column *column, const tile_column *end)
{
    const block_pairs zeros = {{0}};
    QUTE_ROLLED
    while (column != end) {
        put_column(column++, zeros, zeros);
        QUTE_NO_CALL;
    }
    return column;
}

/* Four channels of a pixel outside of the map: 0 with the offset. */
QUTE_INLINE uint32_t outside_of(const qute_head_relu_params *params)
{
    return ((uint32_t)-params->features.input_offset & 0xffU) * 0x01010101U;
}

/* `count` lines, those from `begin` to `end` - 1 inside of the map, the first of which is at `row`; the others are
 * `none`. */
QUTE_NOINLINE void find_lines(const qute_head_relu_params *params,
                            const int8_t *row,
                            int32_t begin,
                            int32_t end,
                            const uint32_t *none,
                            tile_line *lines,
                            int32_t count)
{
    QUTE_ROLLED
    for (int32_t i = 0; i < count; i++) {
        if (i >= begin && i < end) {
            lines[i].pixels = row;
            lines[i].step = params->inner.input_step;
            row += params->outer.input_step;
        } else {
            lines[i].pixels = (const int8_t *)none;
            lines[i].step = 0;
        }
    }
}

/* A line at a place and a channel, both in `at` bytes. */
QUTE_INLINE const int8_t *pixels_at(const tile_line *line, int32_t at)
{
    return line->step != 0 ? line->pixels + at : line->pixels;
}

/* What a block of channels needs, in the order in which the assembly reads it. */
typedef struct {
    const pixel_pairs *pixels;
    const int16_t *bias;
    int32_t *sums;
    int32_t bias_shift;
    int32_t tile_bytes; /* of the columns in which the windows begin */
    int32_t lines; /* of outputs that are added */
    int32_t other_channels;
    const int32_t *sums_end;
} head_block;

/* All of it but the bias, for the `heads` heads that have these sums. */
QUTE_INLINE head_block block_of(const qute_head_relu_params *params,
                                const tile_column *tile,
                                int32_t outputs,
                                int32_t lines,
                                int32_t heads,
                                int32_t *sums)
{
    head_block block;
    block.pixels = tile->channels;
    block.sums = sums;
    block.bias_shift = params->bias_shift;
    block.tile_bytes = outputs * (int32_t)sizeof(tile_column);
    block.lines = lines;
    block.other_channels = params->features.channels - LANES;
    block.sums_end = sums + heads * LANES;
    return block;
}

/* A loop over heads and the channels of a block, in assembly, with the loop over the columns of a tile in between:
 * compilers take as long for the former as for the latter. The nine weights of a channel lie column by column from
 * the top.
 *
 * Between the two: r0 first column, r5-r7 weights of the upper and the lower line, those of the middle one of the
 * first and the second column in r8 and of the third in the high half of r9, r10 bias, r11 total, r12 bytes of the
 * columns. r1-r4 are free, lr is not. `prepare` may change the number of lines, in r7, into something for BLOCK_LINES
 * of the stack. */
#define FOR_CHANNELS(prepare)                                                                                          \
    "push {r6, r7}\n\t"                                                                                                \
    "sub sp, sp, #36\n\t"                                                                                              \
    "mov lr, r1\n\t"                                                                                                   \
    "ldmia r0, {r2, r3, r4, r5, r6, r7, r8, r9}\n\t"                                                                   \
    "add r10, r4, #16\n\t" prepare                                                                                     \
    "stmia sp, {r2, r3, r4, r5, r6, r7, r8, r9, r10}\n"                                                                \
    "1:\n\t"                                                                                                           \
    "ldr r1, [lr], #3\n\t"                                                                                             \
    "ldr r2, [lr], #2\n\t"                                                                                             \
    "ldr r9, [lr], #4\n\t"                                                                                             \
    "sxtb16 r5, r1\n\t"                                                                                                \
    "sxtb16 r1, r1, ror #8\n\t"                                                                                        \
    "sxtb16 r6, r2\n\t"                                                                                                \
    "sxtb16 r2, r2, ror #8\n\t"                                                                                        \
    "pkhbt r8, r1, r2, lsl #16\n\t"                                                                                    \
    "sxtb16 r7, r9, ror #8\n\t"                                                                                        \
    "sxtb16 r9, r9\n\t"                                                                                                \
    "ldmia sp, {r0, r2, r3, r4, r12}\n\t"                                                                              \
    "ldrsh r10, [r2], #2\n\t"                                                                                          \
    "ldr r11, [r3], #4\n\t"                                                                                            \
    "add r1, r0, #8\n\t"                                                                                               \
    "stmia sp, {r1, r2, r3}\n\t"                                                                                       \
    "lsl r10, r10, r4\n\t"

#define BLOCK_LINES "20"

/* To the next channel, or to the first one of the next head. */
#define NEXT_CHANNEL                                                                                                   \
    "ldr r3, [sp, #8]\n\t"                                                                                             \
    "ldr r4, [sp, #32]\n\t"                                                                                            \
    "str r11, [r3, #-4]\n\t"                                                                                           \
    "cmp r3, r4\n\t"                                                                                                   \
    "bne 1b\n\t"                                                                                                       \
    "ldrd r2, r4, [sp, #24]\n\t"                                                                                       \
    "ldrd r0, r1, [sp]\n\t"                                                                                            \
    "add lr, lr, r2\n\t"                                                                                               \
    "add lr, lr, r2, lsl #3\n\t"                                                                                       \
    "add r1, r1, r2, lsl #1\n\t"                                                                                       \
    "sub r0, r0, #32\n\t"                                                                                              \
    "add r2, r3, #16\n\t"                                                                                              \
    "strd r0, r1, [sp]\n\t"                                                                                            \
    "str r2, [sp, #32]\n\t"                                                                                            \
    "cmp r3, r4\n\t"                                                                                                   \
    "bne 1b\n\t"                                                                                                       \
    "add sp, sp, #36\n\t"                                                                                              \
    "pop {r6, r7}\n\t"

#define BLOCK_CLOBBERS "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "memory", "cc"

/* r0 is the block, r1 the weights of its first channel. */
#define BLOCK_OPERANDS(block, weights)                                                                                 \
    register const head_block *block_in_r0 __asm__("r0") = (block);                                                    \
    register const int8_t *weights_in_r1 __asm__("r1") = (weights)
#define BLOCK_OUTPUTS "+&r"(block_in_r0), "+&r"(weights_in_r1)

#define ADD_POSITIVE(sum)                                                                                              \
    "usat " sum ", #31, " sum "\n\t"                                                                                   \
    "add r11, r11, " sum "\n\t"

#endif
