// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_convolve.h"
#include "qute_output.h"

/* What ends an odd row of pixels. */

/* Weights first <= k < depth of one channel times a column. */
static int32_t add_channel(const int16_t *columns, const int8_t *weights, int32_t first, int32_t depth, int32_t sum)
{
    int32_t k = first;
#if QUTE_DSP
    while (k < depth) {
        const int16_t *group = columns + k;
        const uint32_t word = depth - k >= 4 ? qute_load_s8x4(weights + k) : qute_load_s8_tail(weights + k, depth - k);
        sum = qute_smlad(qute_sxtb16(word), qute_load_s16x2(group), sum);
        sum = qute_smlad(qute_sxtb16_odd(word), qute_load_s16x2(group + 2), sum);
        k += 4;
    }
#else
    for (; k < depth; k++) {
        sum = qute_wrapping_add(sum, weights[k] * columns[k]);
    }
#endif
    return sum;
}

void qute_multiply_single_s16(const qute_product *product, const int16_t *columns, int8_t *output)
{
    const qute_channels *channels = product->channels;
    const int32_t depth = product->depth;
    const int8_t *weights = product->weights;
    int32_t channel = product->first;

    while (channel < product->last) {
        const int32_t count = product->last - channel >= 4 ? 4 : 1;
        int32_t sums[4];
        int32_t done = 0;
        for (int32_t c = 0; c < count; c++) {
            QUTE_NO_CALL;
            sums[c] = qute_bias(channels, channel + c);
        }
#if QUTE_BLOCKS
        if (count == 4) {
            done = depth & ~3;
            qute_block_single_s16(columns, weights, depth, depth >> 2, sums);
        }
#endif
        for (int32_t c = 0; c < count; c++) {
            const int32_t sum = add_channel(columns, weights + c * depth, done, depth, sums[c]);
            output[channel + c] = qute_saturated_output_s8(
                sum, channels->multiplier[channel + c], channels->shift[channel + c], channels->offset);
        }
        weights += count * depth;
        channel += count;
    }
}
