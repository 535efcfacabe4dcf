// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"
#include "qute_kernels.h"

void qute_gather_s8(const int8_t *input, const uint16_t *index, int8_t *output, int32_t count)
{
#if QUTE_MVE
    /* Eight at a time are gathered. */
    __asm__ volatile("wlstp.16 lr, %[n], 2f\n"
                     "1:\n\t"
                     "vldrh.u16 q0, [%[index]], #16\n\t"
                     "vldrb.u16 q1, [%[x], q0]\n\t"
                     "vstrb.16 q1, [%[y]], #8\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [index] "+r"(index), [y] "+l"(output)
                     : [n] "r"(count), [x] "r"(input)
                     : "q0", "q1", "lr", "memory", "cc");
#else
    for (int32_t i = 0; i < count; i++) {
        output[i] = input[index[i]];
    }
#endif
}
