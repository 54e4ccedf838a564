/* Start-up of a 32-bit RISC-V: stack, floating-point unit, memory, main. Any trap ends the emulation with code 112. */
#include "semihosting.h"

#include <stdint.h>

extern uint32_t image_data_start[], image_data_end[], image_data_load[], image_bss_start[], image_bss_end[];

int main(void);
void reset(void);
void start_c(void);
void fault(void);

__attribute__((aligned(4), used)) void fault(void)
{
    semihost_exit(112);
}

__attribute__((naked, section(".vectors"), used)) void reset(void)
{
    __asm__ volatile(
        ".option push\n.option arch, +zicsr\n"
        "la sp, image_stack_top\n"
        "la t0, fault\n"
        "csrw mtvec, t0\n"
#if defined(__riscv_flen)
        "li t0, 0x2000\n"
        "csrs mstatus, t0\n"
        "csrw fcsr, zero\n"
#endif
        ".option pop\n"
        "j start_c\n");
}

__attribute__((used)) void start_c(void)
{
    const uint32_t *from = image_data_load;
    for (uint32_t *to = image_data_start; to < image_data_end; ++to) {
        *to = *from++;
    }
    for (volatile uint32_t *to = image_bss_start; to < image_bss_end; ++to) {
        *to = 0;
    }
    semihost_exit(main());
}
