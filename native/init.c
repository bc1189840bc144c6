/* berth-init: process 1 of a container that was asked for one (`--init`). Runs `init -- COMMAND [ARG...]`, passes every
 * signal on to it, reaps whatever ends, and ends as the command does: its status, or 128 + its signal. A command that is
 * not there gives 127, one that can't be executed 126.
 *
 * The command leads a process group of its own, in the foreground of the terminal if there is one, so that Ctrl-C
 * reaches it from the terminal and only once. */
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/wait.h>
#include <asm/signal.h>
#include <asm/ioctls.h>
#include "program.h"

#define BIT(signal) (1ull << ((signal) - 1))
#define PATH_MAX 4096

static unsigned long length(const u8 *text) {
  unsigned long n = 0;
  while (text[n]) n++;
  return n;
}

static void say(const u8 *text) {
  S(__NR_write, 2, text, length(text));
}

static const u8 *path_of(u8 **envp) {
  for (; *envp; envp++) {
    const u8 *e = *envp;
    if (e[0] == 'P' && e[1] == 'A' && e[2] == 'T' && e[3] == 'H' && e[4] == '=') return e + 5;
  }
  return (const u8 *)"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* execvp(3). Returns the errno of the most telling failure. */
static long execute(u8 **argv, u8 **envp) {
  u8 candidate[PATH_MAX];
  unsigned long size = length(argv[0]);
  long error = -ENOENT;
  for (const u8 *c = argv[0]; *c; c++)
    if (*c == '/') return S(__NR_execve, argv[0], argv, envp);
  for (const u8 *path = path_of(envp); size; path++) {
    unsigned long n = 0;
    while (path[n] && path[n] != ':') n++;
    if (n + size + 2 <= PATH_MAX) {
      u8 *to = candidate;
      for (unsigned long i = 0; i < n; i++) *to++ = path[i];
      if (n) *to++ = '/';
      for (unsigned long i = 0; i <= size; i++) *to++ = argv[0][i];
      long r = S(__NR_execve, candidate, argv, envp);
      if (r != -ENOENT && r != -ENOTDIR) error = r;
    }
    path += n;
    if (!*path) break;
  }
  return error;
}

static void command(u8 **argv, u8 **envp, u64 mask) {
  u64 ignore[4] = {1, 0, 0, 0}, normal[4] = {0, 0, 0, 0};
  int own;
  S(__NR_setpgid, 0, 0);
  own = (int)S(__NR_getpid);
  S(__NR_rt_sigaction, SIGTTOU, ignore, 0, 8);
  S(__NR_ioctl, 0, TIOCSPGRP, &own); /* ENOTTY without a terminal */
  S(__NR_rt_sigaction, SIGTTOU, normal, 0, 8);
  S(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
  long error = execute(argv, envp);
  say((const u8 *)"exec ");
  say(argv[0]);
  say((const u8 *)(error == -ENOENT ? ": no such file or directory\n" : error == -EACCES ? ": permission denied\n" : ": cannot be executed\n"));
  S(__NR_exit_group, error == -ENOENT ? 127 : 126);
}

__attribute__((used)) static void entry(long *stack) {
  u8 **argv = (u8 **)(stack + 1), **envp = argv + stack[0] + 1;
  /* faults of init's own must end it, and a stopped init would stop the container */
  u64 all = ~(BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGABRT) | BIT(SIGTRAP) | BIT(SIGSYS) | BIT(SIGTTIN) | BIT(SIGTTOU));
  u64 before;
  int status, info[32];
  argv++;
  if (*argv && argv[0][0] == '-' && argv[0][1] == '-' && !argv[0][2]) argv++;
  if (!*argv) {
    say((const u8 *)"usage: init -- COMMAND [ARG...]\n");
    S(__NR_exit_group, 1);
  }
  S(__NR_rt_sigprocmask, SIG_SETMASK, &all, &before, 8);
  long child = S(__NR_clone, SIGCHLD); /* a fork; clone3 is refused by Docker's seccomp policy */
  if (child == 0) command(argv, envp, before);
  if (child < 0) S(__NR_exit_group, 126);
  for (;;) {
    for (long pid; (pid = S(__NR_wait4, -1, &status, WNOHANG, 0)) > 0;)
      if (pid == child) S(__NR_exit_group, status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
    long signal = S(__NR_rt_sigtimedwait, &all, info, 0, 8);
    if (signal > 0 && signal != SIGCHLD) S(__NR_kill, child, signal);
  }
}
