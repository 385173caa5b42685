// SPDX-License-Identifier: MIT

// A DTLS 1.2 client over GnuTLS; client.h has its arguments. Link with -lgnutls. It is here
// because gnutls-cli takes six certificates at most, and no extension of one's own.

#include <gnutls/dtls.h>
#include <gnutls/gnutls.h>

#include "session.h"

// private_extension is the number of an extension that no server knows: the last one for
// private use.
enum { private_extension = 65535 };

static struct options o;

// check ends the client if a call of the library has failed.
static int check(int result, const char *call) {
	if (result < 0)
		fail("%s: %d: %s", call, result, gnutls_strerror(result));
	return result;
}

static int send_extension(gnutls_session_t session, gnutls_buffer_t buffer) {
	(void)session;
	static const unsigned char zeros[1 << 14];
	if ((size_t)o.extension > sizeof zeros)
		fail("-extension is too long");
	check(gnutls_buffer_append_data(buffer, zeros, (size_t)o.extension), "gnutls_buffer_append_data");
	return o.extension;
}

static int receive_extension(gnutls_session_t session, const unsigned char *data, size_t size) {
	(void)session, (void)data, (void)size;
	return 0;
}

static void use_certificates(gnutls_session_t session) {
	gnutls_certificate_credentials_t credentials;
	check(gnutls_certificate_allocate_credentials(&credentials), "gnutls_certificate_allocate_credentials");
	check(gnutls_certificate_set_x509_trust_file(credentials, o.ca, GNUTLS_X509_FMT_PEM), o.ca);
	if (o.cert)
		check(gnutls_certificate_set_x509_key_file(credentials, o.cert, o.key, GNUTLS_X509_FMT_PEM), o.cert);
	check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials), "gnutls_credentials_set");
	check(gnutls_server_name_set(session, GNUTLS_NAME_DNS, o.name, strlen(o.name)), "gnutls_server_name_set");
	gnutls_session_set_verify_cert(session, o.name, 0);
}

static void use_psk(gnutls_session_t session) {
	gnutls_psk_client_credentials_t credentials;
	gnutls_datum_t key = {o.psk, (unsigned int)o.psk_length};
	check(gnutls_psk_allocate_client_credentials(&credentials), "gnutls_psk_allocate_client_credentials");
	check(gnutls_psk_set_client_credentials(credentials, o.identity, &key, GNUTLS_PSK_KEY_RAW), "gnutls_psk_set_client_credentials");
	check(gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials), "gnutls_credentials_set");
}

static void resume_session(gnutls_session_t session) {
	unsigned char data[max_session];
	size_t length = read_session(o.session_in, data);
	check(gnutls_session_set_data(session, data, length), "gnutls_session_set_data");
}

static void keep_session(gnutls_session_t session) {
	gnutls_datum_t data;
	check(gnutls_session_get_data2(session, &data), "gnutls_session_get_data2");
	write_session(o.session_out, data.data, data.size);
	gnutls_free(data.data);
}

int main(int argc, char **argv) {
	o = parse_options(argc, argv);
	if (o.version) {
		printf("GnuTLS %s\n", gnutls_check_version(NULL));
		return 0;
	}
	gnutls_session_t session;
	check(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_DATAGRAM), "gnutls_init");
	check(gnutls_priority_set_direct(session, o.priority, NULL), o.priority);
	if (o.psk_length)
		use_psk(session);
	else
		use_certificates(session);
	if (o.extension)
		check(gnutls_session_ext_register(session, "private", private_extension, GNUTLS_EXT_TLS, receive_extension, send_extension, NULL, NULL, NULL,
		                                  GNUTLS_EXT_FLAG_CLIENT_HELLO | GNUTLS_EXT_FLAG_DTLS | GNUTLS_EXT_FLAG_TLS),
		      "gnutls_session_ext_register");
	if (o.mtu)
		gnutls_dtls_set_mtu(session, (unsigned int)o.mtu);
	if (o.session_in)
		resume_session(session);
	int fd = open_socket(&o); // gnutls_transport_set_int is a macro that evaluates it twice
	gnutls_transport_set_int(session, fd);
	gnutls_handshake_set_timeout(session, patience);

	int result;
	do
		result = gnutls_handshake(session);
	while (result < 0 && !gnutls_error_is_fatal(result));
	check(result, "gnutls_handshake");
	printf("handshake: %s\n", gnutls_session_get_desc(session));
	if (o.session_out)
		keep_session(session);

	check((int)gnutls_record_send(session, o.line, strlen(o.line)), "gnutls_record_send");
	gnutls_record_set_timeout(session, patience);
	char answer[max_line];
	do
		result = (int)gnutls_record_recv(session, answer, sizeof answer);
	while (result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED);
	check(result, "gnutls_record_recv");
	check_echo(&o, answer, result);
	check(gnutls_bye(session, GNUTLS_SHUT_WR), "gnutls_bye");
	return 0;
}
