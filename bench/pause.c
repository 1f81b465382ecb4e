/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pause — the least that can be a VE's first process: static, without a C library. */
__attribute__((noreturn)) void _start(void);
void _start(void)
{
    for (;;)
#if defined(__x86_64__)
        __asm__ volatile("syscall" : : "a"(34) : "rcx", "r11", "memory"); /* pause(2) */
#else
#error "pause(2) of this machine is missing here"
#endif
}
