// SPDX-License-Identifier: Apache-2.0
#include "qute_depthwise.h"

#if QUTE_DSP

#define KERNEL_3X3 3

/* What the four channels need for every pixel. */
typedef struct {
    int32_t bias[4];
    int32_t multiplier[4];
    int32_t shift[4];
    int32_t only_right_shifts;
    int32_t offset;
    int32_t min;
    int32_t max;
    uint32_t input_offset_pair;
    /* A 3x3 kernel, widened once: channels {0, 2} and {1, 3} of each tap. */
    uint32_t filter[KERNEL_3X3 * KERNEL_3X3][2];
} block;

static void start_block(const qute_depthwise *call, int32_t channel, int32_t is_3x3, block *b)
{
    b->only_right_shifts = 1;
    for (int32_t i = 0; i < 4; i++) {
        b->bias[i] = call->bias ? call->bias[channel + i] : 0;
        b->multiplier[i] = call->quant->multiplier[channel + i];
        b->shift[i] = call->quant->shift[channel + i];
        b->only_right_shifts &= b->shift[i] < 0;
    }
    b->offset = call->params->output_offset;
    b->min = call->params->activation.min;
    b->max = call->params->activation.max;
    b->input_offset_pair = qute_pair(call->params->input_offset);
    for (int32_t tap = 0; is_3x3 && tap < KERNEL_3X3 * KERNEL_3X3; tap++) {
        const uint32_t word = qute_load_s8x4(call->filter + tap * call->input_dims->c + channel);
        b->filter[tap][0] = qute_sxtb16(word);
        b->filter[tap][1] = qute_sxtb16_odd(word);
    }
}

QUTE_INLINE void add_tap(const block *b, uint32_t input, uint32_t even, uint32_t odd, int32_t sums[4])
{
    const uint32_t input_even = qute_sxtab16(b->input_offset_pair, input);
    const uint32_t input_odd = qute_sxtab16_odd(b->input_offset_pair, input);
    sums[0] = qute_smlabb(input_even, even, sums[0]);
    sums[1] = qute_smlabb(input_odd, odd, sums[1]);
    sums[2] = qute_smlatt(input_even, even, sums[2]);
    sums[3] = qute_smlatt(input_odd, odd, sums[3]);
}

QUTE_INLINE void add_3x3(const block *b, const int8_t *input, int32_t row_step, int32_t column_step, int32_t sums[4])
{
#pragma GCC unroll 3
    for (int32_t y = 0; y < KERNEL_3X3; y++) {
#pragma GCC unroll 3
        for (int32_t x = 0; x < KERNEL_3X3; x++) {
            const int32_t tap = y * KERNEL_3X3 + x;
            add_tap(b, qute_load_s8x4(input + x * column_step), b->filter[tap][0], b->filter[tap][1], sums);
        }
        input += row_step;
    }
}

static void add_window(const block *b, const qute_depthwise_window *window, int32_t channel, int32_t sums[4])
{
    for (int32_t y = 0; y < window->rows; y++) {
        const int8_t *input = window->input + y * window->input_row_step + channel;
        const int8_t *filter = window->filter + y * window->filter_row_step + channel;
        for (int32_t x = window->columns; x > 0; x--) {
            const uint32_t word = qute_load_s8x4(filter);
            add_tap(b, qute_load_s8x4(input), qute_sxtb16(word), qute_sxtb16_odd(word), sums);
            input += window->input_column_step;
            filter += window->filter_column_step;
        }
    }
}

QUTE_INLINE void store(const block *b, const int32_t sums[4], int8_t *output)
{
    if (b->only_right_shifts) {
#pragma GCC unroll 4
        for (int32_t i = 0; i < 4; i++) {
            const int32_t scaled = qute_doubling_high_mul(sums[i], b->multiplier[i]);
            const int32_t value = qute_rounding_divide_by_pot(scaled, -b->shift[i]);
            output[i] = (int8_t)qute_clamp(qute_wrapping_add(value, b->offset), b->min, b->max);
        }
        return;
    }
    for (int32_t i = 0; i < 4; i++) {
        output[i] = qute_output_s8(sums[i], b->multiplier[i], b->shift[i], b->offset, b->min, b->max);
    }
}

void qute_depthwise_s8x4(const qute_depthwise *call, int32_t channel)
{
    const cmsis_nn_dw_conv_params *params = call->params;
    const int32_t is_3x3 = call->filter_dims->h == KERNEL_3X3 && call->filter_dims->w == KERNEL_3X3;
    const int32_t inner_width = call->input_dims->w - (KERNEL_3X3 - 1) * params->dilation.w;
    const int32_t channels = call->input_dims->c;
    int8_t *output = call->output + call->row * call->output_dims->w * channels + channel;
    qute_depthwise_window window;
    block b;

    start_block(call, channel, is_3x3, &b);
    qute_depthwise_steps(call, &window);

    {
        const int32_t y = call->row * params->stride.h - params->padding.h;
        const qute_taps rows = qute_valid_taps(y, call->filter_dims->h, params->dilation.h, call->input_dims->h);
        const int32_t inner_row = is_3x3 && rows.end - rows.begin == KERNEL_3X3;
        int32_t x = -params->padding.w;
        for (int32_t out_x = 0; out_x < call->output_dims->w; out_x++) {
            int32_t sums[4] = {b.bias[0], b.bias[1], b.bias[2], b.bias[3]};
            if (inner_row && x >= 0 && x < inner_width) {
                const int8_t *input = call->input + (y * call->input_dims->w + x) * channels + channel;
                add_3x3(&b, input, window.input_row_step, window.input_column_step, sums);
            } else {
                const qute_taps columns =
                    qute_valid_taps(x, call->filter_dims->w, params->dilation.w, call->input_dims->w);
                qute_depthwise_place(call, y, x, rows, columns, &window);
                add_window(&b, &window, channel, sums);
            }
            store(&b, sums, output);
            output += channels;
            x += params->stride.w;
        }
    }
}

#endif
