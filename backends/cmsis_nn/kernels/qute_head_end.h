// SPDX-License-Identifier: Apache-2.0
/* The features of sums that rows of a map were added to.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_END_H
#define QUTE_HEAD_END_H

#include "qute_head_features.h"
#include "qute_head_lanes.h"

QUTE_INLINE void qute_head_end(const qute_head_features *features, const int32_t *sums, int16_t *output)
{
    for (int32_t next = 0; next < features->channels; next += LANES) {
        const int32_t channel = qute_block(next, features->channels);
        for (int32_t head = 0; head < features->heads; head++) {
            qute_store_features(features, sums, LANES, head * features->channels + channel, 1, output);
            sums += LANES;
        }
    }
}

#endif
