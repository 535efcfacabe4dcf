// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_convolve.h"

/* Output channels in the outer loop, so that the part of the sum that the input offset adds, offset times the
 * sum of the weights, is computed once for a channel; pixels in the inner loop. Blocks of two channels by two
 * pixels use every word that is loaded twice. */

/* A row of pixels: `input_step` bytes from one to the next. */
typedef struct {
    const int8_t *input;
    int32_t input_step;
    int32_t depth;
    int8_t *output;
    int32_t output_step;
    int32_t count;
} pixels;

/* sums[c * 2 + p] += weights of channel c times pixel p; the compiler unrolls by the constant counts. */
QUTE_INLINE void multiply_block(const int8_t *input,
                                int32_t input_step,
                                const int8_t *weights,
                                int32_t depth,
                                int32_t *sums,
                                const int32_t channel_count,
                                const int32_t pixel_count)
{
    int32_t rest = depth;

#if QUTE_BLOCKS
    if (channel_count == 2 && pixel_count == 2 && input_step == depth && depth >= 8) {
        const int32_t blocked = depth & ~7;
        qute_block_s8(input, weights, depth, depth >> 3, sums);
        weights += blocked;
        input += blocked;
        rest -= blocked;
    }
#endif
#if QUTE_DSP
    for (int32_t n = rest >> 2; n > 0; n--) {
        uint32_t even[2];
        uint32_t odd[2];
        for (int32_t c = 0; c < channel_count; c++) {
            const uint32_t word = qute_load_s8x4(weights + c * depth);
            even[c] = qute_sxtb16(word);
            odd[c] = qute_sxtb16_odd(word);
        }
        for (int32_t p = 0; p < pixel_count; p++) {
            const uint32_t word = qute_load_s8x4(input + p * input_step);
            const uint32_t x_even = qute_sxtb16(word);
            const uint32_t x_odd = qute_sxtb16_odd(word);
            for (int32_t c = 0; c < channel_count; c++) {
                sums[c * 2 + p] = qute_smlad(even[c], x_even, sums[c * 2 + p]);
                sums[c * 2 + p] = qute_smlad(odd[c], x_odd, sums[c * 2 + p]);
            }
        }
        weights += 4;
        input += 4;
    }
    rest &= 3;
#endif

    for (; rest > 0; rest--) {
        for (int32_t c = 0; c < channel_count; c++) {
            for (int32_t p = 0; p < pixel_count; p++) {
                sums[c * 2 + p] = qute_wrapping_add(sums[c * 2 + p], weights[c * depth] * input[p * input_step]);
            }
        }
        weights++;
        input++;
    }
}

/* bias + offset * sum of the weights */
static int32_t initial_sum(
    const qute_channels *channels, int32_t channel, const int8_t *weights, int32_t depth, int32_t offset)
{
    int32_t sum = 0;
    int32_t i = 0;
#if QUTE_DSP
    const uint32_t ones = 0x00010001U;
    for (; i + 4 <= depth; i += 4) {
        const uint32_t word = qute_load_s8x4(weights + i);
        sum = qute_smlad(qute_sxtb16(word), ones, sum);
        sum = qute_smlad(qute_sxtb16_odd(word), ones, sum);
    }
#endif
    for (; i < depth; i++) {
        sum += weights[i];
    }
    return qute_wrapping_add(qute_bias(channels, channel), qute_wrapping_mul(sum, offset));
}

/* `channel_count` channels from `channel` on of all pixels. */
QUTE_INLINE void convolve_channels(const pixels *row,
                                   const qute_channels *channels,
                                   int32_t channel,
                                   const int8_t *weights,
                                   const int32_t *initial,
                                   const int32_t channel_count)
{
    const int8_t *input = row->input;
    int8_t *output = row->output + channel;
    int32_t left = row->count;

    for (; left >= 2; left -= 2) {
        int32_t sums[4] = {initial[0], initial[0], initial[1], initial[1]};
        multiply_block(input, row->input_step, weights, row->depth, sums, channel_count, 2);
        for (int32_t c = 0; c < channel_count; c++) {
            output[c] = qute_channel_output(channels, channel + c, sums[c * 2]);
            output[row->output_step + c] = qute_channel_output(channels, channel + c, sums[c * 2 + 1]);
        }
        input += 2 * row->input_step;
        output += 2 * row->output_step;
    }
    if (left > 0) {
        int32_t sums[4] = {initial[0], 0, initial[1], 0};
        multiply_block(input, row->input_step, weights, row->depth, sums, channel_count, 1);
        for (int32_t c = 0; c < channel_count; c++) {
            output[c] = qute_channel_output(channels, channel + c, sums[c * 2]);
        }
    }
}

void qute_convolve_1x1_s8(const cmsis_nn_conv_params *params,
                          const qute_channels *channels,
                          const cmsis_nn_dims *input_dims,
                          const int8_t *input,
                          const int8_t *filter,
                          const cmsis_nn_dims *output_dims,
                          int8_t *output)
{
    const int32_t depth = input_dims->c;
    const int32_t out_channels = output_dims->c;
    const int32_t strided = params->stride.h != 1 || params->stride.w != 1;
    const int32_t rows = strided ? output_dims->h : 1;
    const int32_t map_bytes = input_dims->h * input_dims->w * depth;
    pixels row;

    row.input_step = strided ? params->stride.w * depth : depth;
    row.depth = depth;
    row.output_step = out_channels;
    row.count = strided ? output_dims->w : input_dims->h * input_dims->w;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t y = 0; y < rows; y++) {
            const int8_t *weights = filter;
            int32_t channel = 0;
            row.input = input + y * params->stride.h * input_dims->w * depth;
            row.output = output + y * output_dims->w * out_channels;
            while (channel < out_channels) {
                const int32_t channel_count = out_channels - channel >= 2 ? 2 : 1;
                int32_t initial[2] = {0, 0};
                for (int32_t c = 0; c < channel_count; c++) {
                    initial[c] = initial_sum(channels, channel + c, weights + c * depth, depth, params->input_offset);
                }
                if (channel_count == 2) {
                    convolve_channels(&row, channels, channel, weights, initial, 2);
                } else {
                    convolve_channels(&row, channels, channel, weights, initial, 1);
                }
                weights += channel_count * depth;
                channel += channel_count;
            }
        }
        input += map_bytes;
        output += output_dims->h * output_dims->w * out_channels;
    }
}
