// SPDX-License-Identifier: Apache-2.0
#define LANES 1

#include "qute_head_sums_map.h"

void qute_head_sums_s8(const qute_head_sums_params *params, const int8_t *input, int16_t *output)
{
    qute_head_sums_map(params, input, output);
}
