// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

/* Four channels at a time, the last four of which may have been computed before; of fewer than four one, four times, with
 * a pitch of 0. */

#if QUTE_SMALL_DSP

#define MULTIPLY(sum)                                                                                                  \
    "sxtb16 %[even], %[w0]\n\t"                                                                                        \
    "sxtb16 %[w0], %[w0], ror #8\n\t"                                                                                  \
    "smlad " sum ", %[even], %[x0], " sum "\n\t"                                                                       \
    "smlad " sum ", %[w0], %[x1], " sum "\n\t"

/* Adds whole groups up to `end`: 26 instructions for 16 products, with all registers but one, which may be a frame
 * pointer. */
QUTE_NOINLINE void add_groups(const int8_t *input,
                            const int8_t *end,
                            uint32_t offset_pair,
                            const int8_t *weights,
                            int32_t pitch,
                            int32_t sums[4])
{
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];
    uint32_t x0, x1, w0, even;
    __asm__ volatile("b 2f\n"
                     "1:\n\t"
                     "ldr %[x1], [%[x]], #4\n\t"
                     "ldr %[w0], [%[w], %[pitch]]\n\t"
                     "sxtab16 %[x0], %[offset], %[x1]\n\t"
                     "sxtab16 %[x1], %[offset], %[x1], ror #8\n\t" MULTIPLY("%[s1]")
                     "ldr %[w0], [%[w], %[pitch], lsl #1]\n\t" MULTIPLY("%[s2]")
                     "add %[w0], %[w], %[pitch], lsl #1\n\t"
                     "ldr %[w0], [%[w0], %[pitch]]\n\t" MULTIPLY("%[s3]")
                     "ldr %[w0], [%[w]], #4\n\t" MULTIPLY("%[s0]")
                     "2:\n\t"
                     "cmp %[x], %[end]\n\t"
                     "bne 1b"
                     : [x] "+&r"(input), [w] "+&r"(weights), [s0] "+&r"(s0), [s1] "+&r"(s1), [s2] "+&r"(s2),
                       [s3] "+&r"(s3), [x0] "=&r"(x0), [x1] "=&r"(x1), [w0] "=&r"(w0), [even] "=&r"(even)
                     : [pitch] "r"(pitch), [end] "r"(end), [offset] "r"(offset_pair)
                     : "memory", "cc");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#endif

QUTE_SMALL void qute_small_multiply_pixel(
    const qute_small_filters *filters, const int8_t *input, int32_t offset, int32_t start, int8_t *output)
{
    const int8_t *weights = filters->weights;
    const int32_t depth = filters->depth;
    int32_t channel = filters->first;
    while (channel < filters->last) {
        int32_t sums[4] = {start, start, start, start};
        const int32_t again = channel - filters->last + 4;
        int32_t count = 4;
        int32_t pitch = depth;
        int32_t k = 0;
        if (again > 0 && channel - filters->first >= again) {
            channel -= again;
            weights -= again * depth;
        } else if (again > 0) {
            count = 1;
            pitch = 0;
        }
#if QUTE_SMALL_DSP
        k = depth & ~3;
        add_groups(input, input + k, qute_pair(offset), weights, pitch, sums);
#endif
        for (; k < depth; k++) {
            const int32_t value = input[k] + offset;
            const int8_t *weight = weights + k;
            for (int32_t i = 0; i < 4; i++) {
                sums[i] = qute_wrapping_add(sums[i], value * *weight);
                weight += pitch;
            }
        }
        qute_small_put(filters->scaling, channel, count, sums, output);
        weights += count * depth;
        channel += count;
    }
}
