// SPDX-License-Identifier: MIT

// A DTLS 1.2 client over wolfSSL; client.h has its arguments. Link with -lwolfssl.

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "session.h"

static struct options o;

// check ends the client if a call of the library has not succeeded.
static void check(int result, const char *call) {
	if (result != WOLFSSL_SUCCESS)
		fail("%s: %d", call, result);
}

// check_io is check for a call that reads or writes.
static void check_io(WOLFSSL *ssl, int result, const char *call) {
	if (result <= 0) {
		char message[WOLFSSL_MAX_ERROR_SZ];
		int error = wolfSSL_get_error(ssl, result);
		fail("%s: %d: %s", call, error, wolfSSL_ERR_error_string((unsigned long)error, message));
	}
}

#ifndef NO_PSK
static unsigned int give_psk(WOLFSSL *ssl, const char *hint, char *identity, unsigned int identity_size, unsigned char *key, unsigned int key_size) {
	(void)ssl, (void)hint;
	if (o.psk_length > key_size || strlen(o.identity) >= identity_size)
		return 0;
	strcpy(identity, o.identity);
	memcpy(key, o.psk, o.psk_length);
	return (unsigned int)o.psk_length;
}
#endif

static void resume_session(WOLFSSL *ssl) {
	unsigned char data[max_session];
	const unsigned char *from = data;
	WOLFSSL_SESSION *session = wolfSSL_d2i_SSL_SESSION(NULL, &from, (long)read_session(o.session_in, data));
	if (!session)
		fail("wolfSSL_d2i_SSL_SESSION");
	check(wolfSSL_set_session(ssl, session), "wolfSSL_set_session");
}

static void keep_session(WOLFSSL *ssl) {
	WOLFSSL_SESSION *session = wolfSSL_get1_session(ssl);
	unsigned char *data = NULL;
	int length = wolfSSL_i2d_SSL_SESSION(session, &data);
	if (length <= 0)
		fail("wolfSSL_i2d_SSL_SESSION: %d", length);
	write_session(o.session_out, data, (size_t)length);
}

int main(int argc, char **argv) {
	o = parse_options(argc, argv);
	if (o.version) {
		printf("wolfSSL %s\n", wolfSSL_lib_version());
		return 0;
	}
	wolfSSL_Init();
	WOLFSSL_CTX *ctx = wolfSSL_CTX_new(wolfDTLSv1_2_client_method());
	if (!ctx)
		fail("wolfSSL_CTX_new");
	if (o.psk_length) {
#ifdef NO_PSK
		fail("this wolfSSL has no pre-shared keys");
#else
		wolfSSL_CTX_set_psk_client_callback(ctx, give_psk);
#endif
	}
	if (o.ca)
		check(wolfSSL_CTX_load_verify_locations(ctx, o.ca, NULL), o.ca);
	if (o.cert) {
		check(wolfSSL_CTX_use_certificate_chain_file(ctx, o.cert), o.cert);
		check(wolfSSL_CTX_use_PrivateKey_file(ctx, o.key, SSL_FILETYPE_PEM), o.key);
	}
	if (o.mtu) {
#ifdef WOLFSSL_DTLS_MTU
		check(wolfSSL_CTX_dtls_set_mtu(ctx, (unsigned short)o.mtu), "wolfSSL_CTX_dtls_set_mtu");
#else
		fail("this wolfSSL has a fixed MTU");
#endif
	}

	WOLFSSL *ssl = wolfSSL_new(ctx);
	if (!ssl)
		fail("wolfSSL_new");
	if (o.name) {
		check(wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, o.name, (unsigned short)strlen(o.name)), "wolfSSL_UseSNI");
		check(wolfSSL_check_domain_name(ssl, o.name), "wolfSSL_check_domain_name");
	}
	if (o.session_in)
		resume_session(ssl);
	if (o.renegotiation_info)
		check(wolfSSL_UseSecureRenegotiation(ssl), "wolfSSL_UseSecureRenegotiation");
	struct sockaddr_in address = server_address(&o);
	check(wolfSSL_dtls_set_peer(ssl, &address, sizeof address), "wolfSSL_dtls_set_peer");
	check(wolfSSL_set_fd(ssl, open_socket(&o)), "wolfSSL_set_fd");

	check_io(ssl, wolfSSL_connect(ssl), "wolfSSL_connect");
	printf("handshake: %s\n", wolfSSL_get_cipher(ssl));
	if (o.session_out)
		keep_session(ssl);
	check_io(ssl, wolfSSL_write(ssl, o.line, (int)strlen(o.line)), "wolfSSL_write");
	char answer[max_line];
	int length = wolfSSL_read(ssl, answer, sizeof answer);
	check_io(ssl, length, "wolfSSL_read");
	check_echo(&o, answer, length);
	wolfSSL_shutdown(ssl);
	return 0;
}
