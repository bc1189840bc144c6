/* Answers each datagram to a UDP port with a word: echo PORT WORD. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
  struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons(argc > 2 ? atoi(argv[1]) : 0)}, from;
  int fd = socket(AF_INET6, SOCK_DGRAM, 0);
  char data[512];
  if (bind(fd, (void *)&at, sizeof at)) return 1;
  for (;;) {
    socklen_t length = sizeof from;
    if (recvfrom(fd, data, sizeof data, 0, (void *)&from, &length) < 0) return 1;
    sendto(fd, argv[2], strlen(argv[2]), 0, (void *)&from, length);
  }
}
