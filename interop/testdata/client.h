// SPDX-License-Identifier: MIT

// What the clients of this directory share. Their arguments are:
//
//	-version           print the library's version, and nothing else
//	-connect HOST:PORT the server, HOST being an IPv4 address
//	-psk-identity ID   with -psk: the identity of the pre-shared key
//	-psk HEX           the pre-shared key
//	-cert FILE         with -key: the client's chain of certificates, PEM, leaf first
//	-key FILE          the leaf's private key, PEM
//	-CAfile FILE       PEM; without -psk the server's certificate is verified with it
//	-servername NAME   the name that the server's certificate must have
//	-mtu BYTES         the largest datagram to send; GnuTLS counts the UDP and IP headers
//	-line TEXT         what is sent, and must come back
//	-sess_out FILE     write the session to a file
//	-sess_in FILE      resume the session of a file
//	-priority TEXT     GnuTLS: its priority string
//	-extension BYTES   GnuTLS: the ClientHello has an extension with so many bytes of data
//	-renegotiation-info
//	                   wolfSSL: offer the extension of RFC 5746
//
// A client exits with 0 when the line has come back. Otherwise it prints what has failed,
// with the library's own words, and exits with 1.

#ifndef CLIENT_H
#define CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// patience bounds each wait for a datagram, in milliseconds.
enum { patience = 20000, max_line = 4096, max_key = 64 };

struct options {
	int version, renegotiation_info;
	const char *connect, *identity, *psk_hex, *cert, *key, *ca, *name, *line, *priority, *session_out, *session_in;
	int mtu;       // 0: the library's default
	int extension; // 0: none
	unsigned char psk[max_key];
	size_t psk_length;
};

static void fail(const char *format, ...) {
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static struct options parse_options(int argc, char **argv) {
	struct options o = {.line = "hello"};
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-version")) {
			o.version = 1;
			return o;
		}
		if (!strcmp(argv[i], "-renegotiation-info")) {
			o.renegotiation_info = 1;
			continue;
		}
		if (i + 1 == argc)
			fail("%s: not an option, or without its value", argv[i]);
		const char *option = argv[i++], *value = argv[i];
		if (!strcmp(option, "-connect")) o.connect = value;
		else if (!strcmp(option, "-psk-identity")) o.identity = value;
		else if (!strcmp(option, "-psk")) o.psk_hex = value;
		else if (!strcmp(option, "-cert")) o.cert = value;
		else if (!strcmp(option, "-key")) o.key = value;
		else if (!strcmp(option, "-CAfile")) o.ca = value;
		else if (!strcmp(option, "-servername")) o.name = value;
		else if (!strcmp(option, "-mtu")) o.mtu = atoi(value);
		else if (!strcmp(option, "-line")) o.line = value;
		else if (!strcmp(option, "-sess_out")) o.session_out = value;
		else if (!strcmp(option, "-sess_in")) o.session_in = value;
		else if (!strcmp(option, "-priority")) o.priority = value;
		else if (!strcmp(option, "-extension")) o.extension = atoi(value);
		else fail("%s: no such option", option);
	}
	if (!o.connect)
		fail("-connect is missing");
	if (strlen(o.line) > max_line)
		fail("-line is too long");
	for (const char *hex = o.psk_hex; hex && *hex; hex += 2) {
		unsigned int byte;
		if (o.psk_length == max_key || sscanf(hex, "%2x", &byte) != 1)
			fail("-psk: not hexadecimal, or too long");
		o.psk[o.psk_length++] = (unsigned char)byte;
	}
	return o;
}

// server_address returns the server's address.
static struct sockaddr_in server_address(const struct options *o) {
	struct sockaddr_in address = {.sin_family = AF_INET};
	char host[64] = "";
	unsigned int port;
	if (sscanf(o->connect, "%63[0-9.]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &address.sin_addr) != 1)
		fail("-connect %s: not an IPv4 address and a port", o->connect);
	address.sin_port = htons((unsigned short)port);
	return address;
}

// open_socket returns a UDP socket that is connected to the server.
static int open_socket(const struct options *o) {
	struct sockaddr_in address = server_address(o);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		perror("socket");
		exit(1);
	}
	return fd;
}

// check_echo ends the client unless the answer is the line.
static void check_echo(const struct options *o, const char *answer, int length) {
	if (length != (int)strlen(o->line) || memcmp(answer, o->line, (size_t)length) != 0)
		fail("the answer is \"%.*s\", not \"%s\"", length, answer, o->line);
	printf("echo: %s\n", o->line);
}

#endif
