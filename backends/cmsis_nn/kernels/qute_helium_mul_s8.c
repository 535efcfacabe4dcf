// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_elementwise.h"

#if QUTE_MVE

void qute_helium_mul_s8(const int8_t *first,
                        int32_t first_offset,
                        const int8_t *second,
                        int32_t second_offset,
                        const qute_helium_result *result,
                        int8_t *output,
                        int32_t count)
{
    const int32_t left = result->shift > 0 ? result->shift : 0;
    const int32_t right = result->shift < 0 ? result->shift : 0;
    /* What VQDMLAH adds the sign with, before a right shift only: see qute_helium_requantize_right. */
    const int32_t is_rounded = right < 0;
    register int32_t left_over __asm__("lr") = count;
    __asm__ volatile("wlstp.32 lr, lr, 2f\n"
                     "1:\n\t"
                     "vldrb.s32 q0, [%[x1]], #4\n\t"
                     "vldrb.s32 q1, [%[x2]], #4\n\t"
                     "vadd.i32 q0, q0, %[o1]\n\t"
                     "vadd.i32 q1, q1, %[o2]\n\t"
                     "vmul.i32 q0, q0, q1\n\t"
                     "vshl.s32 q0, q0, %q[left]\n\t"
                     "vqrdmulh.s32 q0, q0, %[m]\n\t"
                     "vqdmlah.s32 q0, q0, %[rounded]\n\t"
                     "vrshl.s32 q0, %[right]\n\t"
                     "vadd.i32 q0, q0, %[offset]\n\t"
                     "vmax.s32 q0, q0, %q[low]\n\t"
                     "vmin.s32 q0, q0, %q[high]\n\t"
                     "vstrb.32 q0, [%[y]], #4\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [x1] "+l"(first), [x2] "+l"(second), [y] "+l"(output), "+r"(left_over)
                     : [o1] "r"(first_offset), [o2] "r"(second_offset),
                       [left] "w"(vdupq_n_s32(left)), [m] "r"(result->multiplier), [rounded] "r"(is_rounded),
                       [right] "r"(right), [offset] "r"(result->offset), [low] "w"(vdupq_n_s32(result->min)),
                       [high] "w"(vdupq_n_s32(result->max))
                     : "q0", "q1", "memory", "cc");
}

#endif
