// SPDX-License-Identifier: Apache-2.0
/* Elementwise kernels with Helium: four elements at a time, each read before its output is written. */
#ifndef QUTE_HELIUM_ELEMENTWISE_H
#define QUTE_HELIUM_ELEMENTWISE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How an input of a sum is scaled. */
typedef struct {
    int32_t offset;
    int32_t multiplier;
    int32_t shift;
} qute_helium_scale;

/* How a result becomes output. */
typedef struct {
    int32_t multiplier;
    int32_t shift;
    int32_t offset;
    int32_t min;
    int32_t max;
} qute_helium_result;

/* arm_elementwise_add_s8 where all shifts are to the right, but for an input that is halved. Returns 0, having done
 * nothing, where they are not. */
int qute_helium_add_s8(const int8_t *first,
                       const qute_helium_scale *first_scale,
                       const int8_t *second,
                       const qute_helium_scale *second_scale,
                       int32_t left_shift,
                       const qute_helium_result *result,
                       int8_t *output,
                       int32_t count);

/* arm_elementwise_mul_s8. */
void qute_helium_mul_s8(const int8_t *first,
                        int32_t first_offset,
                        const int8_t *second,
                        int32_t second_offset,
                        const qute_helium_result *result,
                        int8_t *output,
                        int32_t count);

#ifdef __cplusplus
}
#endif

#endif
