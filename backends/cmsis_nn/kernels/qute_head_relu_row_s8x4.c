// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"

#if QUTE_DSP
#define LANES 4
#else
#define LANES 1
#endif

#include "qute_head_relu_row.h"

void qute_head_relu_row_s8x4(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums)
{
    qute_head_relu_row(params, rows, count, above, sums);
}
