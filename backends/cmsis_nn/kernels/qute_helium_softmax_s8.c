// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_softmax.h"

#if QUTE_MVE

/* Where exp(x) for x < 0 in Q5.26 comes from: x = q + r with q a multiple of 1/4 and -1/4 <= r < 0. exp(r) is a polynomial
 * of degree 4 around -1/8, exp(q) the product of exp(-2^k / 4) over the bits k of -4 q - 1, which are the inverted bits from
 * 24 on of x. */
static const int32_t exp_of_power[8] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242, 0};

/* The product with a factor where bit 31 - `shift` of x (q0) is not set. */
#define TIMES(factor, shift)             \
    "vshl.i32 q2, q0, #" #shift "\n\t"   \
    "vpt.s32 ge, q2, zr\n\t"             \
    "vqrdmulht.s32 q4, q4, %[" factor "]\n\t"

/* The exponentials in Q0.31 of `count` differences from the maximum, at least one, into `exps`; returns their sum in
 * Q12.19. Nothing that is rounded to a right shift here is negative, so that VRSHR is enough. */
QUTE_NOINLINE uint32_t
take_exps(const int8_t *input, int32_t count, int32_t max, const qute_softmax_scaling *by, int32_t *exps)
{
    uint32_t sum = 0;
    int32_t first;
    int32_t second;
    const int32_t third_part = 715827883;
    const int32_t eighth = 1 << 28;
    const int32_t exp_minus_eighth = 1895147668;
    register int32_t left_over __asm__("lr") = count;
    __asm__ volatile("dlstp.32 lr, lr\n"
                     "1:\n\t"
                     "vldrb.s32 q0, [%[x]], #4\n\t"
                     "vsub.i32 q1, q0, %[max]\n\t"
                     "vmul.i32 q0, q1, %[power]\n\t"
                     "vqrdmulh.s32 q0, q0, %[m]\n\t"
                     /* r + 1/8 in Q0.31 */
                     "vshl.i32 q2, q0, #8\n\t"
                     "vshr.u32 q2, q2, #3\n\t"
                     "vsub.i32 q2, q2, %q[eighth]\n\t"
                     "vqrdmulh.s32 q3, q2, q2\n\t"
                     "vqrdmulh.s32 q4, q3, q3\n\t"
                     "vrshr.s32 q4, q4, #2\n\t"
                     "vqrdmulh.s32 q5, q3, q2\n\t"
                     "vadd.i32 q4, q4, q5\n\t"
                     "vqrdmulh.s32 q4, q4, %[third]\n\t"
                     "vadd.i32 q4, q4, q3\n\t"
                     "vrshr.s32 q4, q4, #1\n\t"
                     "vadd.i32 q4, q4, q2\n\t"
                     "vqrdmulh.s32 q4, q4, %q[start]\n\t"
                     "vadd.i32 q4, q4, %q[start]\n\t"
                     "ldrd %[f], %[g], [%[factors]]\n\t" TIMES("f", 7) TIMES("g", 6)
                     "ldrd %[f], %[g], [%[factors], #8]\n\t" TIMES("f", 5) TIMES("g", 4)
                     "ldrd %[f], %[g], [%[factors], #16]\n\t" TIMES("f", 3) TIMES("g", 2)
                     "ldr %[f], [%[factors], #24]\n\t" TIMES("f", 1)
                     "vpt.i32 eq, q0, zr\n\t"
                     "vmvnt.i32 q4, #0x80000000\n\t"
                     "vpt.s32 lt, q1, %[least]\n\t"
                     "vmovt.i32 q4, #0\n\t"
                     "vstrw.32 q4, [%[y]], #16\n\t"
                     "vrshr.s32 q4, q4, %[sum_shift]\n\t"
                     "vaddva.u32 %[sum], q4\n\t"
                     "letp lr, 1b"
                     : [x] "+l"(input), [y] "+r"(exps), [sum] "+Te"(sum), [f] "=&r"(first), [g] "=&r"(second),
                       "+r"(left_over)
                     : [max] "r"(max), [power] "r"(qute_shift_left(1, by->shift)), [m] "r"(by->multiplier),
                       [least] "r"(by->diff_min), [factors] "r"(exp_of_power), [third] "r"(third_part),
                       [eighth] "w"(vdupq_n_s32(eighth)), [start] "w"(vdupq_n_s32(exp_minus_eighth)),
                       [sum_shift] "i"(QUTE_SUM_SHIFT)
                     : "q0", "q1", "q2", "q3", "q4", "q5", "memory", "cc");
    return sum;
}

/* Probabilities of `count` exponentials, at least one, less 128. */
QUTE_INLINE void divide(const int32_t *exps, int32_t count, const qute_softmax_quotient *quotient, int8_t *output)
{
    __asm__ volatile("dlstp.32 lr, %[n]\n"
                     "1:\n\t"
                     "vldrw.32 q0, [%[x]], #16\n\t"
                     "vqrdmulh.s32 q0, q0, %[scale]\n\t"
                     "vrshl.s32 q0, %[shift]\n\t"
                     "vadd.i32 q0, q0, %[low]\n\t"
                     "vmin.s32 q0, q0, %q[high]\n\t"
                     "vstrb.32 q0, [%[y]], #4\n\t"
                     "letp lr, 1b"
                     : [x] "+r"(exps), [y] "+l"(output)
                     : [n] "r"(count), [scale] "r"(quotient->scale), [shift] "r"(-quotient->exponent),
                       [low] "r"(INT8_MIN), [high] "w"(vdupq_n_s32(INT8_MAX))
                     : "q0", "lr", "memory", "cc");
}

QUTE_INLINE int32_t largest(const int8_t *values, int32_t count)
{
    int32_t max = INT8_MIN;
    __asm__("dlstp.8 lr, %[n]\n"
            "1:\n\t"
            "vldrb.8 q0, [%[v]], #16\n\t"
            "vmaxv.s8 %[max], q0\n\t"
            "letp lr, 1b"
            : [max] "+r"(max), [v] "+r"(values)
            : [n] "r"(count)
            : "q0", "lr", "memory", "cc");
    return (int8_t)max;
}

void qute_helium_softmax_row(const int8_t *input, int32_t size, const qute_softmax_scaling *by, int8_t *output)
{
    int32_t exps[QUTE_KEPT_EXPS];
    uint32_t sum = 0;
    qute_softmax_quotient quotient;
    int32_t max;

    if (size <= 0) {
        return;
    }
    max = largest(input, size);
    for (int32_t i = 0; i < size; i += QUTE_KEPT_EXPS) {
        const int32_t left = size - i;
        sum += take_exps(input + i, left < QUTE_KEPT_EXPS ? left : QUTE_KEPT_EXPS, max, by, exps);
    }
    quotient = qute_softmax_divide_by(sum);
    for (int32_t i = 0; i < size; i += QUTE_KEPT_EXPS) {
        const int32_t left = size - i;
        const int32_t count = left < QUTE_KEPT_EXPS ? left : QUTE_KEPT_EXPS;
        if (size > QUTE_KEPT_EXPS) {
            (void)take_exps(input + i, count, max, by, exps);
        }
        divide(exps, count, &quotient, output + i);
    }
}

#endif
