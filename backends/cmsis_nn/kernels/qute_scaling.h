// SPDX-License-Identifier: Apache-2.0
/* Requantisation in five instructions and a saturation, for multipliers, shifts and values in the range that networks have.
 *
 * qute_output_s8 rounds twice, a product half up and a quotient half away from zero:
 *
 *     product = (value * multiplier + 2^30) >> 31
 *     output = ((product - (product < 0) + 2^(right - 1)) >> right) + offset, for a right shift
 *
 * SMMLAR does (a * b + 2^31) >> 32 with an addition for nothing, so that with twice the value the product, the
 * half and the offset, shifted left by `right`, are one instruction. For a multiplier that is not negative the
 * value has the sign of the product or the product is 0, where a correction changes nothing.
 */
#ifndef QUTE_SCALING_H
#define QUTE_SCALING_H

#include "qute_requantize.h"

/* bias_dims->n, which no kernel reads otherwise, of calls for whose constants this is known to hold: a call for a single
 * row of a map need not look through them again. Whoever wrote the call has checked them (checked_constants.py). */
#define QUTE_CHECKED_CONSTANTS (-1)

#if QUTE_DSP

/* Values below 2^30 of either sign: with the largest right shift the offset takes 2^29 of the remaining range. */
#define QUTE_SCALING_VALUE_BITS 30
#define QUTE_SCALING_MAX_RIGHT 22

typedef struct {
    int32_t multiplier;
    int32_t addend;
    int32_t right;
} qute_scaling;

/* Negative where requantisation by `multiplier` and `shift` cannot take this form. */
QUTE_INLINE int32_t qute_scaling_signs(int32_t multiplier, int32_t shift)
{
    return multiplier | ~shift | (shift + QUTE_SCALING_MAX_RIGHT);
}

/* -128 <= offset <= 127, or 0 for another use than an int8 output. */
QUTE_INLINE qute_scaling qute_make_scaling(int32_t multiplier, int32_t shift, int32_t offset)
{
    qute_scaling scaling;
    scaling.multiplier = multiplier;
    scaling.right = -shift;
    scaling.addend = qute_shift_left(2 * offset + 1, scaling.right - 1);
    return scaling;
}

/* `value` requantised, plus the offset. */
QUTE_INLINE int32_t qute_scale(int32_t value, const qute_scaling *by)
{
    const int32_t addend = by->addend + (value >> 31);
    return qute_smmlar(qute_shift_left(value, 1), by->multiplier, addend) >> by->right;
}

/* Clamps bytes, if the range is narrower than that of int8. */
QUTE_INLINE void qute_clamp_s8(int8_t *bytes, int32_t count, int32_t low, int32_t high)
{
    const uint32_t lows = 0x01010101U * (uint8_t)low;
    const uint32_t highs = 0x01010101U * (uint8_t)high;
    if (low <= INT8_MIN && high >= INT8_MAX) {
        return;
    }
    for (; count >= 4; count -= 4) {
        qute_store_s8x4(bytes, qute_min_s8x4(qute_max_s8x4(qute_load_s8x4(bytes), lows), highs));
        bytes += 4;
    }
    QUTE_ROLLED
    for (; count > 0; count--) {
        *bytes = (int8_t)qute_clamp(*bytes, low, high);
        bytes++;
    }
}

/* Saturation to int8. */
QUTE_INLINE int32_t qute_ssat8(int32_t value)
{
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value));
    return result;
}

typedef struct {
    int32_t of[4];
} qute_sums;

/* A qute_scaling as three words, made like qute_make_scaling; returns what follows. */
QUTE_INLINE uint32_t *qute_store_scaling(uint32_t *words, int32_t multiplier, int32_t shift, int32_t offset)
{
    int32_t x, y;
    __asm__ volatile("mvn %[x], %[s]\n\t"
                     "rsb %[y], %[s], #0\n\t"
                     "lsl %[x], %[h], %[x]\n\t"
                     "strd %[m], %[x], [%[w]], #8\n\t"
                     "str %[y], [%[w]], #4"
                     : [w] "+&r"(words), [x] "=&r"(x), [y] "=&r"(y)
                     : [m] "r"(multiplier), [s] "r"(shift), [h] "r"(2 * offset + 1)
                     : "memory");
    return words;
}

#define QUTE_SCALE_ONE(sum)                                                                                            \
    "ldrd %[m], %[t], [%[w]], #8\n\t"                                                                                  \
    "ldr %[r], [%[w]], #4\n\t"                                                                                         \
    "add %[t], %[t], " sum ", asr #31\n\t"                                                                             \
    "lsl " sum ", " sum ", #1\n\t"                                                                                     \
    "smmlar " sum ", " sum ", %[m], %[t]\n\t"                                                                          \
    "asr " sum ", " sum ", %[r]\n\t"                                                                                   \
    "ssat " sum ", #8, " sum "\n\t"

/* The four sums requantised as qute_scale does, saturated to int8, in one word. */
QUTE_INLINE uint32_t qute_scale_four(qute_sums *sums, const uint32_t *by)
{
    int32_t m, t, r;
    __asm__ volatile(QUTE_SCALE_ONE("%[s0]") QUTE_SCALE_ONE("%[s1]") QUTE_SCALE_ONE("%[s2]") QUTE_SCALE_ONE("%[s3]")
            "bfi %[s0], %[s1], #8, #8\n\t"
            "bfi %[s0], %[s2], #16, #8\n\t"
            "bfi %[s0], %[s3], #24, #8\n\t"
            : [s0] "+&r"(sums->of[0]), [s1] "+&r"(sums->of[1]), [s2] "+&r"(sums->of[2]), [s3] "+&r"(sums->of[3]),
              [w] "+&r"(by), [m] "=&r"(m), [t] "=&r"(t), [r] "=&r"(r)
            :
            : "memory");
    return (uint32_t)sums->of[0];
}

#define QUTE_SCALE_ALIKE(sum)                                                                                          \
    "add %[t], %[a], " sum ", asr #31\n\t"                                                                             \
    "lsl " sum ", " sum ", #1\n\t"                                                                                     \
    "smmlar " sum ", " sum ", %[m], %[t]\n\t"                                                                          \
    "asr " sum ", " sum ", %[r]\n\t"                                                                                   \
    "ssat " sum ", #8, " sum "\n\t"

/* The same with one scaling for all. */
QUTE_INLINE uint32_t qute_scale_four_alike(qute_sums *sums, const uint32_t *by)
{
    int32_t t;
    __asm__(QUTE_SCALE_ALIKE("%[s0]") QUTE_SCALE_ALIKE("%[s1]") QUTE_SCALE_ALIKE("%[s2]") QUTE_SCALE_ALIKE("%[s3]")
            "bfi %[s0], %[s1], #8, #8\n\t"
            "bfi %[s0], %[s2], #16, #8\n\t"
            "bfi %[s0], %[s3], #24, #8"
            : [s0] "+&r"(sums->of[0]), [s1] "+&r"(sums->of[1]), [s2] "+&r"(sums->of[2]), [s3] "+&r"(sums->of[3]),
              [t] "=&r"(t)
            : [m] "r"(by[0]), [a] "r"(by[1]), [r] "r"(by[2]));
    return (uint32_t)sums->of[0];
}

/* a.low * b.low */
QUTE_INLINE int32_t qute_smulbb(uint32_t a, uint32_t b)
{
    int32_t result;
    __asm__("smulbb %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* a.high * b.high */
QUTE_INLINE int32_t qute_smultt(uint32_t a, uint32_t b)
{
    int32_t result;
    __asm__("smultt %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

#endif

#endif
