// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_elementwise.h"

#if QUTE_MVE

/* An input as value * factor + addend, to be multiplied by multiplier / 2^31 and shifted right. */
typedef struct {
    int32_t factor;
    int32_t addend;
    int32_t multiplier;
    int32_t shift;
} scaling;

/* Whether a scale can have that form; fills it. */
static int make_scaling(const qute_helium_scale *scale, int32_t left_shift, scaling *by)
{
    by->shift = scale->shift;
    if (scale->shift == 0 && (scale->multiplier == 1 << 30 || scale->multiplier == -(1 << 30)) && left_shift > 0) {
        /* The larger scale of a sum of two: exactly one half, with nothing to round, so one place can move. */
        left_shift++;
        by->shift = -1;
    }
    by->factor = (int32_t)(1U << ((uint32_t)left_shift & 31U));
    by->addend = qute_wrapping_mul(scale->offset, by->factor);
    by->multiplier = scale->multiplier;
    /* Zero points are int8: inputs less zero point are below 2^8. */
    return by->shift < 0 && by->shift >= -31 && left_shift >= 0 && left_shift <= 21 && scale->offset >= -127 &&
        scale->offset <= 128;
}

/* One input at `source`, in `value`: see qute_helium_requantize_right. */
#define SCALE_INPUT(value, source, factor, addend, multiplier, shift)                                                  \
    "vldrb.s32 " value ", [%[" source "]], #4\n\t"                                                                     \
    "vmlas.s32 " value ", %q[" factor "], %[" addend "]\n\t"                                                           \
    "vqrdmulh.s32 " value ", " value ", %[" multiplier "]\n\t"                                                         \
    "vqdmlah.s32 " value ", " value ", %[one]\n\t"                                                                     \
    "vrshl.s32 " value ", " value ", %q[" shift "]\n\t"

/* A function of its own, or registers run short when it is compiled for size. */
QUTE_NOINLINE void add_scaled(const int8_t *first,
                              const scaling *a,
                              const int8_t *second,
                              const scaling *b,
                              const qute_helium_result *result,
                              int8_t *output,
                              int32_t count)
{
    register int32_t left_over __asm__("lr") = count;
    __asm__ volatile("wlstp.32 lr, lr, 2f\n"
                     "1:\n\t" SCALE_INPUT("q0", "x1", "f1", "a1", "m1", "s1")
                         SCALE_INPUT("q1", "x2", "f2", "a2", "m2", "s2")
                     "vadd.i32 q0, q0, q1\n\t"
                     "vqrdmulh.s32 q0, q0, %[m]\n\t"
                     "vqdmlah.s32 q0, q0, %[one]\n\t"
                     "vrshl.s32 q0, %[s]\n\t"
                     "vadd.i32 q0, q0, %[offset]\n\t"
                     "vmax.s32 q0, q0, %q[low]\n\t"
                     "vmin.s32 q0, q0, %q[high]\n\t"
                     "vstrb.32 q0, [%[y]], #4\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [x1] "+l"(first), [x2] "+l"(second), [y] "+l"(output), "+r"(left_over)
                     : [f1] "w"(vdupq_n_s32(a->factor)), [f2] "w"(vdupq_n_s32(b->factor)),
                       [a1] "r"(a->addend), [a2] "r"(b->addend), [m1] "r"(a->multiplier), [m2] "r"(b->multiplier),
                       [s1] "w"(vdupq_n_s32(a->shift)), [s2] "w"(vdupq_n_s32(b->shift)), [one] "r"(1),
                       [m] "r"(result->multiplier), [s] "r"(result->shift), [offset] "r"(result->offset),
                       [low] "w"(vdupq_n_s32(result->min)), [high] "w"(vdupq_n_s32(result->max))
                     : "q0", "q1", "memory", "cc");
}

int qute_helium_add_s8(const int8_t *first,
                       const qute_helium_scale *first_scale,
                       const int8_t *second,
                       const qute_helium_scale *second_scale,
                       int32_t left_shift,
                       const qute_helium_result *result,
                       int8_t *output,
                       int32_t count)
{
    scaling a, b;
    if (!make_scaling(first_scale, left_shift, &a) || !make_scaling(second_scale, left_shift, &b) ||
        result->shift >= 0) {
        return 0;
    }
    add_scaled(first, &a, second, &b, result, output, count);
    return 1;
}

#endif
