// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"
#include "qute_kernels.h"
#if QUTE_MVE
#include "qute_helium.h"
#define COPY_ROW(target, source, count) (void)qute_helium_copy_s8(target, source, count)
#else
#include <string.h>
#define COPY_ROW(target, source, count) memcpy(target, source, (size_t)(count))
#endif

#if QUTE_MVE
/* `count` bytes, `from` apart in the input and `to` apart in the output: four at a time are gathered and scattered.
 * Addresses wrap, so that strides may be negative. */
QUTE_INLINE void copy_apart(const int8_t *input, int32_t from, int8_t *output, int32_t to, int32_t count)
{
    const uint32x4_t lane = vidupq_n_u32(0, 1);
    __asm__ volatile("wlstp.32 lr, %[n], 2f\n"
                     "1:\n\t"
                     "vldrb.u32 q0, [%[x], %q[sources]]\n\t"
                     "vstrb.32 q0, [%[y], %q[targets]]\n\t"
                     "add %[x], %[x], %[from], lsl #2\n\t"
                     "add %[y], %[y], %[to], lsl #2\n\t"
                     "letp lr, 1b\n"
                     "2:"
                     : [x] "+r"(input), [y] "+r"(output)
                     : [n] "r"(count), [sources] "w"(vmulq_n_u32(lane, (uint32_t)from)),
                       [targets] "w"(vmulq_n_u32(lane, (uint32_t)to)), [from] "r"(from), [to] "r"(to)
                     : "q0", "lr", "memory", "cc");
}
#endif

void qute_copy_s8(const int8_t *input,
                  const int32_t dims[4],
                  const int32_t input_strides[4],
                  const int32_t output_strides[4],
                  int8_t *output)
{
    const int contiguous = input_strides[3] == 1 && output_strides[3] == 1;

    /* Offsets rather than moving pointers: with negative strides a pointer past the last row would leave
     * the buffer, which C forbids even where it is not dereferenced. */
    for (int32_t i = 0; i < dims[0]; i++) {
        for (int32_t j = 0; j < dims[1]; j++) {
            for (int32_t k = 0; k < dims[2]; k++) {
                int32_t from = i * input_strides[0] + j * input_strides[1] + k * input_strides[2];
                int32_t to = i * output_strides[0] + j * output_strides[1] + k * output_strides[2];
                if (contiguous) {
                    COPY_ROW(output + to, input + from, dims[3]);
                    continue;
                }
#if QUTE_MVE
                copy_apart(input + from, input_strides[3], output + to, output_strides[3], dims[3]);
#else
                for (int32_t l = 0; l < dims[3]; l++) {
                    output[to] = input[from];
                    from += input_strides[3];
                    to += output_strides[3];
                }
#endif
            }
        }
    }
}
