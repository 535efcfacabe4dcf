// SPDX-License-Identifier: Apache-2.0
// The program that QEMU runs: reads samples from the file "request", runs the network, and writes
// outputs, SysTick counts and memory high water to the file "result", both by Arm semihosting.
//
// Format of the files: little endian, see qemu_runner.py.
#include <stddef.h>
#include <stdint.h>

#include "sim_network.h"

enum {
    REQUEST_MAGIC = 0x51525131,
    RESULT_OK = 0,
    RESULT_STATUS = 1,
    RESULT_FAULT = 2,
    RESULT_BAD_REQUEST = 3,
    MEASURED_PASSES = 2,
    OUTPUTS = SIM_OUTPUT_COUNT,
    INPUTS = SIM_INPUT_COUNT
};

typedef struct {
    uint32_t magic;
    uint32_t samples;
    uint32_t measured;    // 1: first measure with the first sample, then run all samples
    uint32_t arena;       // address
    uint32_t stack_paint; // lowest address that is painted; below the stack's limit
    uint32_t arena_end;   // one past the last byte that is painted and written out
    uint32_t reserved[2];
    int8_t inputs[];
} sim_request;

#define IO ((volatile sim_request *)SIM_IO_BASE)
#define IO_BYTES (12u * 1024u * 1024u)

static const uint32_t input_bytes[] = SIM_INPUT_BYTES;
static const uint32_t output_bytes[] = SIM_OUTPUT_BYTES;

// Semihosting, Arm document IHI 0074.
enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT = 0x18 };
enum { OPEN_READ_BINARY = 1, OPEN_WRITE_BINARY = 5, STOPPED_APPLICATION_EXIT = 0x20026 };

static uint32_t semihost(uint32_t operation, uintptr_t argument)
{
    register uint32_t r0 __asm("r0") = operation;
    register uintptr_t r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    const uintptr_t block[3] = {(uintptr_t)name, mode, length};
    return semihost(SYS_OPEN, (uintptr_t)block);
}

// The harness's own variables lie in the I/O window and take nothing of the target's SRAM; nobody clears
// them at start-up.
#define IN_IO_WINDOW __attribute__((section(".bss.sim_io")))

static uint32_t result_file IN_IO_WINDOW;

static void emit(const volatile void *data, uint32_t count)
{
    const uintptr_t block[3] = {result_file, (uintptr_t)data, count};
    if (count > 0) {
        (void)semihost(SYS_WRITE, (uintptr_t)block);
    }
}

static void emit_word(uint32_t value)
{
    emit(&value, sizeof value);
}

static void emit_wide(uint64_t value)
{
    emit(&value, sizeof value);
}

__attribute__((noreturn)) static void stop(void)
{
    for (;;) {
        (void)semihost(SYS_EXIT, STOPPED_APPLICATION_EXIT);
    }
}

__attribute__((noreturn)) static void stop_with(uint32_t kind, uint32_t value)
{
    emit_word(kind);
    emit_word(value);
    stop();
}

// SysTick has 24 bits; its interrupt counts the turns, so that a long layer cannot wrap unseen.
#define SYSTICK_CTRL (*(volatile uint32_t *)0xE000E010u)
#define SYSTICK_LOAD (*(volatile uint32_t *)0xE000E014u)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xE000E018u)
#define SYSTICK_TURN 0x1000000u

static volatile uint32_t systick_turns IN_IO_WINDOW;

void sim_systick_handler(void);
void sim_systick_handler(void)
{
    ++systick_turns;
}

// No call, so that reading the time leaves the stack alone.
__attribute__((always_inline)) static inline uint64_t ticks(void)
{
    uint32_t turns, value;
    do {
        turns = systick_turns;
        value = SYSTICK_VALUE;
    } while (turns != systick_turns);
    return ((uint64_t)turns << 24) + (SYSTICK_TURN - 1u - value);
}

static void start_ticks(void)
{
    SYSTICK_CTRL = 0;
    SYSTICK_LOAD = SYSTICK_TURN - 1u;
    SYSTICK_VALUE = 0;
    SYSTICK_CTRL = 7; // processor clock, interrupt, enable
    while (SYSTICK_VALUE == 0) {
    }
    systick_turns = 0;
}

// Byte-wise the pattern of pass 1 is the complement of that of pass 0: whatever value is written to a
// byte, one of the passes sees the change. The same formula as painting.py.
__attribute__((always_inline)) static inline uint32_t pattern(uint32_t address, uint32_t pass)
{
    uint32_t word = address * 0x9E3779B1u;
    word ^= word >> 15;
    return pass == 0 ? word : ~word;
}

static void paint(uint32_t from, uint32_t to, uint32_t pass)
{
    for (uint32_t address = from; address < to; address += 4u) {
        *(volatile uint32_t *)(uintptr_t)address = pattern(address, pass);
    }
}

#ifdef SIM_INPUT_ROWS
static const volatile int8_t *sample_rows IN_IO_WINDOW;
static int32_t rows_asked IN_IO_WINDOW;
static uint64_t reading_ticks IN_IO_WINDOW;

// What the copy takes is the harness's, not the network's.
static int32_t read_row(void *user, int32_t row, int8_t *bytes)
{
    (void)user;
    const uint64_t begin = ticks();
    if (row != rows_asked || row >= SIM_INPUT_ROWS) {
        return 1;
    }
    ++rows_asked;
    for (uint32_t i = 0; i < SIM_ROW_BYTES; ++i) {
        bytes[i] = sample_rows[(uint32_t)row * SIM_ROW_BYTES + i];
    }
    reading_ticks += ticks() - begin;
    return 0;
}

static void set_inputs(uint32_t sample)
{
    sim_context.read_row = read_row;
    sample_rows = &IO->inputs[sample * input_bytes[0]];
    rows_asked = 0;
    reading_ticks = 0;
}

__attribute__((always_inline)) static inline uint64_t network_ticks(void)
{
    return ticks() - reading_ticks;
}

static int32_t checked(int32_t status)
{
    return status == (int32_t)SIM_NET_OK && rows_asked != SIM_INPUT_ROWS ? (int32_t)SIM_NET_ERROR_INPUT : status;
}
#else
static void set_inputs(uint32_t sample)
{
    uint32_t sample_bytes = 0;
    for (int32_t k = 0; k < INPUTS; ++k) {
        sample_bytes += input_bytes[k];
    }
    const volatile int8_t *from = &IO->inputs[sample * sample_bytes];
    for (int32_t k = 0; k < INPUTS; ++k) {
        int8_t *to = sim_input(k);
        for (uint32_t i = 0; i < input_bytes[k]; ++i) {
            to[i] = *from++;
        }
    }
}

__attribute__((always_inline)) static inline uint64_t network_ticks(void)
{
    return ticks();
}

static int32_t checked(int32_t status)
{
    return status;
}
#endif

typedef struct {
    int32_t status;
    uint32_t stack_pointer;
    uint32_t stack_low; // lowest byte that the inference changed
    uint64_t begin;
    uint64_t end;
} measurement;

static measurement measured IN_IO_WINDOW;

// Paints the free stack, runs one inference and looks for the lowest change, without a call of its own in
// between that would leave traces on the stack.
__attribute__((noinline)) static void measure(uint32_t paint_from, uint32_t pass)
{
    uint32_t stack_pointer;
    __asm volatile("mov %0, sp" : "=r"(stack_pointer));
    for (uint32_t address = paint_from; address < stack_pointer; address += 4u) {
        *(volatile uint32_t *)(uintptr_t)address = pattern(address, pass);
    }
    const uint64_t begin = network_ticks();
    const int32_t status = (int32_t)sim_net_invoke(&sim_context);
    const uint64_t end = network_ticks();
    uint32_t low = paint_from;
    while (low < stack_pointer
           && *(volatile uint8_t *)(uintptr_t)low == (uint8_t)(pattern(low & ~3u, pass) >> (8u * (low & 3u)))) {
        ++low;
    }
    measured.status = status;
    measured.stack_pointer = stack_pointer;
    measured.stack_low = low;
    measured.begin = begin;
    measured.end = end;
}

enum { LAYERS = SIM_LAYER_COUNT > 0 ? SIM_LAYER_COUNT : 1 };

static uint64_t layer_end[LAYERS] IN_IO_WINDOW;
static int32_t layer_order[LAYERS] IN_IO_WINDOW;
static uint32_t layers_seen IN_IO_WINDOW;

static void on_layer(void *user, int32_t layer)
{
    (void)user;
    if (layers_seen < SIM_LAYER_COUNT) {
        layer_order[layers_seen] = layer;
        layer_end[layers_seen] = network_ticks();
    }
    ++layers_seen;
}

static void require_ok(int32_t status)
{
    if (status != (int32_t)SIM_NET_OK) {
        stop_with(RESULT_STATUS, (uint32_t)status);
    }
}

static void emit_outputs(void)
{
    for (int32_t k = 0; k < OUTPUTS; ++k) {
        emit(sim_output(k), output_bytes[k]);
    }
}

static void run_measured(uint8_t *arena)
{
    const uint32_t arena_end = IO->arena_end;
    for (uint32_t pass = 0; pass < MEASURED_PASSES; ++pass) {
        paint(IO->arena, arena_end, pass);
        require_ok(sim_init(arena));
        set_inputs(0);
        measure(IO->stack_paint, pass);
        require_ok(checked(measured.status));
        emit_word(RESULT_OK);
        emit_word(measured.stack_pointer);
        emit_word(measured.stack_low);
        emit_wide(measured.end - measured.begin);
        emit((const volatile void *)(uintptr_t)IO->arena, arena_end - IO->arena);
        emit_outputs();
    }
    require_ok(sim_init(arena));
    sim_context.on_layer = on_layer;
    layers_seen = 0;
    set_inputs(0);
    measure(IO->stack_paint, 0);
    require_ok(checked(measured.status));
    emit_word(RESULT_OK);
    emit_wide(measured.begin);
    emit_word(layers_seen);
    emit(layer_order, sizeof layer_order);
    emit(layer_end, sizeof layer_end);
}

int main(void);
int main(void)
{
    const uint32_t request_file = open_file("request", 7, OPEN_READ_BINARY);
    result_file = open_file("result", 6, OPEN_WRITE_BINARY);
    const uintptr_t block[3] = {request_file, SIM_IO_BASE, IO_BYTES};
    (void)semihost(SYS_READ, (uintptr_t)block);
    if (IO->magic != REQUEST_MAGIC) {
        stop_with(RESULT_BAD_REQUEST, IO->magic);
    }
    start_ticks();
    require_ok(sim_check_scratch());
    uint8_t *arena = (uint8_t *)(uintptr_t)IO->arena;
    if (IO->measured != 0) {
        run_measured(arena);
    }
    require_ok(sim_init(arena));
    for (uint32_t sample = 0; sample < IO->samples; ++sample) {
        set_inputs(sample);
        require_ok(checked(sim_invoke()));
        emit_word(RESULT_OK);
        emit_outputs();
    }
    stop();
}

// A fault may come from a stack that has left memory, so the report runs on a stack in the I/O window.
void sim_fault_entry(void);
__attribute__((naked)) void sim_fault_entry(void)
{
    __asm volatile("mov r0, sp\n"
                   "ldr r1, =%c0\n"
                   "mov sp, r1\n"
                   "ldr r1, =sim_fault_report\n"
                   "bx r1\n"
                   ".ltorg\n"
                   :
                   : "i"(SIM_IO_BASE + 16u * 1024u * 1024u - 64u));
}

#define SCB_CFSR (*(volatile uint32_t *)0xE000ED28u)
#define SCB_MMFAR (*(volatile uint32_t *)0xE000ED34u)
#define SCB_BFAR (*(volatile uint32_t *)0xE000ED38u)
#define CFSR_BFARVALID (1u << 15)
#define CFSR_MMARVALID (1u << 7)

void sim_fault_report(const uint32_t *frame);
__attribute__((used)) void sim_fault_report(const uint32_t *frame)
{
    enum { FRAME_LR = 5, FRAME_PC = 6 };
    const uint32_t cfsr = SCB_CFSR;
    emit_word(RESULT_FAULT);
    emit_word(frame[FRAME_PC]);
    emit_word(frame[FRAME_LR]);
    emit_word(cfsr);
    emit_word((cfsr & CFSR_BFARVALID) != 0 ? SCB_BFAR : (cfsr & CFSR_MMARVALID) != 0 ? SCB_MMFAR : 0u);
    stop();
}
