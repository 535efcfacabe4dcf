// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

/* Tap by tap, or a whole row of taps where that is one run of bytes of the map. Outside of the map there are zeros. */

QUTE_SMALL void qute_small_write_window(const qute_small_windows *windows, int32_t y, int32_t x, int16_t *column)
{
    const cmsis_nn_dims *filter_dims = windows->filter_dims;
    const cmsis_nn_tile dilation = windows->params->dilation;
    const int32_t offset = windows->params->input_offset;
    const int32_t depth = filter_dims->c;
    const int is_run = dilation.w == 1 && depth == windows->channels && x >= 0 && x + filter_dims->w <= windows->width;
    const int32_t taps = is_run ? filter_dims->w : 1;
    int32_t k = 0;

    for (int32_t ky = filter_dims->h; ky > 0; ky--) {
        int32_t at = x;
        for (int32_t kx = filter_dims->w; kx > 0; kx -= taps) {
            const int32_t end = k + taps * depth;
            if ((uint32_t)y >= (uint32_t)windows->height || (uint32_t)at >= (uint32_t)windows->width) {
                for (; k < end; k++) {
                    column[qute_small_column_index(k)] = 0;
                }
            } else {
                const int8_t *pixel = windows->input + (y * windows->width + at) * windows->channels;
#if QUTE_SMALL_DSP
                if (((k | end) & 3) == 0) {
                    const uint32_t offset_pair = qute_pair(offset);
                    int16_t *group = column + 2 * k;
                    for (; k < end; k += 4) {
                        const uint32_t word = qute_load_s8x4(pixel);
                        qute_store_s16x2(group, qute_sxtab16(offset_pair, word));
                        qute_store_s16x2(group + 4, qute_sxtab16_odd(offset_pair, word));
                        pixel += 4;
                        group += 8;
                    }
                }
#endif
                for (; k < end; k++) {
                    column[qute_small_column_index(k)] = (int16_t)(*pixel++ + offset);
                }
            }
            at += dilation.w;
        }
        y += dilation.h;
    }
}
