// SPDX-License-Identifier: Apache-2.0
/* What the Helium (MVE) kernels share: requantisation of vectors, and the loops that GCC does not make from intrinsics.
 *
 * Those loops count bytes or words in LR (DLSTP, WLSTP, LETP): the last round leaves out the lanes past the count in
 * every vector instruction, so that no tail needs code of its own and nothing is read or written outside. GCC makes
 * them from release 14 on, hence the inline assembly. Accumulators of VMLADAVA are even registers (constraint Te). */
#ifndef QUTE_HELIUM_H
#define QUTE_HELIUM_H

#include "qute_requantize.h"

#if QUTE_MVE

#include <arm_mve.h>

/* Copies `count` bytes upwards; returns where the next one goes. */
QUTE_INLINE int8_t *qute_helium_copy_s8(int8_t *target, const int8_t *source, int32_t count)
{
    int8_t *const end = target + count;
    __asm__ volatile("wlstp.8 lr, %[n], 2f\n"
                     "1:\n\t"
                     "vldrb.8 q0, [%[s]], #16\n\t"
                     "vstrb.8 q0, [%[t]], #16\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [s] "+r"(source), [t] "+r"(target)
                     : [n] "r"(count)
                     : "q0", "lr", "memory", "cc");
    return end;
}

/* Copies `count` words, at least one, upwards. */
QUTE_INLINE void qute_helium_copy_s32(int32_t *target, const int32_t *source, int32_t count)
{
    __asm__ volatile("dlstp.32 lr, %[n]\n"
                     "1:\n\t"
                     "vldrw.32 q0, [%[s]], #16\n\t"
                     "vstrw.32 q0, [%[t]], #16\n\t"
                     "letp lr, 1b"
                     : [s] "+r"(source), [t] "+r"(target)
                     : [n] "r"(count)
                     : "q0", "lr", "memory", "cc");
}

/* Fills `count` bytes; returns where the next one goes. */
QUTE_INLINE int8_t *qute_helium_fill_s8(int8_t *target, int32_t value, int32_t count)
{
    int8_t *const end = target + count;
    __asm__ volatile("vdup.8 q0, %[v]\n\t"
                     "wlstp.8 lr, %[n], 2f\n"
                     "1:\n\t"
                     "vstrb.8 q0, [%[t]], #16\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [t] "+r"(target)
                     : [v] "r"(value), [n] "r"(count)
                     : "q0", "lr", "memory", "cc");
    return end;
}

/* The sum of `count` bytes, at least one. */
QUTE_INLINE int32_t qute_helium_sum_s8(const int8_t *values, int32_t count)
{
    int32_t sum = 0;
    __asm__("dlstp.8 lr, %[n]\n"
            "1:\n\t"
            "vldrb.8 q0, [%[v]], #16\n\t"
            "vaddva.s8 %[sum], q0\n\t"
            "letp lr, 1b"
            : [sum] "+Te"(sum), [v] "+r"(values)
            : [n] "r"(count)
            : "q0", "lr", "memory", "cc");
    return sum;
}

/* Whether all of `count` shifts, at least one, are to the right, by one or more, as in all but very small scales. */
QUTE_INLINE int qute_helium_shifts_right(const int32_t *shift, int32_t count)
{
    int32_t largest = INT32_MIN;
    __asm__("dlstp.32 lr, %[n]\n"
            "1:\n\t"
            "vldrw.32 q0, [%[s]], #16\n\t"
            "vmaxv.s32 %[max], q0\n\t"
            "letp lr, 1b"
            : [max] "+r"(largest), [s] "+r"(shift)
            : [n] "r"(count)
            : "q0", "lr", "memory", "cc");
    return largest < 0;
}

/* qute_requantize of four values for shifts below 0. Rounding half away from zero is rounding half up after 1 is
 * taken from what is negative, and VQDMLAH with 1 adds the sign: x + (2 x >> 32). */
QUTE_INLINE int32x4_t qute_helium_requantize_right(int32x4_t value, int32x4_t multiplier, int32x4_t shift)
{
    value = vqrdmulhq_s32(value, multiplier);
    value = vqdmlahq_n_s32(value, value, 1);
    return vrshlq_s32(value, shift);
}

/* qute_requantize of four values for any shifts. */
QUTE_INLINE int32x4_t qute_helium_requantize(int32x4_t value, int32x4_t multiplier, int32x4_t shift)
{
    const int32x4_t zero = vdupq_n_s32(0);
    const int32x4_t right = vminq_s32(shift, zero);
    value = vqrdmulhq_s32(vshlq_s32(value, vmaxq_s32(shift, zero)), multiplier);
    value = vaddq_s32(value, vshrq_n_s32(vandq_s32(value, right), 31));
    return vrshlq_s32(value, right);
}

/* Adds the output's offset and clamps. */
QUTE_INLINE int32x4_t qute_helium_output(int32x4_t value, int32_t offset, int32_t low, int32_t high)
{
    value = vaddq_n_s32(value, offset);
    return vminq_s32(vmaxq_s32(value, vdupq_n_s32(low)), vdupq_n_s32(high));
}

#endif

#endif
