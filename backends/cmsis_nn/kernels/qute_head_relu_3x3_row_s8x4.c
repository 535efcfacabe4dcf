// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"

#if QUTE_DSP

#include "qute_head_relu_3x3.h"
#include "qute_requantize.h"

/* Outputs that a tile on the stack serves. */
#define PLACES 6

/* A tile has pairs {line 0, line 2} and {line 1 one place before, line 1}: nine products are four pairs and one more. */
QUTE_NOINLINE void fill_tile(const tile_line *lines,
                             int32_t at,
                             int32_t left,
                             int32_t inside,
                             uint32_t none,
                             uint32_t offset,
                             tile_column *column,
                             const tile_column *end)
{
    const int8_t *upper = pixels_at(lines, at);
    const int8_t *middle = pixels_at(lines + 1, at);
    const int8_t *lower = pixels_at(lines + 2, at);
    uint32_t before = none;
    column = put_zeros(column, column + left);
    QUTE_ROLLED
    for (; inside > 0; inside--) {
        const uint32_t here = qute_load_s8x4(middle);
        const block_pairs outer = pairs_of(qute_load_s8x4(upper), qute_load_s8x4(lower), offset);
        put_column(column++, outer, pairs_of(before, here, offset));
        before = here;
        upper += lines[0].step;
        middle += lines[1].step;
        lower += lines[2].step;
    }
    if (column != end) {
        const block_pairs zeros = {{0}};
        put_column(column++, zeros, pairs_of(before, none, offset));
        (void)put_zeros(column, end);
    }
}

/* The last column of the window whose sum is in `ends`. */
#define END_WINDOW(ends)                                                                                               \
    "ldrd r1, r2, [r0], #32\n\t"                                                                                       \
    "smlad " ends ", r1, r7, " ends "\n\t"                                                                             \
    "smlatt " ends ", r2, r9, " ends "\n\t" ADD_POSITIVE(ends)

/* The same column as the middle one of the next window, whose sum is in `next`, and the first one of that behind it. */
#define GO_ON(next, behind)                                                                                            \
    "smlad " next ", r1, r6, " next "\n\t"                                                                             \
    "smlad " next ", r2, r8, " next "\n\t"                                                                             \
    "smlad " behind ", r1, r5, r10\n\t"

/* Adds max(0, .) of all outputs to the sums of a block of channels. r1-r2 are pairs of a column, r3-r4 sums of two
 * windows. */
QUTE_NOINLINE void add_heads(const head_block *block, const int8_t *weights)
{
    BLOCK_OPERANDS(block, weights);
    __asm__ volatile(FOR_CHANNELS("")
                     "ldr r1, [r0], #32\n\t"
                     "smlad r3, r1, r5, r10\n\t"
                     "ldrd r1, r2, [r0], #32\n\t"
                     "add r12, r12, r0\n\t"
                     "smlad r3, r1, r6, r3\n\t"
                     "smlad r3, r2, r8, r3\n\t"
                     "smlad r4, r1, r5, r10\n"
                     "2:\n\t"
                     END_WINDOW("r3")
                     "cmp r0, r12\n\t"
                     "beq 3f\n\t"
                     GO_ON("r4", "r3") END_WINDOW("r4") GO_ON("r3", "r4")
                     "cmp r0, r12\n\t"
                     "bne 2b\n"
                     "3:\n\t" NEXT_CHANNEL
                     : BLOCK_OUTPUTS
                     :
                     : BLOCK_CLOBBERS);
}

/* A tile of all channels. */
QUTE_NOINLINE void add_tile(const qute_head_relu_params *params,
                            const tile_line *lines,
                            uint32_t none,
                            int32_t out_x,
                            int32_t outputs,
                            int32_t *sums)
{
    const int32_t channels = params->features.channels;
    const int32_t x = out_x - params->inner.padding;
    const qute_taps places = qute_valid_taps(x, outputs + KERNEL - 1, 1, params->inner.size);
    const int32_t at = (x + places.begin) * params->inner.input_step;
    const uint32_t offset = qute_pair(params->features.input_offset);
    tile_column tile[PLACES + KERNEL - 1];
    const tile_column *const end = tile + outputs + KERNEL - 1;
    head_block block = block_of(params, tile, outputs, 1, params->features.heads, sums);
    for (int32_t next = 0; next < channels; next += LANES) {
        const int32_t channel = qute_block(next, channels);
        fill_tile(lines, at + channel, places.begin, places.end - places.begin, none, offset, tile, end);
        block.bias = params->bias + channel;
        add_heads(&block, params->features.weights + channel * KERNEL * KERNEL);
        block.sums += params->features.heads * LANES;
        block.sums_end += params->features.heads * LANES;
    }
}

void qute_head_relu_3x3_row_s8x4(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums)
{
    const uint32_t none = outside_of(params);
    tile_line lines[KERNEL];
    find_lines(params, rows, above, above + count, &none, lines, KERNEL);
    for (int32_t out_x = 0; out_x < params->inner.outputs; out_x += PLACES) {
        add_tile(params, lines, none, out_x, qute_smaller(params->inner.outputs - out_x, PLACES), sums);
    }
}

#else

#define LANES 1
#define CHANNEL_STEP 9

#include "qute_head_relu_row.h"

void qute_head_relu_3x3_row_s8x4(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums)
{
    qute_head_relu_row(params, rows, count, above, sums);
}

#endif
