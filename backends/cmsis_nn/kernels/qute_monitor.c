// SPDX-License-Identifier: Apache-2.0
#include "qute_monitor.h"

#define ONE_Q30 ((uint32_t)1 << 30)

/* round(255 * confidence), halves up. */
static uint8_t quantized(int32_t confidence_q30)
{
    uint32_t c = confidence_q30 > 0 ? (uint32_t)confidence_q30 : 0;
    c = c < ONE_Q30 ? c : ONE_Q30;
    /* 255 * c / 2^30 = (c - c / 256) / 2^22, and c / 256 rounded up keeps what is below a half there. */
    return (uint8_t)((c - ((c + 255U) >> 8) + ((uint32_t)1 << 21)) >> 22);
}

void qute_monitor_init(qute_monitor *monitor, uint8_t *window, uint16_t length, uint8_t threshold)
{
    monitor->window = window;
    monitor->sum = 0;
    monitor->length = length;
    monitor->count = 0;
    monitor->next = 0;
    monitor->threshold = threshold;
}

int qute_monitor_push(qute_monitor *monitor, int32_t confidence_q30)
{
    const uint8_t value = quantized(confidence_q30);
    if (monitor->length == 0) {
        return 0;
    }
    if (monitor->count < monitor->length) {
        monitor->count++;
    } else {
        monitor->sum -= monitor->window[monitor->next];
    }
    monitor->window[monitor->next] = value;
    monitor->sum += value;
    monitor->next = (uint16_t)(monitor->next + 1U);
    if (monitor->next == monitor->length) {
        monitor->next = 0;
    }
    return monitor->count == monitor->length && monitor->sum < (uint32_t)monitor->threshold * monitor->length;
}

uint16_t qute_monitor_mean(const qute_monitor *monitor)
{
    if (monitor->count == 0) {
        return 0;
    }
    return (uint16_t)((monitor->sum << 8) / monitor->count);
}
