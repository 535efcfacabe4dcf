// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"

#if QUTE_DSP
#define LANES 4
#else
#define LANES 1
#endif

#include "qute_head_end.h"

QUTE_SMALL void qute_head_end_s8x4(const qute_head_features *features, const int32_t *sums, int16_t *output)
{
    qute_head_end(features, sums, output);
}
