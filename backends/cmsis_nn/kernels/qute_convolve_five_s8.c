// SPDX-License-Identifier: Apache-2.0
#include "qute_convolve.h"
#include "qute_output.h"

#if QUTE_BLOCKS

/* Five pixels at a time, of one row or of two, pointwise or not. All of them are read before the first is written. */

/* Where the window of the next pixel is. */
typedef struct {
    qute_windows windows;
    const cmsis_nn_dims *output_dims;
    int32_t is_pointwise;
    int32_t x;
    int32_t left; /* pixels of this row of outputs */
} cursor;

QUTE_INLINE void start_row(cursor *at)
{
    const qute_windows *windows = &at->windows;
    at->left = at->output_dims->w;
    at->x = -windows->params->padding.w;
    at->windows.rows = qute_valid_taps(
        windows->y, windows->filter_dims->h, windows->params->dilation.h, windows->input_dims->h);
}

/* The window of the next pixel as one of `columns` columns. */
QUTE_INLINE void write_column(cursor *at, int32_t column, int32_t columns, int16_t *values)
{
    const qute_windows *windows = &at->windows;
    const cmsis_nn_dims *input_dims = windows->input_dims;
    if (at->is_pointwise) {
        const int8_t *pixel = windows->input + (windows->y * input_dims->w + at->x) * input_dims->c;
        qute_widen_s16(pixel, input_dims->c, windows->params->input_offset, column, columns, values);
    } else {
        qute_window_column_s16(windows, at->x, column, columns, values);
    }
    at->x += windows->params->stride.w;
    if (--at->left == 0) {
        at->windows.y += windows->params->stride.h;
        start_row(at);
    }
}

QUTE_SMALL void qute_convolve_five_s8(int16_t *columns,
                            const cmsis_nn_conv_params *params,
                            const qute_channels *channels,
                            const cmsis_nn_dims *input_dims,
                            const int8_t *input,
                            const cmsis_nn_dims *filter_dims,
                            const int8_t *filter,
                            const cmsis_nn_dims *output_dims,
                            int8_t *output)
{
    const int32_t depth = filter_dims->h * filter_dims->w * filter_dims->c;
    const int32_t out_channels = output_dims->c;
    const qute_rest no_rest = {NULL, 0, 0, 0};
    const qute_product product = {channels, filter, depth, 0, out_channels, out_channels};
    cursor at = {{params, input_dims, filter_dims, input, 0, {0, 0}}, output_dims, 0, 0, 0};

    at.is_pointwise = qute_is_pointwise(params, input_dims, filter_dims);
    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        int32_t left = output_dims->h * output_dims->w;
        at.windows.y = -params->padding.h;
        start_row(&at);
        while (left > 0) {
            const int32_t count = left >= QUTE_FIVE ? QUTE_FIVE : left >= 2 ? 2 : 1;
            for (int32_t column = 0; column < count; column++) {
                write_column(&at, column, count, columns);
            }
            if (count == QUTE_FIVE) {
                qute_multiply_five_s16(&product, columns, output);
            } else if (count == 2) {
                qute_multiply_pair_s16(&product, columns, &no_rest, output);
            } else {
                qute_multiply_single_s16(&product, columns, output);
            }
            qute_clamp_s8(output, count * out_channels, channels->min, channels->max);
            output += count * out_channels;
            left -= count;
        }
        at.windows.input += input_dims->h * input_dims->w * input_dims->c;
    }
}

#endif
