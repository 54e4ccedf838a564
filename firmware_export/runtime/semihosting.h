/* Calls to the debugger or emulator that runs this chip (Arm semihosting; RISC-V uses the same numbers). */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>

enum { SEMIHOST_OPEN = 0x01, SEMIHOST_WRITE = 0x05, SEMIHOST_READ = 0x06, SEMIHOST_EXIT = 0x20 };

static inline intptr_t semihost(intptr_t operation, const void *argument)
{
#if defined(__arm__)
    register intptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#elif defined(__riscv)
    register intptr_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
                     : "+r"(a0) : "r"(a1) : "memory");
    return a0;
#else
#error "no semihosting for this processor"
#endif
}

/* End the emulation with an exit code. */
static inline void semihost_exit(intptr_t code)
{
    const intptr_t block[2] = {0x20026, code};
    for (;;) {
        (void)semihost(SEMIHOST_EXIT, block);
    }
}

#endif
