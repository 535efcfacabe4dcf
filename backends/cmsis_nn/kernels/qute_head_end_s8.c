// SPDX-License-Identifier: Apache-2.0
#define LANES 1

#include "qute_head_end.h"

QUTE_SMALL void qute_head_end_s8(const qute_head_features *features, const int32_t *sums, int16_t *output)
{
    qute_head_end(features, sums, output);
}
