// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"

#if QUTE_DSP

#include "qute_head_features.h"
#include "qute_head_relu_3x3.h"

/* Heads that share a tile. */
#define MAX_HEADS 4
/* Lines of the map in a tile, which serves two lines of outputs. */
#define LINES 4
/* Outputs along a line that a tile on the stack serves. */
#define PLACES 8

/* A tile has pairs {line 0, line 2} and {line 1, line 3}. */
QUTE_NOINLINE void fill_tile(const tile_line *lines,
                             int32_t at,
                             int32_t left,
                             int32_t inside,
                             uint32_t offset,
                             tile_column *column,
                             const tile_column *end)
{
    const int8_t *line_0 = pixels_at(lines, at);
    const int8_t *line_1 = pixels_at(lines + 1, at);
    const int8_t *line_2 = pixels_at(lines + 2, at);
    const int8_t *line_3 = pixels_at(lines + 3, at);
    column = put_zeros(column, column + left);
    QUTE_ROLLED
    for (; inside > 0; inside--) {
        const block_pairs first = pairs_of(qute_load_s8x4(line_0), qute_load_s8x4(line_2), offset);
        put_column(column++, first, pairs_of(qute_load_s8x4(line_1), qute_load_s8x4(line_3), offset));
        line_0 += lines[0].step;
        line_1 += lines[1].step;
        line_2 += lines[2].step;
        line_3 += lines[3].step;
    }
    (void)put_zeros(column, end);
}

/* What one column of the window adds to the output of the upper line, and to that of the lower; `m` is the half of the
 * middle line's weights. The first column has the bias for its sum. */
#define ADD_UPPER(outer, middle, m, sum)                                                                               \
    "smlad r3, r1, " outer ", " sum "\n\t"                                                                             \
    "smlab" m " r3, r2, " middle ", r3\n\t"
#define ADD_LOWER(outer, middle, m, sum)                                                                               \
    "smlat" m " r4, r1, " middle ", " sum "\n\t"                                                                       \
    "smlad r4, r2, " outer ", r4\n\t"
#define NEXT_COLUMN "ldrd r1, r2, [r0], #32\n\t"
#define LAST_COLUMN "ldrd r1, r2, [r0, #32]\n\t"

#define ADD_TWO_LINES                                                                                                  \
    ADD_UPPER("r6", "r8", "t", "r10") ADD_LOWER("r6", "r8", "t", "r10")                                                \
    NEXT_COLUMN ADD_UPPER("r5", "r8", "b", "r3") ADD_LOWER("r5", "r8", "b", "r4")                                      \
    LAST_COLUMN ADD_UPPER("r7", "r9", "t", "r3") ADD_LOWER("r7", "r9", "t", "r4")                                      \
    ADD_POSITIVE("r3") ADD_POSITIVE("r4")

/* Where the loop over the columns begins: for one line, or for two with an even or an odd number of columns, which have
 * 32 bytes each. */
#define ENTRY                                                                                                          \
    ".p2align 2\n\t"                                                                                                   \
    "adr.w r0, 2f\n\t"                                                                                                 \
    "tst r6, #32\n\t"                                                                                                  \
    "it ne\n\t"                                                                                                        \
    "adrne.w r0, 3f\n\t"                                                                                               \
    "cmp r7, #1\n\t"                                                                                                   \
    "it eq\n\t"                                                                                                        \
    "adreq.w r0, 4f\n\t"                                                                                               \
    "orr r7, r0, #1\n\t"

/* Adds max(0, .) of all places of one or two lines of outputs to the sums of a block of channels. r1-r2 are pairs of a
 * column, r3-r4 sums of the two lines. A window begins with its middle column, which is the last one of the window
 * before it and still in registers. */
QUTE_NOINLINE void add_heads(const head_block *block, const int8_t *weights)
{
    BLOCK_OPERANDS(block, weights);
    __asm__ volatile(FOR_CHANNELS(ENTRY)
                     "ldrd r1, r2, [r0, #32]\n\t"
                     "add r12, r12, r0\n\t"
                     "ldr pc, [sp, #" BLOCK_LINES "]\n"
                     "4:\n\t"
                     ADD_UPPER("r6", "r8", "t", "r10")
                     NEXT_COLUMN ADD_UPPER("r5", "r8", "b", "r3")
                     LAST_COLUMN ADD_UPPER("r7", "r9", "t", "r3")
                     ADD_POSITIVE("r3")
                     "cmp r0, r12\n\t"
                     "bne 4b\n\t"
                     "b 5f\n"
                     "2:\n\t" ADD_TWO_LINES
                     "3:\n\t" ADD_TWO_LINES
                     "cmp r0, r12\n\t"
                     "bne 2b\n"
                     "5:\n\t" NEXT_CHANNEL
                     : BLOCK_OUTPUTS
                     :
                     : BLOCK_CLOBBERS);
}

/* The features of a block of channels for `heads` heads from `head` on, with a tile for `places` outputs. */
QUTE_NOINLINE void features_of_block(const qute_head_relu_params *params,
                                     const int8_t *input,
                                     int32_t channel,
                                     int32_t head,
                                     int32_t heads,
                                     tile_column *tile,
                                     int32_t places,
                                     int16_t *output)
{
    const int32_t channels = params->features.channels;
    const int32_t step = params->inner.input_step;
    const uint32_t none = outside_of(params);
    int32_t index = head * channels + channel;
    int32_t sums[MAX_HEADS * LANES];
    int32_t out_y = 0;
    qute_clear(sums, heads * LANES);
    do {
        const int32_t y = out_y - params->outer.padding;
        const qute_taps met = qute_valid_taps(y, LINES, 1, params->outer.size);
        const int32_t lines = qute_smaller(params->outer.outputs - out_y, 2);
        tile_line rows[LINES];
        int32_t out_x = 0;
        find_lines(params, input + (y + met.begin) * params->outer.input_step, met.begin, met.end, &none, rows, LINES);
        do {
            const int32_t count = qute_smaller(params->inner.outputs - out_x, places);
            const int32_t x = out_x - params->inner.padding;
            const qute_taps inside = qute_valid_taps(x, count + KERNEL - 1, 1, params->inner.size);
            head_block block = block_of(params, tile, count, lines, heads, sums);
            fill_tile(rows,
                      (x + inside.begin) * step + channel,
                      inside.begin,
                      inside.end - inside.begin,
                      qute_pair(params->features.input_offset),
                      tile,
                      tile + count + KERNEL - 1);
            block.bias = params->bias + index;
            add_heads(&block, params->features.weights + index * KERNEL * KERNEL);
            out_x += places;
        } while (out_x < params->inner.outputs);
        out_y += lines;
    } while (out_y < params->outer.outputs);
    for (int32_t k = 0; k < heads; k++) {
        qute_store_features(&params->features, sums + k * LANES, LANES, index, 1, output);
        index += channels;
    }
}

QUTE_NOINLINE void features_of_map(
    const qute_head_relu_params *params, const int8_t *input, tile_column *tile, int32_t places, int16_t *output)
{
    const qute_head_features *features = &params->features;
    for (int32_t head = 0; head < features->heads; head += MAX_HEADS) {
        const int32_t heads = qute_smaller(features->heads - head, MAX_HEADS);
        for (int32_t next = 0; next < features->channels; next += LANES) {
            const int32_t channel = qute_block(next, features->channels);
            features_of_block(params, input, channel, head, heads, tile, places, output);
        }
    }
}

QUTE_NOINLINE void features_with_stack(const qute_head_relu_params *params, const int8_t *input, int16_t *output)
{
    tile_column tile[PLACES + KERNEL - 1];
    features_of_map(params, input, tile, PLACES, output);
}

void qute_head_relu_3x3_s8x4(
    const qute_head_relu_params *params, const int8_t *input, int8_t *scratch, int32_t scratch_bytes, int16_t *output)
{
    const int32_t places = scratch_bytes / (int32_t)sizeof(tile_column) - (KERNEL - 1);
    if (places >= PLACES || places >= params->inner.outputs) {
        features_of_map(params, input, (tile_column *)(void *)scratch, places, output);
    } else {
        features_with_stack(params, input, output);
    }
}

#else

#define LANES 1
#define CHANNEL_STEP 9

#include "qute_head_relu.h"

void qute_head_relu_3x3_s8x4(
    const qute_head_relu_params *params, const int8_t *input, int8_t *scratch, int32_t scratch_bytes, int16_t *output)
{
    (void)scratch;
    (void)scratch_bytes;
    qute_head_relu(params, input, output);
}

#endif
