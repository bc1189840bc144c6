/* What a program without libc needs: short names, the functions that the compiler calls by itself, and a beginning.
 * The includer defines `static void entry(long *stack)`, which must not return. */
#ifndef BERTH_PROGRAM_H
#define BERTH_PROGRAM_H
#include <linux/types.h>
#include "syscall.h"

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

/* A system call with up to six arguments of any type. */
#define S(...) SIX(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define SIX(nr, a, b, c, d, e, f, ...) sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

void *memset(void *p, int c, unsigned long n) {
  for (u8 *q = p; n--; ) *q++ = (u8)c;
  return p;
}

void *memcpy(void *to, const void *from, unsigned long n) {
  u8 *t = to;
  for (const u8 *f = from; n--; ) *t++ = *f++;
  return to;
}

static void entry(long *stack);

/* The kernel enters with the stack pointer at argc (System V ABI, "Initial Process Stack"). */
#if defined(__x86_64__)
__asm__(".globl _start\n_start: xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call entry\n");
#else
__asm__(".globl _start\n_start: mov x29, #0\n mov x0, sp\n bl entry\n");
#endif

#endif
