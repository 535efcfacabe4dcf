// SPDX-License-Identifier: Apache-2.0
/* Loops in assembly that are unrolled and need no second loop for what is left over: the first round begins at the step from
 * which the number of steps that are left divides by the unrolled ones, so that no number pays for steps that it lacks. */
#ifndef QUTE_UNROLLED_H
#define QUTE_UNROLLED_H

/* Bytes of the loop before the step at which `steps` > 0 steps begin; `unrolled` is a power of two, `step_bytes` are those of
 * the instructions of one step. */
#define QUTE_SKIPPED(steps, unrolled, step_bytes) ((-(steps) & ((unrolled) - 1)) * (step_bytes))

/* These bytes, in a register, become the address to branch to; `free` is another register, `loop` the loop's label. ADR counts
 * from a word, which the section has to keep where compilers align functions to half of one; the label may be at any. */
#define QUTE_ENTRY(skipped, free, loop)                                                                                \
    ".p2align 2\n\t"                                                                                                   \
    "adr.w " free ", " loop "\n\t"                                                                                     \
    "add " skipped ", " skipped ", " free "\n\t"                                                                       \
    "orr " skipped ", " skipped ", #1\n\t"

/* What stands between this and ".endr", `unrolled` times. */
#define QUTE_REPEATED(unrolled) QUTE_REPEATED_IN_WORDS(unrolled)
#define QUTE_REPEATED_IN_WORDS(unrolled) ".rept " #unrolled "\n\t"

#endif
