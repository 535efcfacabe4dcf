// SPDX-License-Identifier: Apache-2.0
#define LANES 1

#include "qute_head_relu_row.h"

void qute_head_relu_row_s8(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums)
{
    qute_head_relu_row(params, rows, count, above, sums);
}
