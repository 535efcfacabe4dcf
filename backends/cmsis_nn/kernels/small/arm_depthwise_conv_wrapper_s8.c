// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"
#include "qute_window.h"

/* Pixel by pixel; with DSP four channels at a time where every input channel has one output channel and columns are not
 * dilated. */

/* The part of a window that lies inside the map: taps at fixed steps in the map and in the filter. */
typedef struct {
    int32_t rows;
    int32_t columns;
    int32_t offset;
    int32_t row_step;
    int32_t column_step;
    int32_t filter_row_step;
    int32_t filter_column_step;
} taps;

QUTE_SMALL QUTE_NOINLINE void add_taps(const taps *t, const int8_t *input, const int8_t *filter, int32_t *sum)
{
    int32_t total = 0;
    for (int32_t y = t->rows; y > 0; y--) {
        const int8_t *tap = input;
        const int8_t *weight = filter;
        for (int32_t x = t->columns; x > 0; x--) {
            total += (*tap + t->offset) * *weight;
            tap += t->column_step;
            weight += t->filter_column_step;
        }
        input += t->row_step;
        filter += t->filter_row_step;
    }
    *sum = total;
}

#if QUTE_SMALL_DSP

/* Four channels, where taps are as far apart in the map as in the filter. */
QUTE_SMALL QUTE_NOINLINE void add_taps_of_four(
    const taps *t, const int8_t *input, const int8_t *filter, int32_t sums[4])
{
    const int32_t step = t->filter_column_step;
    const int32_t row_bytes = t->columns * step;
    int32_t s0 = 0;
    int32_t s1 = 0;
    int32_t s2 = 0;
    int32_t s3 = 0;
    int32_t y = t->rows;
    do {
        int32_t at = -row_bytes;
        uint32_t values, weights, pair, pair_of_weights;
        __asm__("1:\n\t"
                "ldr %[v], [%[x], %[i]]\n\t"
                "ldr %[w], [%[f], %[i]]\n\t"
                "sxtab16 %[p], %[o], %[v]\n\t"
                "sxtb16 %[q], %[w]\n\t"
                "smlabb %[s0], %[p], %[q], %[s0]\n\t"
                "smlatt %[s2], %[p], %[q], %[s2]\n\t"
                "sxtab16 %[p], %[o], %[v], ror #8\n\t"
                "sxtb16 %[q], %[w], ror #8\n\t"
                "smlabb %[s1], %[p], %[q], %[s1]\n\t"
                "smlatt %[s3], %[p], %[q], %[s3]\n\t"
                "adds %[i], %[i], %[step]\n\t"
                "bne 1b"
                : [i] "+&r"(at), [s0] "+&r"(s0), [s1] "+&r"(s1), [s2] "+&r"(s2), [s3] "+&r"(s3), [v] "=&r"(values),
                  [w] "=&r"(weights), [p] "=&r"(pair), [q] "=&r"(pair_of_weights)
                : [x] "r"(input + row_bytes), [f] "r"(filter + row_bytes), [o] "r"(qute_pair(t->offset)), [step] "r"(step)
                : "memory", "cc");
        input += t->row_step;
        filter += t->filter_row_step;
    } while (--y > 0);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#endif

/* All channels of a pixel: `input` and `filter` are its first tap inside the map. */
QUTE_SMALL QUTE_NOINLINE void put_pixel(const taps *t,
                                        const qute_small_scaling *scaling,
                                        const int8_t *input,
                                        const int8_t *filter,
                                        int32_t channel_multiplier,
                                        int8_t *output)
{
    const int32_t channels = t->filter_column_step;
#if QUTE_SMALL_DSP
    const int in_step = channel_multiplier == 1 && t->column_step == channels && t->rows > 0 && t->columns > 0;
#endif
    int32_t left = channel_multiplier;
    int32_t channel = 0;
    while (channel < channels) {
        int32_t sums[QUTE_SMALL_SUMS];
        int32_t count = 0;
        while (count < QUTE_SMALL_SUMS && channel + count < channels) {
#if QUTE_SMALL_DSP
            if (in_step && channel + count + 4 <= channels) {
                add_taps_of_four(t, input, filter, sums + count);
                input += 4;
                filter += 4;
                count += 4;
                continue;
            }
#endif
            add_taps(t, input, filter, sums + count);
            if (--left == 0) {
                input++;
                left = channel_multiplier;
            }
            filter++;
            count++;
        }
        qute_small_put(scaling, channel, count, sums, output);
        channel += count;
    }
}

QUTE_SMALL arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(const cmsis_nn_context *ctx,
                                                             const cmsis_nn_dw_conv_params *dw_conv_params,
                                                             const cmsis_nn_per_channel_quant_params *quant_params,
                                                             const cmsis_nn_dims *input_dims,
                                                             const int8_t *input_data,
                                                             const cmsis_nn_dims *filter_dims,
                                                             const int8_t *filter_data,
                                                             const cmsis_nn_dims *bias_dims,
                                                             const int32_t *bias_data,
                                                             const cmsis_nn_dims *output_dims,
                                                             int8_t *output_data)
{
    const cmsis_nn_tile dilation = dw_conv_params->dilation;
    const int32_t row_bytes = input_dims->w * input_dims->c;
    qute_small_scaling scaling;
    taps t;
    (void)ctx;
    (void)bias_dims;

    if (input_dims->c * dw_conv_params->ch_mult != output_dims->c) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
    scaling.bias = bias_data;
    scaling.multiplier = quant_params->multiplier;
    scaling.shift = quant_params->shift;
    scaling.step = 1;
    scaling.offset = dw_conv_params->output_offset;
    scaling.min = dw_conv_params->activation.min;
    scaling.max = dw_conv_params->activation.max;
    t.offset = dw_conv_params->input_offset;
    t.row_step = dilation.h * row_bytes;
    t.column_step = dilation.w * input_dims->c;
    t.filter_column_step = output_dims->c;
    t.filter_row_step = filter_dims->w * output_dims->c;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t out_y = 0; out_y < output_dims->h; out_y++) {
            const int32_t y = out_y * dw_conv_params->stride.h - dw_conv_params->padding.h;
            const qute_taps rows = qute_valid_taps(y, filter_dims->h, dilation.h, input_dims->h);
            t.rows = rows.end - rows.begin;
            for (int32_t out_x = 0; out_x < output_dims->w; out_x++) {
                const int32_t x = out_x * dw_conv_params->stride.w - dw_conv_params->padding.w;
                const qute_taps columns = qute_valid_taps(x, filter_dims->w, dilation.w, input_dims->w);
                t.columns = columns.end - columns.begin;
                put_pixel(&t,
                          &scaling,
                          input_data + (y * row_bytes + x * input_dims->c + rows.begin * t.row_step +
                                        columns.begin * t.column_step),
                          filter_data + (rows.begin * t.filter_row_step + columns.begin * t.filter_column_step),
                          dw_conv_params->ch_mult,
                          output_data);
                output_data += output_dims->c;
            }
        }
        input_data += input_dims->h * row_bytes;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
