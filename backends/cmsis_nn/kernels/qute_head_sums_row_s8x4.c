// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"

#if QUTE_DSP
#define LANES 4
#else
#define LANES 1
#endif

#include "qute_head_sums_row.h"

void qute_head_sums_row_s8x4(
    const qute_head_sums_row_params *params, const int8_t *row, int32_t number, int32_t *sums)
{
    qute_head_sums_row(params, row, number, sums);
}
