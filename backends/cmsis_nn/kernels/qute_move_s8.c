// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

#include <string.h>

#define BLOCK 16

/* A block through registers, not a call, where addresses are known to be multiples of 4. */
#if defined(__GNUC__)
#define COPY_BLOCK(target, source) \
    __builtin_memcpy(__builtin_assume_aligned(target, 4), __builtin_assume_aligned(source, 4), BLOCK)
#else
#define COPY_BLOCK(target, source) memcpy(target, source, BLOCK)
#endif

void qute_move_s8(const int8_t *input, int8_t *output, int32_t count)
{
    const int aligned = (((uintptr_t)input | (uintptr_t)output) & 3) == 0;

    while (count > 0 && (!aligned || count % BLOCK != 0)) {
        count--;
        output[count] = input[count];
    }
    /* All of a block is read before any of it is written: the two may be less than a block apart. */
    while (count > 0) {
        uint32_t words[BLOCK / 4];
        count -= BLOCK;
        COPY_BLOCK(words, input + count);
        COPY_BLOCK(output + count, words);
    }
}
