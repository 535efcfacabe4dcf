// SPDX-License-Identifier: Apache-2.0
/* Watches for a drop of accuracy without labels: the mean confidence of the last `length` inferences against a
 * threshold (QUTE, section on accuracy-drop detection). Constant time and one byte of state an inference.
 *
 *     static uint8_t window[100];
 *     qute_monitor monitor;
 *     qute_monitor_init(&monitor, window, 100, 178);
 *     ... after each inference:
 *     if (qute_monitor_push(&monitor, confidence)) { ... the network meets data that it was not made for ... }
 *
 * Confidences are kept as round(255 * confidence), so that 178 stands for 0.7. One monitor is for one thread.
 */
#ifndef QUTE_MONITOR_H
#define QUTE_MONITOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All fields are the monitor's own. */
typedef struct {
    uint8_t *window;
    uint32_t sum;
    uint16_t length;
    uint16_t count;
    uint16_t next;
    uint8_t threshold;
} qute_monitor;

/* An empty monitor on `window`, an array of `length` >= 1 bytes that it keeps using. `threshold` is 255 * rho.
 * A length of 0 gives a monitor that never raises an alarm. */
void qute_monitor_init(qute_monitor *monitor, uint8_t *window, uint16_t length, uint8_t threshold);

/* Takes a confidence, 1 being 2^30; values outside of [0, 1] count as the nearer end. Returns 1 if the window is full
 * and its mean is below the threshold, else 0. */
int qute_monitor_push(qute_monitor *monitor, int32_t confidence_q30);

/* The mean confidence of what is in the window, 1 being 255 * 256, rounded down; 0 for an empty one. */
uint16_t qute_monitor_mean(const qute_monitor *monitor);

#ifdef __cplusplus
}
#endif

#endif
