// SPDX-License-Identifier: Apache-2.0
#define LANES 1

#include "qute_head_relu.h"

void qute_head_relu_s8(const qute_head_relu_params *params, const int8_t *input, int16_t *output)
{
    qute_head_relu(params, input, output);
}
