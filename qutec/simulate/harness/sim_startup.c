// SPDX-License-Identifier: Apache-2.0
// Vector table and reset handler for the Cortex-M machines that QEMU emulates.
#include <stdint.h>

// From the linker script.
extern uint32_t sim_data_load[], sim_data_start[], sim_data_end[], sim_bss_start[], sim_bss_end[];
extern uint32_t sim_stack_top[];

int main(void);
void sim_reset(void);
void sim_default_handler(void);
void sim_fault_entry(void);
void sim_systick_handler(void);

#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#define CPACR_CP10_CP11_FULL (0xFu << 20)

typedef struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vector_table;

__attribute__((used, section(".vectors"))) static const vector_table vectors = {
    sim_stack_top,
    {
        sim_reset,
        sim_default_handler, // NMI
        sim_fault_entry,     // HardFault
        sim_fault_entry,     // MemManage
        sim_fault_entry,     // BusFault
        sim_fault_entry,     // UsageFault
        sim_fault_entry,     // SecureFault
        0,
        0,
        0,
        sim_default_handler, // SVCall
        sim_default_handler, // DebugMonitor
        0,
        sim_default_handler, // PendSV
        sim_systick_handler,
    },
};

// Replaced by those of sim_main.c in images that have it.
__attribute__((weak)) void sim_default_handler(void)
{
    for (;;) {
        __asm volatile("nop");
    }
}

__attribute__((weak, alias("sim_default_handler"))) void sim_fault_entry(void);
__attribute__((weak, alias("sim_default_handler"))) void sim_systick_handler(void);

__attribute__((used)) void sim_reset(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    // CPACR enables Helium along with the floating point unit.
    SCB_CPACR = CPACR_CP10_CP11_FULL;
    __asm volatile("dsb\n isb" ::: "memory");
#endif
    const volatile uint32_t *from = sim_data_load;
    for (volatile uint32_t *to = sim_data_start; to < (volatile uint32_t *)sim_data_end; ++to) {
        *to = *from++;
    }
    for (volatile uint32_t *to = sim_bss_start; to < (volatile uint32_t *)sim_bss_end; ++to) {
        *to = 0;
    }
    (void)main();
    for (;;) {
        __asm volatile("nop");
    }
}
