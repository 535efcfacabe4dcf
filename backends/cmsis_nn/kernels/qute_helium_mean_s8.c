// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_pool.h"

#if QUTE_MVE

/* Pixels whose sum an int16 holds. */
#define MAX_PIXELS_IN_S16 255

/* Pixels up to which a mean is exact as a product with 2^32 / count, rounded up: a sum and half a count, times what is
 * rounded up (less than the count), has to be below 2^32. */
#define MAX_PIXELS_BY_PRODUCT 5781

/* Eight channels of `count` pixels, `step` bytes apart. */
QUTE_INLINE int16x8_t sum_of_row(const int8_t *pixel, int32_t step, int32_t count, int16x8_t sum)
{
    __asm__("dls lr, %[n]\n"
            "1:\n\t"
            "vldrb.s16 q0, [%[pixel]]\n\t"
            "vadd.i16 %q[sum], %q[sum], q0\n\t"
            "add %[pixel], %[pixel], %[step]\n\t"
            "le lr, 1b"
            : [pixel] "+l"(pixel), [sum] "+w"(sum)
            : [n] "r"(count), [step] "r"(step)
            : "q0", "lr", "memory");
    return sum;
}

/* The first of eight channels. */
QUTE_INLINE int16x8_t sum_of_row_lanes(
    const int8_t *pixel, int32_t step, int32_t count, int16x8_t sum, mve_pred16_t lanes)
{
    for (; count > 0; count--) {
        sum = vaddq_s16(sum, vldrbq_z_s16(pixel, lanes));
        pixel += step;
    }
    return sum;
}

/* The sums of eight channels, even ones and odd ones. */
typedef struct {
    int32x4_t even;
    int32x4_t odd;
} lane_sums;

/* Of a window whose sums an int16 holds, of eight channels that are all there. */
QUTE_INLINE lane_sums sum_of_small_window(const qute_pool_window *window, const int8_t *row)
{
    int16x8_t sum = vdupq_n_s16(0);
    for (int32_t y = window->rows; y > 0; y--) {
        sum = sum_of_row(row, window->channels, window->columns, sum);
        row += window->row_pitch;
    }
    return (lane_sums){vmovlbq_s16(sum), vmovltq_s16(sum)};
}

/* Of any window. */
QUTE_NOINLINE lane_sums sum_of_window(const qute_pool_window *window, int32_t channel)
{
    const int32_t step = window->channels;
    const int32_t channels = window->channels - channel;
    const mve_pred16_t lanes = vctp16q((uint32_t)channels);
    const int8_t *row = window->input + channel;
    lane_sums sums = {vdupq_n_s32(0), vdupq_n_s32(0)};
    int16x8_t part = vdupq_n_s16(0);
    int32_t room = MAX_PIXELS_IN_S16;
    for (int32_t y = window->rows; y > 0; y--) {
        const int8_t *pixel = row;
        int32_t left = window->columns;
        while (left > 0) {
            const int32_t count = left < room ? left : room;
            part = channels >= 8 ? sum_of_row(pixel, step, count, part)
                                 : sum_of_row_lanes(pixel, step, count, part, lanes);
            pixel += count * step;
            left -= count;
            room -= count;
            if (room == 0) {
                sums.even = vaddq_s32(sums.even, vmovlbq_s16(part));
                sums.odd = vaddq_s32(sums.odd, vmovltq_s16(part));
                part = vdupq_n_s16(0);
                room = MAX_PIXELS_IN_S16;
            }
        }
        row += window->row_pitch;
    }
    sums.even = vaddq_s32(sums.even, vmovlbq_s16(part));
    sums.odd = vaddq_s32(sums.odd, vmovltq_s16(part));
    return sums;
}

/* sum / count, rounded half away from zero, where `reciprocal` is 2^32 / count rounded up. */
QUTE_INLINE int32x4_t mean(int32x4_t sum, int32_t count, uint32_t reciprocal)
{
    const uint32x4_t size = vaddq_n_u32(vreinterpretq_u32_s32(vabsq_s32(sum)), (uint32_t)count / 2);
    const int32x4_t quotient = vreinterpretq_s32_u32(vmulhq_u32(size, vdupq_n_u32(reciprocal)));
    return vnegq_m_s32(quotient, quotient, vcmpltq_n_s32(sum, 0));
}

/* The same for counts that `mean` is not for: 1, and very many. */
QUTE_COLD int32x4_t divided_mean(int32x4_t sum, int32_t count)
{
    const int32_t half = count / 2;
    int32_t values[4];
    vstrwq_s32(values, sum);
    for (int32_t i = 0; i < 4; i++) {
        values[i] = (values[i] > 0 ? values[i] + half : values[i] - half) / count;
    }
    return vldrwq_s32(values);
}

void qute_helium_mean_s8(const qute_pool_window *window, const cmsis_nn_activation *activation, int8_t *output)
{
    const int32_t count = window->rows * window->columns;
    const uint32_t reciprocal = UINT32_MAX / (uint32_t)count + 1U;
    const int is_product = count > 1 && count <= MAX_PIXELS_BY_PRODUCT;
    const int16x8_t low = vdupq_n_s16((int16_t)activation->min);
    const int16x8_t high = vdupq_n_s16((int16_t)activation->max);
    for (int32_t channel = 0; channel < window->channels; channel += 8) {
        const int is_small = count <= MAX_PIXELS_IN_S16 && window->channels - channel >= 8;
        const lane_sums sums = is_small ? sum_of_small_window(window, window->input + channel)
                                        : sum_of_window(window, channel);
        const int32x4_t even = is_product ? mean(sums.even, count, reciprocal) : divided_mean(sums.even, count);
        const int32x4_t odd = is_product ? mean(sums.odd, count, reciprocal) : divided_mean(sums.odd, count);
        const int16x8_t values = vmovntq_s32(vmovnbq_s32(low, even), odd);
        vstrbq_p_s16(output + channel,
                     vminq_s16(vmaxq_s16(values, low), high),
                     vctp16q((uint32_t)(window->channels - channel)));
    }
}

#endif
