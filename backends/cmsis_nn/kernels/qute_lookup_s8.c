// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"
#include "qute_kernels.h"

void qute_lookup_s8(const int8_t *input, const int8_t *table, int8_t *output, int32_t count)
{
    int32_t i = 0;
#if QUTE_DSP
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
