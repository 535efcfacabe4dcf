// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_requantize.h"

/* Fixed point as in gemmlowp: Qm.n has m integer and n fractional bits besides the sign. */

/* Fractional bits by which exponentials are shifted right so that their sum fits: Q12.19. */
#define SUM_SHIFT 12

/* Exponentials of a row that stay on the stack between the sum and the quotients; those of more are taken again. */
#define KEPT_EXPS 32

/* exp(x) in Q0.31 for x <= 0 in Q5.26.
 *
 * x = q + r with q a multiple of 1/4 and -1/4 <= r < 0. exp(r) is a polynomial of degree 4 around -1/8; exp(q)
 * is the product of exp(-2^k / 4) over the bits k of -4 q. */
QUTE_NOINLINE int32_t exp_of_negative(int32_t x)
{
    static const int32_t exp_of_power[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t exp_minus_eighth = 1895147668;
    const int32_t third = 715827883;
    const int32_t quarter = 1 << 24;
    int32_t remainder;
    int32_t quarters;
    int32_t r;
    int32_t r2;
    int32_t tail;
    int32_t result;

    if (x == 0) {
        return INT32_MAX;
    }
    remainder = (x & (quarter - 1)) - quarter;
    quarters = (int32_t)((uint32_t)remainder - (uint32_t)x) >> 24;

    r = remainder * 32 + (1 << 28);
    r2 = qute_doubling_high_mul(r, r);
    tail = qute_rounding_divide_by_pot(qute_doubling_high_mul(r2, r2), 2) + qute_doubling_high_mul(r2, r);
    tail = qute_rounding_divide_by_pot(qute_doubling_high_mul(tail, third) + r2, 1);
    result = exp_minus_eighth + qute_doubling_high_mul(exp_minus_eighth, r + tail);

    /* Parameters that no network has (x above 0) leave more bits than there are factors. */
    for (const int32_t *factor = exp_of_power; quarters != 0 && factor < exp_of_power + 7; factor++) {
        if (quarters & 1) {
            result = qute_doubling_high_mul(result, *factor);
        }
        quarters >>= 1;
    }
    return result;
}

/* value * 2^count, saturated. */
static int32_t saturating_shift_left(int32_t value, int32_t count)
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
static int32_t reciprocal(int32_t half_denominator)
{
    const int32_t one = 1 << 29;
    int32_t x = 1515870810 + qute_doubling_high_mul(half_denominator, -1010580540);
    QUTE_ROLLED
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = one - qute_doubling_high_mul(half_denominator, x);
        x += saturating_shift_left(qute_doubling_high_mul(x, error), 2);
    }
    return saturating_shift_left(x, 1);
}

static int32_t leading_zeros(uint32_t value)
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

/* How differences from the maximum become exponents. */
typedef struct {
    int32_t multiplier;
    int32_t shift;
    int32_t diff_min;
} scaling;

/* exp of a scaled difference from the maximum, 0 where it is not worth counting. */
QUTE_INLINE int32_t scaled_exp(int32_t difference, const scaling *by)
{
    if (difference < by->diff_min) {
        return 0;
    }
    return exp_of_negative(qute_doubling_high_mul(qute_shift_left(difference, by->shift), by->multiplier));
}

static void softmax_row(const int8_t *input, int32_t size, const scaling *by, int8_t *output)
{
    int32_t exps[KEPT_EXPS];
    int32_t max = INT8_MIN;
    uint32_t sum = 0;
    int32_t headroom;
    int32_t scale;
    int32_t exponent;

    for (int32_t i = 0; i < size; i++) {
        max = input[i] > max ? input[i] : max;
    }
    QUTE_ROLLED
    for (int32_t i = 0; i < size; i++) {
        const int32_t value = scaled_exp(input[i] - max, by);
        sum += (uint32_t)qute_rounding_divide_by_pot(value, SUM_SHIFT);
        if (i < KEPT_EXPS) {
            exps[i] = value;
        }
    }
    /* The maximum itself adds exp(0), so that the sum is not 0 for diff_min <= 0. */
    headroom = leading_zeros(sum | 1U);
    scale = reciprocal((int32_t)((sum << headroom) >> 1));
    exponent = SUM_SHIFT - headroom + 23;
    if (exponent > 31) {
        /* Every quotient of an int32 rounds to 0; more than 512 equal maxima get there. */
        scale = 0;
        exponent = 31;
    }

    QUTE_ROLLED
    for (int32_t i = 0; i < size; i++) {
        const int32_t value = i < KEPT_EXPS ? exps[i] : scaled_exp(input[i] - max, by);
        const int32_t probability =
            qute_rounding_divide_by_pot(qute_doubling_high_mul(scale, value), exponent);
        output[i] = (int8_t)qute_clamp(probability + INT8_MIN, INT8_MIN, INT8_MAX);
    }
}

void arm_softmax_s8(const int8_t *input,
                    const int32_t num_rows,
                    const int32_t row_size,
                    const int32_t mult,
                    const int32_t shift,
                    const int32_t diff_min,
                    int8_t *output)
{
    const scaling by = {mult, shift, diff_min};
    for (int32_t row = 0; row < num_rows; row++) {
        softmax_row(input, row_size, &by, output);
        input += row_size;
        output += row_size;
    }
}
