/* Tries system calls that a container must not have, and prints each one's name and error; with an
 * argument, prints the effective user. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define TRY(name, ...) (errno = 0, printf("%s %s\n", name, (__VA_ARGS__) < 0 ? strerrorname_np(errno) : "done"))

int main(int argc, char **argv) {
  (void)argv;
  if (argc > 1) return printf("%u\n", geteuid()) < 0;
  struct { unsigned bytes; int type; unsigned char handle[8]; } root = {8, 1, {2}}; /* inode 2: "shocker" */
  struct timeval now = {0};
  char page[256] = {0};
  TRY("mount", mount("none", "/tmp", "tmpfs", 0, ""));
  TRY("umount", umount2("/proc", MNT_DETACH));
  TRY("unshare", unshare(CLONE_NEWUSER));
  TRY("unshare-mount", unshare(CLONE_NEWNS));
  TRY("setns", setns(open("/proc/self/ns/net", O_RDONLY), 0));
  TRY("pivot_root", syscall(SYS_pivot_root, "/", "/tmp"));
  TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, open("/", O_RDONLY), &root, O_RDONLY));
  TRY("keyctl", syscall(SYS_keyctl, 0, -3, 0));
  TRY("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
  TRY("bpf", syscall(SYS_bpf, 0, page, sizeof page));
  TRY("perf_event_open", syscall(SYS_perf_event_open, page, 0, -1, -1, 0));
  TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
  TRY("init_module", syscall(SYS_init_module, page, sizeof page, ""));
  TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
  TRY("swapon", syscall(SYS_swapon, "/etc/passwd", 0));
  TRY("settimeofday", settimeofday(&now, 0));
  TRY("sethostname", sethostname("x", 1));
  TRY("reboot", syscall(SYS_reboot, 0xfee1dead, 0x28121969, 0, 0));
  TRY("syslog", syscall(SYS_syslog, 3, page, sizeof page));
  TRY("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
  TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
  TRY("move_mount", syscall(SYS_move_mount, 0, "", 0, "", 0));
  TRY("io_uring_setup", syscall(SYS_io_uring_setup, 1, page));
  TRY("clone3", syscall(SYS_clone3, page, 0));
  TRY("raw-vsock", socket(40, SOCK_STREAM, 0));
  TRY("acct", syscall(SYS_acct, "/etc/passwd"));
  TRY("quotactl", syscall(SYS_quotactl, 0, "/dev/x", 0, page));
  TRY("getpid", syscall(SYS_getpid));
  return 0;
}
