/* Runs the policy on request: reads frames from the host and answers them, over semihosting. All words are little-endian.
 *
 * Request: MAGIC, operation, count, then count items. Answer: MAGIC, operation, count, then count items.
 *   STEP: signals -> status, commands.                     EVALUATE: signals, memory -> status, commands, memory.
 *   SELF_TEST, INIT: count 1, no item -> status.           RESET: count 1 -> 0.
 *   STACK: count 1 -> bytes of stack that init and step have used.   EXIT: no answer.
 */
#include "semihosting.h"
#include "served_policy.h"

#include <stddef.h>
#include <stdint.h>

#define MAGIC 0x31514c52u
#define PAINT 0x5ac3a55au

enum { STEP = 1, EVALUATE = 2, SELF_TEST = 3, RESET = 4, EXIT = 5, STACK = 6, INIT = 7 };

static intptr_t input, output;
static served_state state;
static struct {
    served_signals signals;
    served_memory memory;
} question;
static struct {
    int32_t status;
    served_commands commands;
    served_memory memory;
} answer;

extern uint32_t image_bss_end[];

static intptr_t opened(intptr_t mode)
{
    const intptr_t block[3] = {(intptr_t)":tt", mode, 3};
    return semihost(SEMIHOST_OPEN, block);
}

static void receive(void *data, size_t size)
{
    unsigned char *bytes = data;
    while (size > 0) {
        const intptr_t block[3] = {input, (intptr_t)bytes, (intptr_t)size};
        const size_t missing = (size_t)semihost(SEMIHOST_READ, block);
        if (missing >= size) {
            semihost_exit(0); /* the host has closed the line */
        }
        bytes += size - missing;
        size = missing;
    }
}

static void send(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    while (size > 0) {
        const intptr_t block[3] = {output, (intptr_t)bytes, (intptr_t)size};
        const size_t missing = (size_t)semihost(SEMIHOST_WRITE, block);
        if (missing >= size) {
            semihost_exit(113);
        }
        bytes += size - missing;
        size = missing;
    }
}

/* Deepest stack below this function while a policy starts and steps once, found by painting the free memory. */
__attribute__((noinline)) static int32_t stack_used(void)
{
    volatile uint32_t *const bottom = image_bss_end;
    volatile uint32_t *top = (uint32_t *)((uintptr_t)__builtin_frame_address(0) - 128u);
    for (volatile uint32_t *word = bottom; word < top; ++word) {
        *word = PAINT;
    }
    (void)served_init(&state);
    (void)served_step(&state, &question.signals, &answer.commands);
    volatile uint32_t *word = bottom;
    while (word < top && *word == PAINT) {
        ++word;
    }
    return (int32_t)((uintptr_t)__builtin_frame_address(0) - (uintptr_t)word);
}

static size_t answered(uint32_t operation)
{
    switch (operation) {
    case STEP:
        receive(&question.signals, sizeof question.signals);
        answer.status = served_step(&state, &question.signals, &answer.commands);
        return offsetof(__typeof__(answer), memory);
    case EVALUATE:
        receive(&question, sizeof question);
        answer.status = served_evaluate(&question.signals, &question.memory, &answer.commands, &answer.memory);
        return sizeof answer;
    case SELF_TEST:
        answer.status = served_self_test(&state);
        break;
    case INIT:
        answer.status = served_init(&state);
        break;
    case RESET:
        served_reset(&state);
        answer.status = 0;
        break;
    case STACK:
        answer.status = stack_used();
        break;
    default:
        semihost_exit(operation == EXIT ? 0 : 114);
    }
    return sizeof answer.status;
}

int main(void)
{
    input = opened(1);
    output = opened(5);
    (void)served_init(&state);
    for (;;) {
        uint32_t frame[3];
        receive(frame, sizeof frame);
        if (frame[0] != MAGIC) {
            return 115;
        }
        send(frame, sizeof frame);
        for (uint32_t item = 0; item < frame[2]; ++item) {
            send(&answer, answered(frame[1]));
        }
    }
}
