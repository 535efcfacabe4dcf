// SPDX-License-Identifier: Apache-2.0
/* A row of arm_softmax_s8 with Helium. */
#ifndef QUTE_HELIUM_SOFTMAX_H
#define QUTE_HELIUM_SOFTMAX_H

#include "qute_softmax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The output may begin anywhere up to the input's start. */
void qute_helium_softmax_row(const int8_t *input, int32_t size, const qute_softmax_scaling *by, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
