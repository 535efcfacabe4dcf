// SPDX-License-Identifier: Apache-2.0
/* Without an activation the sum over the output pixels is linear in the map: that of w * x over all taps and pixels is
 * that of w * S over the taps, S the sum of the pixels that a tap meets on its way over the map.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_SUMS_H
#define QUTE_HEAD_SUMS_H

#include "qute_head_lanes.h"
#include "qute_kernels.h"

/* Sums of pixels, each plus the offset, for a block of channels. */
#if LANES == 4
/* Of channels {0, 2} and of {1, 3}, in 16 bits. */
typedef struct {
    uint32_t even;
    uint32_t odd;
} pixel_sums;
#else
typedef int32_t pixel_sums;
#endif

QUTE_INLINE pixel_sums sum_of_pixels(const int8_t *pixel, int32_t count, int32_t step, int32_t offset)
{
#if LANES == 4
    pixel_sums sums;
    sums.even = qute_pair(count * offset);
    sums.odd = sums.even;
    QUTE_ROLLED
    for (; count > 0; count--) {
        uint32_t word = qute_load_s8x4(pixel);
        sums.even = qute_sxtab16(sums.even, word);
        sums.odd = qute_sxtab16_odd(sums.odd, word);
        pixel += step;
        /* Once more, by hand: compilers add a loop for what is left over. */
        if (--count == 0) {
            break;
        }
        word = qute_load_s8x4(pixel);
        sums.even = qute_sxtab16(sums.even, word);
        sums.odd = qute_sxtab16_odd(sums.odd, word);
        pixel += step;
    }
    return sums;
#else
    pixel_sums sum = count * offset;
    QUTE_ROLLED
    for (; count > 0; count--) {
        sum += *pixel;
        pixel += step;
    }
    return sum;
#endif
}

#endif
