// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_pool.h"

#if QUTE_MVE

/* Sixteen channels of `count` pixels, `step` bytes apart. */
QUTE_INLINE int8x16_t max_of_row(const int8_t *pixel, int32_t step, int32_t count, int8x16_t best)
{
    __asm__("dls lr, %[n]\n"
            "1:\n\t"
            "vldrb.8 q0, [%[pixel]]\n\t"
            "vmax.s8 %q[best], %q[best], q0\n\t"
            "add %[pixel], %[pixel], %[step]\n\t"
            "le lr, 1b"
            : [pixel] "+r"(pixel), [best] "+w"(best)
            : [n] "r"(count), [step] "r"(step)
            : "q0", "lr", "memory");
    return best;
}

/* The first of sixteen channels. */
QUTE_INLINE int8x16_t max_of_row_lanes(
    const int8_t *pixel, int32_t step, int32_t count, int8x16_t best, mve_pred16_t lanes)
{
    for (; count > 0; count--) {
        best = vmaxq_s8(best, vldrbq_z_s8(pixel, lanes));
        pixel += step;
    }
    return best;
}

void qute_helium_max_s8(const qute_pool_window *window, const cmsis_nn_activation *activation, int8_t *output)
{
    const int8x16_t low = vdupq_n_s8((int8_t)activation->min);
    const int8x16_t high = vdupq_n_s8((int8_t)activation->max);
    for (int32_t channel = 0; channel < window->channels; channel += 16) {
        const int32_t left = window->channels - channel;
        const mve_pred16_t lanes = vctp8q((uint32_t)left);
        const int8_t *row = window->input + channel;
        int8x16_t best = low;
        for (int32_t y = window->rows; y > 0; y--) {
            best = left >= 16 ? max_of_row(row, window->channels, window->columns, best)
                              : max_of_row_lanes(row, window->channels, window->columns, best, lanes);
            row += window->row_pitch;
        }
        vstrbq_p_s8(output + channel, vminq_s8(best, high), lanes);
    }
}

#endif
