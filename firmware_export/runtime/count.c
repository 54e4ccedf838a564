/* Calls `counted` once between two marks that the emulator's log of executed instructions shows. */
#include "semihosting.h"

void counted_setup(void);
void counted(void);
int counted_end(void);
int main(void);

__attribute__((noinline)) int counted_end(void)
{
    __asm__ volatile("" ::: "memory");
    return 0;
}

int main(void)
{
    counted_setup();
    counted();
    return counted_end();
}
