// SPDX-License-Identifier: Apache-2.0
/* Tiles of the map for 3x3 kernels of stride 1, for blocks of four channels.
 *
 * What all heads share, the pixels plus their offset in 16 bits, is in a tile on the stack, in pairs of two lines or two
 * places that one SMLAD takes. The weights of a channel stay in registers for all of a tile. */
#ifndef QUTE_HEAD_RELU_3X3_H
#define QUTE_HEAD_RELU_3X3_H

#define LANES 4

#include "qute_head_lanes.h"
#include "qute_kernels.h"
#include "qute_window.h"

#define KERNEL 3
/* Outputs along a line that a tile serves. */
#define PLACES 13

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

/* Four channels of a pixel outside of the map: 0 with the offset. */
QUTE_INLINE uint32_t outside_of(const qute_head_relu_params *params)
{
    return ((uint32_t)-params->features.input_offset & 0xffU) * 0x01010101U;
}

/* `count` lines, those from `begin` to `end` - 1 inside of the map, the first of which is at `row`; the others are
 * `none`. */
QUTE_INLINE void find_lines(const qute_head_relu_params *params,
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

/* The nine weights of a channel, column by column from the top: of the upper and the lower line, and of the middle one. */
typedef struct {
    uint32_t outer[KERNEL];
    uint32_t middle_01;
    uint32_t middle_2; /* in the high half */
} channel_weights;

QUTE_INLINE channel_weights weights_of(const int8_t *weights)
{
    const uint32_t word_0 = qute_load_s8x4(weights);
    const uint32_t word_1 = qute_load_s8x4(weights + 3);
    const uint32_t word_2 = qute_load_s8x4(weights + 5);
    channel_weights wide;
    wide.outer[0] = qute_sxtb16(word_0);
    wide.outer[1] = qute_sxtb16(word_1);
    wide.outer[2] = qute_sxtb16_odd(word_2);
    wide.middle_01 = qute_pkhbt((int32_t)qute_sxtb16_odd(word_0), (int32_t)qute_sxtb16_odd(word_1));
    wide.middle_2 = qute_sxtb16(word_2);
    return wide;
}

#endif
