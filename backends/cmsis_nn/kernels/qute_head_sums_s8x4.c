// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"

#if QUTE_MVE

#include "qute_helium_heads.h"

#define SUMS_OF_MAP qute_helium_head_sums_s8

#else

#if QUTE_DSP
#define LANES 4
#else
#define LANES 1
#endif

#include "qute_head_sums_map.h"

#define SUMS_OF_MAP qute_head_sums_map

#endif

void qute_head_sums_s8x4(const qute_head_sums_params *params, const int8_t *input, int16_t *output)
{
    SUMS_OF_MAP(params, input, output);
}
