// SPDX-License-Identifier: Apache-2.0
#define LANES 1

#include "qute_head_sums_row.h"

void qute_head_sums_row_s8(
    const qute_head_sums_row_params *params, const int8_t *row, int32_t number, int32_t *sums)
{
    qute_head_sums_row(params, row, number, sums);
}
