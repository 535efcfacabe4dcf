// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"
#include "qute_kernels.h"

#if defined(__GNUC__)
#define ALIGNED(address) __builtin_assume_aligned(address, 4)
#else
#define ALIGNED(address) (address)
#endif

void qute_move_up_s8(const int8_t *input, int8_t *output, int32_t count)
{
    if ((((uintptr_t)input | (uintptr_t)output) & 3U) == 0) {
#if QUTE_THUMB2
        /* What a block overwrites was read with it or before it. */
        QUTE_ROLLED
        for (; count >= 32; count -= 32) {
            __asm__ volatile("ldmia %0!, {r3, r4, r5, r6, r8, r9, r10, r12}\n\t"
                             "stmia %1!, {r3, r4, r5, r6, r8, r9, r10, r12}\n\t"
                             : "+&r"(input), "+&r"(output)
                             :
                             : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r12", "memory");
        }
#endif
        QUTE_ROLLED
        for (; count >= 4; count -= 4) {
            uint32_t word;
            memcpy(&word, ALIGNED(input), 4);
            memcpy(ALIGNED(output), &word, 4);
            input += 4;
            output += 4;
            QUTE_NO_CALL;
        }
    }
    QUTE_ROLLED
    for (; count > 0; count--) {
        *output++ = *input++;
        QUTE_NO_CALL;
    }
}
