// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"
#include "qute_kernels.h"
#if QUTE_MVE
#include "qute_helium.h"
#endif

void qute_lookup_s8(const int8_t *input, const int8_t *table, int8_t *output, int32_t count)
{
    int32_t i = 0;
#if QUTE_MVE
    /* Sixteen at a time are gathered. */
    __asm__ volatile("wlstp.8 lr, %[n], 2f\n"
                     "1:\n\t"
                     "vldrb.8 q0, [%[x]], #16\n\t"
                     "veor q0, q0, %q[sign]\n\t"
                     "vldrb.u8 q1, [%[table], q0]\n\t"
                     "vstrb.8 q1, [%[y]], #16\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [x] "+r"(input), [y] "+r"(output)
                     : [n] "r"(count), [table] "r"(table), [sign] "w"(vdupq_n_u8(0x80))
                     : "q0", "q1", "lr", "memory", "cc");
    i = count;
#elif QUTE_DSP
    for (; i + 4 <= count; i += 4) {
        /* The index of a byte is the byte with its sign bit inverted. */
        const uint32_t index = qute_load_s8x4(input + i) ^ 0x80808080U;
        uint32_t word = (uint8_t)table[index & 0xffU];
        word |= (uint32_t)(uint8_t)table[(index >> 8) & 0xffU] << 8;
        word |= (uint32_t)(uint8_t)table[(index >> 16) & 0xffU] << 16;
        word |= (uint32_t)(uint8_t)table[index >> 24] << 24;
        qute_store_s8x4(output + i, word);
    }
#endif
    for (; i < count; i++) {
        output[i] = table[input[i] + 128];
    }
}
