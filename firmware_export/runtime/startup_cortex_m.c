/* Start-up of a Cortex-M: vector table, floating-point unit, memory, main. Any fault ends the emulation with code 112. */
#include "semihosting.h"

#include <stdint.h>

extern uint32_t image_data_start[], image_data_end[], image_data_load[], image_bss_start[], image_bss_end[];
extern uint32_t image_stack_top[];

int main(void);
void reset(void);

static void fault(void)
{
    semihost_exit(112);
}

struct vector_table {
    void *stack;
    void (*handlers[15])(void);
};

extern const struct vector_table vectors;
__attribute__((section(".vectors"), used)) const struct vector_table vectors = {
    image_stack_top,
    {reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault},
};

void reset(void)
{
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm__ volatile("dsb\nisb" ::: "memory");
#endif
    const uint32_t *from = image_data_load;
    for (uint32_t *to = image_data_start; to < image_data_end; ++to) {
        *to = *from++;
    }
    for (volatile uint32_t *to = image_bss_start; to < image_bss_end; ++to) {
        *to = 0;
    }
    semihost_exit(main());
}
