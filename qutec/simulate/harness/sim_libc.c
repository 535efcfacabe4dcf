// SPDX-License-Identifier: Apache-2.0
// Memory functions for compilers that come without a C library; compiled with -fno-builtin, so that the
// loops are not turned into calls of themselves. Whole words are moved when both ends are aligned alike,
// four at a time, which is what the C libraries of the GNU toolchain for Arm do too.
#include <stdint.h>

#include "string.h"

typedef uint32_t __attribute__((may_alias)) sim_word;

enum { WORD = sizeof(sim_word), BLOCK = 4 * WORD };

static uintptr_t misalignment(const void *address)
{
    return (uintptr_t)address % WORD;
}

void *memcpy(void *destination, const void *source, size_t count)
{
    uint8_t *to = destination;
    const uint8_t *from = source;
    if (misalignment(to) == misalignment(from)) {
        for (; count > 0 && misalignment(to) != 0; --count) {
            *to++ = *from++;
        }
        sim_word *to_word = (sim_word *)(void *)to;
        const sim_word *from_word = (const sim_word *)(const void *)from;
        for (; count >= BLOCK; count -= BLOCK) {
            const sim_word a = from_word[0], b = from_word[1], c = from_word[2], d = from_word[3];
            to_word[0] = a;
            to_word[1] = b;
            to_word[2] = c;
            to_word[3] = d;
            to_word += 4;
            from_word += 4;
        }
        for (; count >= WORD; count -= WORD) {
            *to_word++ = *from_word++;
        }
        to = (uint8_t *)to_word;
        from = (const uint8_t *)from_word;
    }
    for (; count > 0; --count) {
        *to++ = *from++;
    }
    return destination;
}

void *memmove(void *destination, const void *source, size_t count)
{
    uint8_t *to = destination;
    const uint8_t *from = source;
    if ((uintptr_t)to - (uintptr_t)from >= count) {
        return memcpy(destination, source, count);
    }
    while (count > 0) {
        --count;
        to[count] = from[count];
    }
    return destination;
}

void *memset(void *destination, int value, size_t count)
{
    uint8_t *to = destination;
    const uint8_t byte = (uint8_t)value;
    for (; count > 0 && misalignment(to) != 0; --count) {
        *to++ = byte;
    }
    sim_word *to_word = (sim_word *)(void *)to;
    const sim_word word = byte * 0x01010101u;
    for (; count >= BLOCK; count -= BLOCK) {
        to_word[0] = word;
        to_word[1] = word;
        to_word[2] = word;
        to_word[3] = word;
        to_word += 4;
    }
    for (; count >= WORD; count -= WORD) {
        *to_word++ = word;
    }
    for (to = (uint8_t *)to_word; count > 0; --count) {
        *to++ = byte;
    }
    return destination;
}

int memcmp(const void *left, const void *right, size_t count)
{
    const uint8_t *a = left;
    const uint8_t *b = right;
    for (; count > 0; --count, ++a, ++b) {
        if (*a != *b) {
            return *a < *b ? -1 : 1;
        }
    }
    return 0;
}
