// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"
#include "qute_kernels.h"
#if QUTE_MVE
#include "qute_helium.h"
#else
#include <string.h>
#endif

#define BLOCK 16

#if !QUTE_MVE

/* A block through registers, not a call, where addresses are known to be multiples of 4. */
#if defined(__GNUC__)
#define COPY_BLOCK(target, source) \
    __builtin_memcpy(__builtin_assume_aligned(target, 4), __builtin_assume_aligned(source, 4), BLOCK)
#else
#define COPY_BLOCK(target, source) memcpy(target, source, BLOCK)
#endif
#endif

void qute_move_s8(const int8_t *input, int8_t *output, int32_t count)
{
#if QUTE_MVE
    /* A block is read whole before it is written; what blocks leave are the first bytes. */
    const mve_pred16_t first = vctp8q((uint32_t)count % BLOCK);
    const int8_t *source = input + count;
    int8_t *target = output + count;
    __asm__ volatile("wls lr, %[n], 2f\n"
                     "1:\n\t"
                     "vldrb.8 q0, [%[x], #-16]!\n\t"
                     "vstrb.8 q0, [%[y], #-16]!\n\t"
                     "le lr, 1b\n"
                     "2:"
                     : [x] "+r"(source), [y] "+r"(target)
                     : [n] "r"(count / BLOCK)
                     : "q0", "lr", "memory");
    vstrbq_p_s8(output, vldrbq_z_s8(input, first), first);
#else
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
#endif
}
