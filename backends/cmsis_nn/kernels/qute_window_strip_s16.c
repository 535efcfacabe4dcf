// SPDX-License-Identifier: Apache-2.0
#include "qute_convolve.h"

#if QUTE_BLOCKS

#define COLUMNS (QUTE_STRIP + 2)

/* int16 values of four channels of all columns. */
#define GROUP_STEP (4 * COLUMNS)

/* One column of a row, `groups` groups of four channels. */
QUTE_INLINE void write_column(const int8_t *pixel, int32_t groups, uint32_t offset_pair, int16_t *target)
{
    for (; groups > 0; groups--) {
        const uint32_t word = qute_load_s8x4(pixel);
        qute_store_s16x2(target, qute_sxtab16(offset_pair, word));
        qute_store_s16x2(target + GROUP_STEP / 2, qute_sxtab16_odd(offset_pair, word));
        pixel += 4;
        target += GROUP_STEP;
    }
}

QUTE_INLINE void write_zeros(int32_t groups, int16_t *target)
{
    for (; groups > 0; groups--) {
        qute_store_s16x2(target, 0);
        qute_store_s16x2(target + GROUP_STEP / 2, 0);
        target += GROUP_STEP;
    }
}

#define WIDEN_TWO(a, b)                                                                                                \
    "sxtab16 r9, %[offset], " a "\n\t"                                                                                 \
    "sxtab16 r10, %[offset], " b "\n\t"                                                                                \
    "strd r9, r10, [%[target]], #8\n\t"                                                                                \
    "sxtab16 " a ", %[offset], " a ", ror #8\n\t"                                                                      \
    "sxtab16 " b ", %[offset], " b ", ror #8\n\t"

/* All columns of a row that lies inside the map. */
QUTE_NOINLINE void write_row(const int8_t *pixel, int32_t channels, uint32_t offset_pair, int16_t *target)
{
    const int8_t *fourth = pixel + 3 * channels;
    const int8_t *const end = pixel + channels;
    while (pixel != end) {
        __asm__ volatile("ldr r3, [%[pixel], %[step]]\n\t"
                         "ldr r4, [%[pixel], %[step], lsl #1]\n\t"
                         "ldr r2, [%[pixel]], #4\n\t"
                         "ldr r6, [%[fourth], %[step]]\n\t"
                         "ldr r8, [%[fourth], %[step], lsl #1]\n\t"
                         "ldr r5, [%[fourth]], #4\n\t" WIDEN_TWO("r2", "r3") WIDEN_TWO("r4", "r5")
                             WIDEN_TWO("r6", "r8")
                         "stmia %[target]!, {r2, r3, r4, r5, r6, r8}\n\t"
                         : [pixel] "+&r"(pixel), [fourth] "+&r"(fourth), [target] "+&r"(target)
                         : [step] "r"(channels), [offset] "r"(offset_pair)
                         : "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "memory");
    }
}

void qute_window_strip_s16(const qute_windows *windows, int32_t x, int16_t *strip)
{
    const cmsis_nn_dims *input_dims = windows->input_dims;
    const cmsis_nn_conv_params *params = windows->params;
    const qute_taps rows = windows->rows;
    const int32_t channels = input_dims->c;
    const int32_t groups = channels >> 2;
    const uint32_t offset_pair = qute_pair(params->input_offset);
    const int32_t inside = x >= 0 && x + COLUMNS <= input_dims->w;

    for (int32_t row = 0; row < windows->filter_dims->h; row++) {
        const int32_t y = windows->y + row * params->dilation.h;
        const int32_t is_row = row >= rows.begin && row < rows.end;
        if (is_row && inside) {
            write_row(windows->input + (y * input_dims->w + x) * channels, channels, offset_pair, strip);
        } else {
            for (int32_t column = 0; column < COLUMNS; column++) {
                if (is_row && x + column >= 0 && x + column < input_dims->w) {
                    const int8_t *pixel = windows->input + (y * input_dims->w + x + column) * channels;
                    write_column(pixel, groups, offset_pair, strip + 2 * column);
                } else {
                    write_zeros(groups, strip + 2 * column);
                }
            }
        }
        strip += GROUP_STEP * groups;
    }
}

#endif
