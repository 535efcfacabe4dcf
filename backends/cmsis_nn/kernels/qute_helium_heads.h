// SPDX-License-Identifier: Apache-2.0
/* Heads of QUTE networks with Helium. */
#ifndef QUTE_HELIUM_HEADS_H
#define QUTE_HELIUM_HEADS_H

#include "qute_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* qute_head_sums_s8x4. */
void qute_helium_head_sums_s8(const qute_head_sums_params *params, const int8_t *input, int16_t *output);

#ifdef __cplusplus
}
#endif

#endif
