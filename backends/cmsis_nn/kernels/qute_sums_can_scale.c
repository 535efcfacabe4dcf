// SPDX-License-Identifier: Apache-2.0
#include "qute_convolve.h"

#if QUTE_BLOCKS

/* Values below 2^30 scale: bias and products may take half of that each. */
#define HALF (1 << 29)

int qute_sums_can_scale(const qute_channels *channels, int32_t count, int32_t depth)
{
    const int32_t *bias = channels->bias;
    const int32_t *multiplier = channels->multiplier;
    int32_t signs = 0;
    uint32_t biases = 0;
    if (channels->checked) {
        return 1;
    }
    if (bias == NULL || depth > HALF / (255 * 128)) {
        return 0;
    }
    QUTE_ROLLED
    for (; count > 0; count--) {
        signs |= *multiplier++;
        biases |= (uint32_t)*bias++ + HALF;
    }
    return signs >= 0 && biases < 2U * HALF;
}

#endif
