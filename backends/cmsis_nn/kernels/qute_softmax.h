// SPDX-License-Identifier: Apache-2.0
/* Softmax in fixed point as in gemmlowp: what its kernels for one row share. Qm.n has m integer and n fractional bits
 * besides the sign. */
#ifndef QUTE_SOFTMAX_H
#define QUTE_SOFTMAX_H

#include "qute_requantize.h"

/* Fractional bits by which exponentials are shifted right so that their sum fits: Q12.19. */
#define QUTE_SUM_SHIFT 12

/* Exponentials of a row that stay on the stack between the sum and the quotients; those of more are taken again. */
#define QUTE_KEPT_EXPS 32

/* How differences from the maximum become exponents: times multiplier * 2^(shift - 31); below diff_min they count
 * nothing. */
typedef struct {
    int32_t multiplier;
    int32_t shift;
    int32_t diff_min;
} qute_softmax_scaling;

/* An exponential in Q0.31 becomes a probability: times scale / 2^31, shifted right by exponent. */
typedef struct {
    int32_t scale;
    int32_t exponent;
} qute_softmax_quotient;

/* value * 2^count, saturated. */
QUTE_INLINE int32_t qute_saturating_shift_left(int32_t value, int32_t count)
{
    const int32_t limit = (int32_t)((1U << (31 - count)) - 1);
    if (value > limit) {
        return INT32_MAX;
    }
    if (value < -limit) {
        return INT32_MIN;
    }
    return value * (1 << count);
}

/* 1 / (1 + a) in Q0.31, given (1 + a) / 2 in Q0.31 with 0 <= a < 1: three Newton steps from 48/17 - 32/17 d. */
QUTE_INLINE int32_t qute_reciprocal(int32_t half_denominator)
{
    const int32_t one = 1 << 29;
    int32_t x = 1515870810 + qute_doubling_high_mul(half_denominator, -1010580540);
    QUTE_ROLLED
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = one - qute_doubling_high_mul(half_denominator, x);
        x += qute_saturating_shift_left(qute_doubling_high_mul(x, error), 2);
    }
    return qute_saturating_shift_left(x, 1);
}

QUTE_INLINE int32_t qute_leading_zeros(uint32_t value)
{
#if defined(__GNUC__)
    return __builtin_clz(value);
#else
    int32_t count = 0;
    while (!(value & 0x80000000U)) {
        value <<= 1;
        count++;
    }
    return count;
#endif
}

/* What divides by the sum of a row. */
QUTE_INLINE qute_softmax_quotient qute_softmax_divide_by(uint32_t sum)
{
    qute_softmax_quotient quotient;
    /* The maximum itself adds exp(0), so that the sum is not 0 for diff_min <= 0. */
    const int32_t headroom = qute_leading_zeros(sum | 1U);
    quotient.scale = qute_reciprocal((int32_t)((sum << headroom) >> 1));
    quotient.exponent = QUTE_SUM_SHIFT - headroom + 23;
    if (quotient.exponent > 31) {
        /* Every quotient of an int32 rounds to 0; more than 512 equal maxima get there. */
        quotient.scale = 0;
        quotient.exponent = 31;
    }
    return quotient;
}

#endif
