// SPDX-License-Identifier: Apache-2.0
/* Channels that are worked on at a time, for a file that has defined LANES: 1, or 4 of one word.
 *
 * Channels of a block follow each other, and the last block of a map overlaps the one before it. */
#ifndef QUTE_HEAD_LANES_H
#define QUTE_HEAD_LANES_H

#include "qute_intrinsics.h"

/* The first channel of the block that is to begin at `next`. */
QUTE_INLINE int32_t qute_block(int32_t next, int32_t channels)
{
    return next + LANES <= channels ? next : channels - LANES;
}

/* A few words, for which compilers would call memset. */
QUTE_INLINE void qute_clear(int32_t *words, int32_t count)
{
    QUTE_ROLLED
    while (--count >= 0) {
        *words++ = 0;
        QUTE_NO_CALL;
    }
}

QUTE_INLINE int32_t qute_smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

#endif
