// SPDX-License-Identifier: MIT

// A DTLS 1.2 client over Mbed TLS 2.28; client.h has its arguments. Link with -lmbedtls
// -lmbedx509 -lmbedcrypto.

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/timing.h>
#include <mbedtls/version.h>

#include "session.h"

// check ends the client if a call of the library has failed.
static void check(int result, const char *call) {
	if (result < 0) {
		char message[256];
		mbedtls_strerror(result, message, sizeof message);
		fail("%s: -0x%04x: %s", call, (unsigned int)-result, message);
	}
}

static void resume_session(mbedtls_ssl_context *ssl, const char *path) {
	unsigned char data[max_session];
	mbedtls_ssl_session session;
	mbedtls_ssl_session_init(&session);
	check(mbedtls_ssl_session_load(&session, data, read_session(path, data)), "mbedtls_ssl_session_load");
	check(mbedtls_ssl_set_session(ssl, &session), "mbedtls_ssl_set_session"); // it copies the session
	mbedtls_ssl_session_free(&session);
}

static void keep_session(const mbedtls_ssl_context *ssl, const char *path) {
	unsigned char data[max_session];
	size_t length;
	check(mbedtls_ssl_session_save(mbedtls_ssl_get_session_pointer(ssl), data, sizeof data, &length), "mbedtls_ssl_session_save");
	write_session(path, data, length);
}

int main(int argc, char **argv) {
	struct options o = parse_options(argc, argv);
	if (o.version) {
		char version[64];
		mbedtls_version_get_string_full(version);
		puts(version);
		return 0;
	}

	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context random;
	mbedtls_entropy_init(&entropy);
	mbedtls_ctr_drbg_init(&random);
	check(mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0), "mbedtls_ctr_drbg_seed");

	mbedtls_ssl_config config;
	mbedtls_ssl_config_init(&config);
	check(mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_DATAGRAM, MBEDTLS_SSL_PRESET_DEFAULT),
	      "mbedtls_ssl_config_defaults");
	mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
	mbedtls_ssl_conf_min_version(&config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);

	mbedtls_x509_crt chain, ca;
	mbedtls_pk_context key;
	mbedtls_x509_crt_init(&chain);
	mbedtls_x509_crt_init(&ca);
	mbedtls_pk_init(&key);
	if (o.psk_length)
		check(mbedtls_ssl_conf_psk(&config, o.psk, o.psk_length, (const unsigned char *)o.identity, strlen(o.identity)), "mbedtls_ssl_conf_psk");
	if (o.ca) {
		check(mbedtls_x509_crt_parse_file(&ca, o.ca), o.ca);
		mbedtls_ssl_conf_ca_chain(&config, &ca, NULL);
	}
	if (o.cert) {
		check(mbedtls_x509_crt_parse_file(&chain, o.cert), o.cert);
		check(mbedtls_pk_parse_keyfile(&key, o.key, NULL), o.key);
		check(mbedtls_ssl_conf_own_cert(&config, &chain, &key), "mbedtls_ssl_conf_own_cert");
	}

	mbedtls_ssl_context ssl;
	mbedtls_ssl_init(&ssl);
	check(mbedtls_ssl_setup(&ssl, &config), "mbedtls_ssl_setup");
	if (o.name)
		check(mbedtls_ssl_set_hostname(&ssl, o.name), "mbedtls_ssl_set_hostname");
	if (o.mtu)
		mbedtls_ssl_set_mtu(&ssl, (uint16_t)o.mtu);

	if (o.session_in)
		resume_session(&ssl, o.session_in);

	mbedtls_timing_delay_context timer;
	mbedtls_net_context net = {.fd = open_socket(&o)};
	mbedtls_ssl_set_timer_cb(&ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
	mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, NULL, mbedtls_net_recv_timeout);

	int result;
	do
		result = mbedtls_ssl_handshake(&ssl);
	while (result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE);
	check(result, "mbedtls_ssl_handshake");
	printf("handshake: %s\n", mbedtls_ssl_get_ciphersuite(&ssl));
	if (o.session_out)
		keep_session(&ssl, o.session_out);

	check(mbedtls_ssl_write(&ssl, (const unsigned char *)o.line, strlen(o.line)), "mbedtls_ssl_write");
	mbedtls_ssl_conf_read_timeout(&config, patience);
	char answer[max_line];
	do
		result = mbedtls_ssl_read(&ssl, (unsigned char *)answer, sizeof answer);
	while (result == MBEDTLS_ERR_SSL_WANT_READ);
	check(result, "mbedtls_ssl_read");
	check_echo(&o, answer, result);
	check(mbedtls_ssl_close_notify(&ssl), "mbedtls_ssl_close_notify");
	return 0;
}
