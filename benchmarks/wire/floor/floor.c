// SPDX-License-Identifier: MIT

// An echo server that leaves records unopened: what the system calls of any server cost.
// Arguments: the core (-1: none), the size of the receive buffer, and 1 if datagrams are echoed.
// It speaks the protocol of the other servers: see process.go.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, SIZE = 2048 };

static int fd, echoes;
static atomic_long received;

static void check(int result, const char *what) {
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

static void *serve(void *unused) {
	static char buffers[BATCH][SIZE];
	static struct sockaddr_in peers[BATCH];
	static struct iovec vectors[BATCH];
	static struct mmsghdr messages[BATCH];
	for (int i = 0; i < BATCH; i++) {
		vectors[i].iov_base = buffers[i];
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &peers[i];
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			vectors[i].iov_len = SIZE;
			messages[i].msg_hdr.msg_namelen = sizeof peers[i];
		}
		int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0 && errno == EINTR)
			continue;
		check(n, "recvmmsg");
		atomic_fetch_add(&received, n);
		if (!echoes)
			continue;
		for (int i = 0; i < n; i++)
			vectors[i].iov_len = messages[i].msg_len;
		for (int sent = 0; sent < n;) {
			int m = sendmmsg(fd, messages + sent, n - sent, 0);
			sent += m > 0 ? m : 1; // the first of the rest cannot be sent
		}
	}
	return unused;
}

static long nanoseconds(struct timeval t) { return t.tv_sec * 1000000000L + t.tv_usec * 1000L; }

static long resident(void) {
	long size = 0, pages = 0;
	FILE *statm = fopen("/proc/self/statm", "r");
	if (statm == NULL || fscanf(statm, "%ld %ld", &size, &pages) != 2)
		check(-1, "/proc/self/statm");
	fclose(statm);
	return pages * sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv) {
	if (argc != 4)
		return 2;
	int core = atoi(argv[1]), buffer = atoi(argv[2]);
	echoes = atoi(argv[3]);
	if (core >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(core, &set);
		check(sched_setaffinity(0, sizeof set, &set), "sched_setaffinity");
	}
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof address;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(fd, "socket");
	check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer), "SO_RCVBUF");
	check(bind(fd, (struct sockaddr *)&address, sizeof address), "bind");
	check(getsockname(fd, (struct sockaddr *)&address, &length), "getsockname");
	pthread_t thread;
	if (pthread_create(&thread, NULL, serve, NULL) != 0)
		return 1;

	printf("\"127.0.0.1:%d\"\n", ntohs(address.sin_port));
	fflush(stdout);
	char line[256];
	while (fgets(line, sizeof line, stdin) != NULL) {
		struct rusage r;
		check(getrusage(RUSAGE_SELF, &r), "getrusage");
		printf("{\"CPU\":%ld,\"RSS\":%ld,\"Received\":%ld}\n", nanoseconds(r.ru_utime) + nanoseconds(r.ru_stime), resident(), atomic_load(&received));
		fflush(stdout);
	}
	exit(0);
}
