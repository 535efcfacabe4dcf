// SPDX-License-Identifier: Apache-2.0
/* One window of a pool with Helium: see qute_pool_reduce. */
#ifndef QUTE_HELIUM_POOL_H
#define QUTE_HELIUM_POOL_H

#include "qute_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

void qute_helium_mean_s8(const qute_pool_window *window, const cmsis_nn_activation *activation, int8_t *output);

void qute_helium_max_s8(const qute_pool_window *window, const cmsis_nn_activation *activation, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
