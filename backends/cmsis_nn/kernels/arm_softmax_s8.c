// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_softmax.h"
#if QUTE_MVE
#include "qute_helium_softmax.h"
#define SOFTMAX_ROW qute_helium_softmax_row
#else

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

/* exp of a scaled difference from the maximum, 0 where it is not worth counting. */
QUTE_INLINE int32_t scaled_exp(int32_t difference, const qute_softmax_scaling *by)
{
    if (difference < by->diff_min) {
        return 0;
    }
    return exp_of_negative(qute_doubling_high_mul(qute_shift_left(difference, by->shift), by->multiplier));
}

static void softmax_row(const int8_t *input, int32_t size, const qute_softmax_scaling *by, int8_t *output)
{
    int32_t exps[QUTE_KEPT_EXPS];
    int32_t max = INT8_MIN;
    uint32_t sum = 0;
    qute_softmax_quotient quotient;

    for (int32_t i = 0; i < size; i++) {
        max = input[i] > max ? input[i] : max;
    }
    QUTE_ROLLED
    for (int32_t i = 0; i < size; i++) {
        const int32_t value = scaled_exp(input[i] - max, by);
        sum += (uint32_t)qute_rounding_divide_by_pot(value, QUTE_SUM_SHIFT);
        if (i < QUTE_KEPT_EXPS) {
            exps[i] = value;
        }
    }
    quotient = qute_softmax_divide_by(sum);

    QUTE_ROLLED
    for (int32_t i = 0; i < size; i++) {
        const int32_t value = i < QUTE_KEPT_EXPS ? exps[i] : scaled_exp(input[i] - max, by);
        const int32_t probability =
            qute_rounding_divide_by_pot(qute_doubling_high_mul(quotient.scale, value), quotient.exponent);
        output[i] = (int8_t)qute_clamp(probability + INT8_MIN, INT8_MIN, INT8_MAX);
    }
}

#define SOFTMAX_ROW softmax_row
#endif

void arm_softmax_s8(const int8_t *input,
                    const int32_t num_rows,
                    const int32_t row_size,
                    const int32_t mult,
                    const int32_t shift,
                    const int32_t diff_min,
                    int8_t *output)
{
    const qute_softmax_scaling by = {mult, shift, diff_min};
    for (int32_t row = 0; row < num_rows; row++) {
        SOFTMAX_ROW(input, row_size, &by, output);
        input += row_size;
        output += row_size;
    }
}
