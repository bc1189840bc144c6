/* One function for node:ffi: a system call whose number and six arguments stand in a frame of seven 64-bit words.
 * The result, or the negated errno, goes to the frame's first word. */
#include "syscall.h"

void berth_syscall(long *frame) {
  frame[0] = sys(frame[0], frame[1], frame[2], frame[3], frame[4], frame[5], frame[6]);
}
