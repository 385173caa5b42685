// SPDX-License-Identifier: MIT

// How the clients of this directory keep a session between two visits.

#ifndef SESSION_H
#define SESSION_H

#include <stdio.h>

#include "client.h"

// The size of a session with the server's certificate, in bytes, at most.
enum { max_session = 1 << 14 };

static void write_session(const char *path, const void *data, size_t length) {
	FILE *file = fopen(path, "wb");
	if (!file || fwrite(data, 1, length, file) != length || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

// read_session returns the length of the session that it has put into data.
static size_t read_session(const char *path, unsigned char data[max_session]) {
	FILE *file = fopen(path, "rb");
	if (!file) {
		perror(path);
		exit(1);
	}
	size_t length = fread(data, 1, max_session, file);
	if (length == 0 || length == max_session)
		fail("%s: empty, or too long", path);
	fclose(file);
	return length;
}

#endif
