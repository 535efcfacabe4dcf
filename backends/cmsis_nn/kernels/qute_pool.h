// SPDX-License-Identifier: Apache-2.0
/* What the pools share: the windows of a map, one after the other in the order of the output. */
#ifndef QUTE_POOL_H
#define QUTE_POOL_H

#include "arm_nnfunctions.h"
#include "qute_requantize.h"
#include "qute_window.h"

/* The part of a window that lies inside the map, channel 0; pitch in bytes from row to row. */
typedef struct {
    const int8_t *input;
    int32_t rows;
    int32_t columns;
    int32_t row_pitch;
    int32_t channels;
} qute_pool_window;

/* Reduces a window to one pixel, all channels. */
typedef void qute_pool_reduce(const qute_pool_window *window, const cmsis_nn_activation *activation, int8_t *output);

/* Inlined into each pool, so that `reduce` is no call through a pointer. */
QUTE_INLINE arm_cmsis_nn_status qute_pool(const cmsis_nn_pool_params *params,
                                          const cmsis_nn_dims *input_dims,
                                          const int8_t *input,
                                          const cmsis_nn_dims *filter_dims,
                                          const cmsis_nn_dims *output_dims,
                                          int8_t *output,
                                          qute_pool_reduce *reduce)
{
    qute_pool_window window;
    window.channels = input_dims->c;
    window.row_pitch = input_dims->w * window.channels;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t out_y = 0; out_y < output_dims->h; out_y++) {
            const int32_t y = out_y * params->stride.h - params->padding.h;
            const qute_taps rows = qute_valid_taps(y, filter_dims->h, 1, input_dims->h);
            const int8_t *const row = input + (y + rows.begin) * window.row_pitch;
            for (int32_t out_x = 0; out_x < output_dims->w; out_x++) {
                const int32_t x = out_x * params->stride.w - params->padding.w;
                const qute_taps columns = qute_valid_taps(x, filter_dims->w, 1, input_dims->w);
                window.rows = rows.end - rows.begin;
                window.columns = columns.end - columns.begin;
                if (window.rows <= 0 || window.columns <= 0) {
                    return ARM_CMSIS_NN_ARG_ERROR;
                }
                if (window.columns == input_dims->w) {
                    /* Whole rows lie one behind the other. */
                    window.columns *= window.rows;
                    window.rows = 1;
                }
                window.input = row + (x + columns.begin) * window.channels;
                reduce(&window, &params->activation, output);
                output += window.channels;
            }
        }
        input += input_dims->h * window.row_pitch;
    }
    return ARM_CMSIS_NN_SUCCESS;
}

#endif
