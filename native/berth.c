/* berth-native: runs programs of system calls, and decides nothing.
 *
 * Started by the daemon with a stream socket as standard input, it is the *zygote*: for every program that arrives
 * it forks a *monitor*, a process of a few kilobytes. The monitor runs the program's steps:
 *
 *   PRE    in the monitor
 *   CHILD  in the process that clone3 makes (flags from the program), up to the EXEC step
 *   POST   in the monitor, beside CHILD
 *   USR1   in the monitor, each time SIGUSR1 arrives
 *   FINI   in the monitor, once the child has ended
 *
 * A monitor whose child has ended waits for SIGUSR2, and with it the pipes that it holds: output that nobody has read
 * yet is not lost, also when the daemon comes back only later.
 *
 * What happens is told in 32-byte records on the descriptor that the program keeps in register EVENTS.
 * The program's layout is defined here and assembled by src/sys/program.ts; the two must agree. */
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <asm/signal.h>
#include <asm/siginfo.h>
#include "program.h"

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif
#define SEALS 0xf /* F_SEAL_SEAL | SHRINK | GROW | WRITE */
#define MFD_FLAGS (1 | 2) /* MFD_CLOEXEC | MFD_ALLOW_SEALING */
#define MFD_EXEC_FLAG 0x10
#define PR_SET_CHILD_SUBREAPER 36
#define PR_SET_NAME 15
#define X_OK 1
#define SIG_IGN_ADDR 1
#define IMODE 0170000
#define IREG 0100000

enum { MAGIC = 0x54524542, REGISTERS = 32, NO_REGISTER = 0xff };
enum stage { PRE, CHILD, POST, USR1, FINI, STAGES };
enum op { SYS, FMT, ASSERT, EXEC, EMIT, POKE, CHECK };
enum kind { VALUE, POINTER, REGISTER, MEMORY32 };
enum { SKIP_ON_SUCCESS = 1 }; /* step.mode: skip after success instead of after a tolerated error */
enum register_name { EVENTS = 0, CHILD_PID = 1, EXIT_STATUS = 2 };
enum event { STARTED = 1, FAILED = 2, EXITED = 3, REACHED = 4 };

struct step {
  u8 op, out, skip, mode;
  u16 tolerate[2]; /* errnos; 0xffff is every errno */
  u32 nr;          /* SYS: the system call's number */
  u32 kinds;       /* two bits an argument */
  s64 arg[6];
};

struct program {
  u32 magic, size, keep; /* keep: bytes from the start that USR1 and FINI need */
  struct { u32 offset, count; } stage[STAGES];
  u32 relocations, relocation_count; /* pairs: where, and the offset whose address belongs there */
  u32 clones; /* 0: only PRE and FINI run */
  u64 clone_args, token; /* clone_args: offset of a struct clone_args */
  s64 reg[REGISTERS];
  u32 failed_step, failed_errno; /* the step as stage << 16 | index */
  s64 failed_detail;
};

struct record {
  u32 type, step;
  s64 value, detail;
  u64 token;
};

static void emit(struct program *p, u32 type, u32 step, s64 value, s64 detail) {
  struct record r = {type, step, value, detail, p->token};
  S(__NR_write, p->reg[EVENTS], &r, sizeof r);
}

static s64 argument(struct program *p, struct step *s, int i) {
  s64 v = s->arg[i];
  switch ((s->kinds >> (2 * i)) & 3) {
  case POINTER: return (s64)((u8 *)p + v);
  case REGISTER: return p->reg[v];
  case MEMORY32: return *(u32 *)((u8 *)p + v);
  default: return v;
  }
}

/* Writes the decimal of n, then the string suffix with its NUL, at to. Returns the length without the NUL. */
static long format(u8 *to, s64 n, const u8 *suffix) {
  u8 digits[20], *d = digits, *start = to;
  u64 u = n < 0 ? -(u64)n : (u64)n;
  do *d++ = '0' + u % 10; while (u /= 10);
  if (n < 0) *to++ = '-';
  while (d > digits) *to++ = *--d;
  while ((*to = *suffix++)) to++;
  return to - start;
}

/* execvp(3) over a NULL-terminated list of candidate paths. failed_detail tells afterwards which candidate was
 * executable but refused by execve, or -1 where none was found. */
static long execute(struct program *p, u8 **candidates, u8 **argv, u8 **envp) {
  long error = -ENOENT;
  p->failed_detail = -1;
  for (long i = 0; candidates[i]; i++) {
    struct { u64 words[18]; } st; /* struct stat, whose st_mode differs by architecture */
    long r = S(__NR_newfstatat, AT_FDCWD, candidates[i], &st, 0);
    if (r == -ENOENT || r == -ENOTDIR) continue;
#if defined(__x86_64__)
    u32 mode = (u32)st.words[3];
#else
    u32 mode = (u32)st.words[2];
#endif
    if (!r) r = (mode & IMODE) == IREG && (mode & 0111) ? S(__NR_faccessat, AT_FDCWD, candidates[i], X_OK) : -EACCES;
    if (r) {
      error = r;
      continue;
    }
    p->failed_detail = i;
    return S(__NR_execve, candidates[i], argv, envp);
  }
  return error;
}

static long run_step(struct program *p, struct step *s, u32 index) {
  s64 a[6];
  for (int i = 0; i < 6; i++) a[i] = argument(p, s, i);
  switch (s->op) {
  case SYS: return sys(s->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
  case FMT: return format((u8 *)a[0], a[1], (const u8 *)a[2]);
  case ASSERT: return (a[0] & a[3]) == a[1] ? 0 : -a[2];
  case EXEC: return execute(p, (u8 **)a[0], (u8 **)a[1], (u8 **)a[2]);
  case EMIT: emit(p, REACHED, index, a[0], a[1]); return 0;
  case POKE: *(u32 *)a[0] = (u32)a[1]; return 0;
  case CHECK: return (int)a[0]; /* an error that the kernel has written as a negated errno */
  default: return -ENOSYS;
  }
}

/* Runs the steps of one stage in order. Returns 0, or the first errno that its step does not tolerate. */
static long run(struct program *p, enum stage stage) {
  struct step *steps = (struct step *)((u8 *)p + p->stage[stage].offset);
  for (u32 i = 0; i < p->stage[stage].count; i++) {
    struct step *s = steps + i;
    u32 place = (u32)stage << 16 | i;
    long r = run_step(p, s, place);
    int failed = r < 0 && r >= -4095;
    if (failed && s->tolerate[0] != 0xffff && s->tolerate[0] != -r && s->tolerate[1] != -r) {
      if (!p->failed_errno) { /* the child's failure, where the monitor only stumbles over its consequence, comes first */
        p->failed_step = place;
        p->failed_errno = (u32)-r;
      }
      return -r;
    }
    if (s->out != NO_REGISTER) p->reg[s->out] = r;
    if (failed != (s->mode & SKIP_ON_SUCCESS)) i += s->skip;
  }
  return 0;
}

static void default_signals(void) {
  struct { u64 handler, flags, restorer, mask; } act = {0, 0, 0, 0};
  u64 none = 0;
  for (int sig = 1; sig < 65; sig++) S(__NR_rt_sigaction, sig, &act, 0, 8);
  S(__NR_rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
}

static void ignore(int sig) {
  struct { u64 handler, flags, restorer, mask; } act = {SIG_IGN_ADDR, 0, 0, 0};
  S(__NR_rt_sigaction, sig, &act, 0, 8);
}

/* Waits for children until the program's child has ended, serving SIGUSR1 meanwhile. Returns its exit status as a
 * shell tells it: 0-255, or 128 + the signal's number. The two signals are blocked, so none is lost. */
static s64 await_child(struct program *p) {
  u64 set = 1ull << (SIGCHLD - 1) | 1ull << (SIGUSR1 - 1);
  for (;;) {
    int status;
    long pid;
    while ((pid = S(__NR_wait4, -1, &status, WNOHANG, 0)) > 0)
      if (pid == p->reg[CHILD_PID]) return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
    if (pid == -ECHILD) return 255;
    if (S(__NR_rt_sigtimedwait, &set, 0, 0, 8) == SIGUSR1) run(p, USR1);
  }
}

/* FINI comes before the record, so that what it writes is there when the daemon looks, or comes back. */
static void finish(struct program *p, u32 type, u32 step, s64 value, s64 detail) {
  u64 set = 1ull << (SIGUSR2 - 1);
  run(p, FINI);
  emit(p, type, step, value, detail);
  if (type == EXITED && p->clones)
    while (S(__NR_rt_sigtimedwait, &set, 0, 0, 8) != SIGUSR2) {}
  S(__NR_exit_group, 0);
}

/* The monitor's life. The program lies in shared memory, so what the child writes into registers and failed_* is
 * seen here; the child's copy of the status pipe closes on execve. */
static void monitor(struct program *p) {
  u64 set = 1ull << (SIGCHLD - 1) | 1ull << (SIGUSR1 - 1) | 1ull << (SIGUSR2 - 1);
  u8 **slot, *byte;
  u32 *relocation = (u32 *)((u8 *)p + p->relocations);
  for (u32 i = 0; i < p->relocation_count; i++, relocation += 2) {
    slot = (u8 **)((u8 *)p + relocation[0]);
    *slot = (u8 *)p + relocation[1];
  }
  default_signals();
  ignore(SIGPIPE);
  ignore(SIGHUP);
  ignore(SIGINT);
  ignore(SIGTERM);
  ignore(SIGTTOU);
  S(__NR_rt_sigprocmask, SIG_BLOCK, &set, 0, 8);
  S(__NR_setsid, 0);
  S(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1);
  S(__NR_prctl, PR_SET_NAME, "berth-monitor");

  if (run(p, PRE)) finish(p, FAILED, p->failed_step, p->failed_errno, 0);
  if (!p->clones) finish(p, EXITED, 0, 0, 0);

  int status[2];
  long error = S(__NR_pipe2, status, O_CLOEXEC);
  if (error) finish(p, FAILED, 0, -error, 0);
  struct clone_args *args = (struct clone_args *)((u8 *)p + p->clone_args);
  long pid = S(__NR_clone3, args, sizeof *args);
  if (pid == 0) {
    S(__NR_close, status[0]);
    default_signals();
    run(p, CHILD);
    S(__NR_exit_group, 127); /* only a failed step, or a program without EXEC, comes here */
  }
  S(__NR_close, status[1]);
  if (pid < 0) finish(p, FAILED, ~0u, -pid, 0);
  p->reg[CHILD_PID] = pid;
  long failed = run(p, POST);
  if (failed) S(__NR_kill, pid, SIGKILL);
  while (S(__NR_read, status[0], &byte, 1) == -EINTR) {}
  S(__NR_close, status[0]);
  if (failed || p->failed_errno) {
    await_child(p);
    finish(p, FAILED, p->failed_step, p->failed_errno, p->failed_detail);
  }
  emit(p, STARTED, 0, pid, 0);
  u32 keep = (p->keep + 4095) & ~4095u;
  if (keep < p->size) S(__NR_munmap, (u8 *)p + keep, ((p->size + 4095) & ~4095u) - keep);
  p->reg[EXIT_STATUS] = await_child(p);
  finish(p, EXITED, 0, p->reg[EXIT_STATUS], 0);
}

static int read_all(long fd, void *to, u32 size) {
  for (u8 *p = to; size; ) {
    long n = S(__NR_read, fd, p, size);
    if (n == -EINTR) continue;
    if (n <= 0) return 0;
    p += n;
    size -= (u32)n;
  }
  return 1;
}

/* Runs on from a sealed copy of its own binary, so that no container can reach the one on disk through
 * /proc/PID/exe (CVE-2019-5736). The copy is told by its argv[0]. */
static void reexecute(u8 **envp) {
  static u8 page[4096];
  u8 *argv[] = {(u8 *)"berth-zygote", 0};
  long self = S(__NR_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC);
  long copy = S(__NR_memfd_create, "berth-native", MFD_FLAGS | MFD_EXEC_FLAG);
  if (copy == -EINVAL) copy = S(__NR_memfd_create, "berth-native", MFD_FLAGS);
  for (long n; (n = S(__NR_read, self, page, sizeof page)) > 0;) S(__NR_write, copy, page, n);
  S(__NR_fcntl, copy, F_ADD_SEALS, SEALS);
  S(__NR_execveat, copy, "", argv, envp, AT_EMPTY_PATH);
  S(__NR_exit_group, 126);
}

static void zygote(void) {
  S(__NR_setsid, 0);
  ignore(SIGCHLD); /* monitors need no reaping */
  ignore(SIGPIPE);
  for (u32 size; read_all(0, &size, sizeof size);) {
    if (size < sizeof(struct program)) break;
    struct program *p = (void *)S(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if ((u64)p > (u64)-4096 || !read_all(0, p, size)) break;
    if (p->magic != MAGIC || p->size != size) break;
    struct clone_args fork = {.exit_signal = SIGCHLD};
    if (S(__NR_clone3, &fork, sizeof fork) == 0) {
      S(__NR_dup3, 1, 0, 0); /* the monitor must not read the daemon's programs */
      monitor(p);
    }
    S(__NR_munmap, p, size);
  }
  S(__NR_exit_group, 0);
}

__attribute__((used)) static void entry(long *stack) {
  u8 **argv = (u8 **)(stack + 1), **envp = argv + stack[0] + 1;
  const u8 *name = argv[0], *want = (const u8 *)"berth-zygote";
  while (*want && *name == *want) name++, want++;
  if (*want || *name) reexecute(envp);
  zygote();
}
