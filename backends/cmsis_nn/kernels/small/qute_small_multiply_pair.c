// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

/* Two channels at a time, an odd one twice, with a pitch of 0. The sums of the second pixel
 * lie QUTE_SMALL_SUMS behind those of the first. */

#if QUTE_SMALL_DSP

/* 18 instructions for 16 products, with all registers but one, which may be a frame pointer. */
QUTE_INLINE void multiply(
    const int16_t *columns, const int8_t *weights, int32_t pitch, int32_t depth, int32_t *sums)
{
    const int16_t *end = columns + 2 * (depth & ~3);
    int32_t tail = depth & 3;
    int8_t last[8];
    int32_t s0 = 0;
    int32_t s1 = 0;
    int32_t s2 = 0;
    int32_t s3 = 0;
    for (;;) {
        uint32_t x0, x1, w0, w1, even;
        __asm__ volatile("b 2f\n"
                         "1:\n\t"
                         "ldr %[w1], [%[w], %[pitch]]\n\t"
                         "ldr %[w0], [%[w]], #4\n\t"
                         "ldrd %[x0], %[x1], [%[x]], #16\n\t"
                         "sxtb16 %[even], %[w0]\n\t"
                         "smlad %[s0], %[even], %[x0], %[s0]\n\t"
                         "smlad %[s1], %[even], %[x1], %[s1]\n\t"
                         "sxtb16 %[even], %[w1]\n\t"
                         "smlad %[s2], %[even], %[x0], %[s2]\n\t"
                         "smlad %[s3], %[even], %[x1], %[s3]\n\t"
                         "ldrd %[x0], %[x1], [%[x], #-8]\n\t"
                         "sxtb16 %[w0], %[w0], ror #8\n\t"
                         "sxtb16 %[w1], %[w1], ror #8\n\t"
                         "smlad %[s0], %[w0], %[x0], %[s0]\n\t"
                         "smlad %[s1], %[w0], %[x1], %[s1]\n\t"
                         "smlad %[s2], %[w1], %[x0], %[s2]\n\t"
                         "smlad %[s3], %[w1], %[x1], %[s3]\n"
                         "2:\n\t"
                         "cmp %[x], %[end]\n\t"
                         "bne 1b"
                         : [x] "+&r"(columns), [w] "+&r"(weights), [s0] "+&r"(s0), [s1] "+&r"(s1), [s2] "+&r"(s2),
                           [s3] "+&r"(s3), [x0] "=&r"(x0), [x1] "=&r"(x1), [w0] "=&r"(w0), [w1] "=&r"(w1),
                           [even] "=&r"(even)
                         : [pitch] "r"(pitch), [end] "r"(end)
                         : "memory", "cc");
        if (tail == 0) {
            break;
        }
        /* Not a byte behind the weights is read: the last group meets a copy of them, and zeros. */
        memset(last, 0, sizeof last);
        do {
            tail--;
            last[tail] = weights[tail];
            last[4 + tail] = weights[pitch + tail];
        } while (tail > 0);
        weights = last;
        pitch = 4;
        end += 8;
    }
    sums[0] = s0;
    sums[1] = s2;
    sums[QUTE_SMALL_SUMS] = s1;
    sums[QUTE_SMALL_SUMS + 1] = s3;
}

#else

QUTE_INLINE void multiply(
    const int16_t *columns, const int8_t *weights, int32_t pitch, int32_t depth, int32_t *sums)
{
    int32_t s0 = 0;
    int32_t s1 = 0;
    int32_t s2 = 0;
    int32_t s3 = 0;
    for (int32_t k = 0; k < depth; k++) {
        const int16_t *const x = columns + qute_small_column_index(k);
        const int32_t w0 = weights[k];
        const int32_t w1 = weights[pitch + k];
        s0 = qute_wrapping_add(s0, w0 * x[0]);
        s1 = qute_wrapping_add(s1, w0 * x[QUTE_SMALL_OTHER_COLUMN]);
        s2 = qute_wrapping_add(s2, w1 * x[0]);
        s3 = qute_wrapping_add(s3, w1 * x[QUTE_SMALL_OTHER_COLUMN]);
    }
    sums[0] = s0;
    sums[1] = s2;
    sums[QUTE_SMALL_SUMS] = s1;
    sums[QUTE_SMALL_SUMS + 1] = s3;
}

#endif

QUTE_SMALL void qute_small_multiply_pair(
    const qute_small_filters *filters, const int16_t *columns, int32_t pixel_step, int8_t *output)
{
    const int8_t *weights = filters->weights;
    const int32_t depth = filters->depth;
    int32_t channel = filters->first;
    int32_t count;
    for (int32_t left = filters->last - channel; left > 0; left -= count) {
        int32_t sums[2 * QUTE_SMALL_SUMS];
        count = left < QUTE_SMALL_SUMS ? left : QUTE_SMALL_SUMS;
        for (int32_t c = 0; c < count; c += 2) {
            multiply(columns, weights, c + 1 < count ? depth : 0, depth, sums + c);
            weights += 2 * depth;
        }
        qute_small_put(filters->scaling, channel, count, sums, output);
        qute_small_put(filters->scaling, channel, count, sums + QUTE_SMALL_SUMS, output + pixel_step);
        channel += count;
    }
}
