/*-------------------------------------------------------------------------
 *
 * http_slot.c
 *	  One HTTP call: its options, its gate, its limits and its verdict.
 *
 * Called by http.c, which runs many of them; calls http_text.c and curl.
 *
 * A request leaves at most once.  When a kept-alive connection dies before
 * the answer, curl sends the request again on a fresh one, and no option
 * turns that off.  The provider may have acted on the first copy, so
 * about_to_send(), which curl calls before every single sending, refuses the
 * second one.  The same count tells NOT_SENT from NO_ANSWER: as long as it is
 * zero no byte of the request has left.
 *
 * No ERROR crosses curl.  What curl calls back uses malloc, checks its limits
 * itself and reports by return code.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "http_slot.h"
#include "http_text.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

/* far above what an API sends, small enough for every slot to hold it */
#define HEADERS_MAXIMUM (64 * 1024)

/* a buffer above this is freed after its call instead of kept for the next */
#define BUFFER_KEPT (64 * 1024)

/* a silent minute means that the peer is gone, whatever the timeout allows */
#define SILENCE_SECONDS 60L

/*
 * An idle connection is not used again after this: it is below the idle
 * limit of common servers and load balancers (60 s), so that a request
 * seldom meets a connection that is just being closed.
 */
#define IDLE_SECONDS 30L

/* for a provider that names none */
#define DEFAULT_TIMEOUT_MS 30000

/* a changed CA file of the same name is noticed after this */
#define CA_CACHE_SECONDS 300L

int http_max_in_flight = 64;
static int http_timeout_ms = 0;
static int http_connect_timeout_ms = 10000;
static int http_max_response_kb = 1024;
static char *http_ca_file = NULL;

/* raised when ca_file changes, so that slots set their options again */
static int ca_generation = 1;

/* ---------- bytes ---------- */

static bool
bytes_append(Bytes *bytes, const char *data, size_t length)
{
	size_t needed = bytes->used + length + 1;

	if (needed > bytes->size)
	{
		size_t size = Max(bytes->size * 2, 1024);
		char *grown;

		while (size < needed)
			size *= 2;
		grown = realloc(bytes->data, size);
		if (grown == NULL)
			return false;
		bytes->data = grown;
		bytes->size = size;
	}

	memcpy(bytes->data + bytes->used, data, length);
	bytes->used += length;
	bytes->data[bytes->used] = '\0';
	return true;
}

static void
bytes_free(Bytes *bytes)
{
	free(bytes->data);
	memset(bytes, 0, sizeof(*bytes));
}

/* Requests and answers hold personal data: wiped when done with. */
static void
bytes_clear(Bytes *bytes)
{
	if (bytes->data == NULL)
		return;

	explicit_bzero(bytes->data, bytes->used);
	bytes->used = 0;
	if (bytes->size > BUFFER_KEPT)
		bytes_free(bytes);
}

static const char *
bytes_text(const Bytes *bytes)
{
	return bytes->data != NULL && bytes->used > 0 ? bytes->data : "";
}

/* ---------- what curl calls ---------- */

/* The gate that lets a request leave once: see the head of the file. */
static int
about_to_send(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	HttpSlot *slot = arg;

	if (slot->sends > 0)
		return CURL_PREREQFUNC_ABORT;
	slot->sends++;
	return CURL_PREREQFUNC_OK;
}

/*
 * Judges the address that was looked up, not the name, so that a name which
 * resolves to an inner address does not lead there.
 */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpSlot *slot = arg;

	/* a connection for a second sending, which would be refused anyway */
	if (slot->sends > 0)
		return CURL_SOCKET_BAD;

	if (!http_address_allowed(&address->addr, slot->loopback))
	{
		slot->address_refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Called once per line, of interim answers (1xx) and of trailers as well. */
static size_t
take_header(char *data, size_t size, size_t count, void *arg)
{
	HttpSlot *slot = arg;
	size_t length = size * count;

	if (length >= 5 && memcmp(data, "HTTP/", 5) == 0)
	{
		bytes_clear(&slot->answer_headers);
		slot->headers_complete = false;
		return length;
	}
	if (slot->headers_complete)
		return length;
	if (data[0] == '\r' || data[0] == '\n')
	{
		slot->headers_complete = true;
		return length;
	}

	if (slot->answer_headers.used + length > HEADERS_MAXIMUM)
	{
		slot->too_large = true;
		return 0;
	}
	return bytes_append(&slot->answer_headers, data, length) ? length : 0;
}

static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
	HttpSlot *slot = arg;
	size_t length = size * count;

	if (slot->answer_body.used + length > (size_t) http_max_response_kb * 1024)
	{
		slot->too_large = true;
		return 0;
	}
	return bytes_append(&slot->answer_body, data, length) ? length : 0;
}

/* ---------- the request ---------- */

/* Options that stay the same for all calls of a slot. */
static bool
slot_configure(HttpSlot *slot)
{
	CURL *easy = slot->easy;
	bool ok = true;

	curl_easy_reset(easy);

#define SET(option, value) (ok = curl_easy_setopt(easy, (option), (value)) == CURLE_OK && ok)

	SET(CURLOPT_PRIVATE, slot);
	SET(CURLOPT_ERRORBUFFER, slot->curl_error);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_USERAGENT, "janua_billing/" JANUA_VERSION);

	SET(CURLOPT_PREREQFUNCTION, about_to_send);
	SET(CURLOPT_PREREQDATA, slot);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, slot);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, slot);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, slot);

	/* the environment of the postmaster must not lead traffic elsewhere */
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "*");
	/* http_target_read() lets plain http pass to loopback only */
	SET(CURLOPT_PROTOCOLS_STR, "https,http");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(CURLOPT_LOW_SPEED_TIME, SILENCE_SECONDS);

	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (http_ca_file != NULL && http_ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, http_ca_file);
		SET(CURLOPT_CAPATH, NULL); /* or the system's would count as well */
	}

#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_CA_CACHE_TIMEOUT, CA_CACHE_SECONDS);

	/* do not wait for a thread that hangs in a lookup (curl issue 9272) */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
#undef SET

	if (ok)
		slot->ca_generation = ca_generation;
	return ok;
}

static bool
header_add(HttpSlot *slot, const char *line)
{
	struct curl_slist *longer = curl_slist_append(slot->headers, line);

	if (longer == NULL)
		return false;
	slot->headers = longer;
	return true;
}

/* NULL, or why the headers cannot be sent. */
static const char *
slot_set_headers(HttpSlot *slot, const HttpRequest *request)
{
	bool typed = false;
	ListCell *cell;

	foreach (cell, request->headers)
	{
		const char *line = lfirst(cell);

		/* a line break would begin a header, or a request, of its own */
		if (strpbrk(line, "\r\n") != NULL || strchr(line, ':') == NULL)
			return "request header is malformed";
		if (pg_strncasecmp(line, "content-type:", 13) == 0)
			typed = true;
		if (!header_add(slot, line))
			return curl_easy_strerror(CURLE_OUT_OF_MEMORY);
	}

	/* without a value: curl adds neither of its own accord */
	if (!header_add(slot, "Expect:") || (!typed && !header_add(slot, "Content-Type:")))
		return curl_easy_strerror(CURLE_OUT_OF_MEMORY);
	return NULL;
}

/* NULL, or why the method and body cannot be sent. */
static const char *
slot_set_body(HttpSlot *slot, const HttpRequest *request)
{
	CURL *easy = slot->easy;
	const char *method = request->method;
	bool is_get = strcmp(method, "GET") == 0;
	bool is_post = strcmp(method, "POST") == 0;
	bool is_delete = strcmp(method, "DELETE") == 0;
	size_t length = request->body != NULL ? request->body_length : 0;
	const char *custom;
	bool ok;

	if (!is_get && !is_post && !is_delete && strcmp(method, "PUT") != 0 &&
		strcmp(method, "PATCH") != 0)
		return "request method is unknown";

	/* also when empty: a POST then says "Content-Length: 0" */
	if (!bytes_append(&slot->request_body, length > 0 ? request->body : "", length))
		return curl_easy_strerror(CURLE_OUT_OF_MEMORY);

	/* without a body and a custom name curl's own GET and POST are right */
	custom = is_post || (is_get && length == 0) ? NULL : method;
	ok = curl_easy_setopt(easy, CURLOPT_POSTFIELDS, slot->request_body.data) == CURLE_OK &&
		 curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) length) == CURLE_OK &&
		 curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, custom) == CURLE_OK &&
		 curl_easy_setopt(easy,
						  length == 0 && (is_get || is_delete) ? CURLOPT_HTTPGET : CURLOPT_POST,
						  1L) == CURLE_OK;
	return ok ? NULL : curl_easy_strerror(CURLE_OUT_OF_MEMORY);
}

int
http_timeout(int suitable_ms)
{
	if (http_timeout_ms > 0)
		return http_timeout_ms;
	return suitable_ms > 0 ? suitable_ms : DEFAULT_TIMEOUT_MS;
}

const char *
slot_prepare(HttpSlot *slot, const HttpRequest *request)
{
	CURL *easy = slot->easy;
	const char *reason;
	HttpTarget target;
	long timeout_ms = http_timeout(request->timeout_ms);

	slot->headers_complete = false;
	slot->address_refused = false;
	slot->too_large = false;
	slot->sends = 0;
	slot->curl_error[0] = '\0';
	memset(&slot->response, 0, sizeof(slot->response));
	slot->response.sent_at = GetCurrentTimestamp();

	if (!http_target_read(request->url, &target, &reason))
		return reason;
	slot->loopback = target.loopback;

	if (slot->ca_generation != ca_generation && !slot_configure(slot))
		return "libcurl does not support an option that is needed for safety";
	if ((reason = slot_set_headers(slot, request)) != NULL ||
		(reason = slot_set_body(slot, request)) != NULL)
		return reason;

	if (curl_easy_setopt(easy, CURLOPT_URL, request->url) != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, slot->headers) != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms) != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) http_connect_timeout_ms) !=
			CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE,
						 (curl_off_t) http_max_response_kb * 1024) != CURLE_OK)
		return curl_easy_strerror(CURLE_OUT_OF_MEMORY);
	return NULL;
}

/* ---------- the answer ---------- */

static void
slot_forget_request(HttpSlot *slot)
{
	/* the headers hold the provider's key */
	for (struct curl_slist *item = slot->headers; item != NULL; item = item->next)
		explicit_bzero(item->data, strlen(item->data));
	curl_slist_free_all(slot->headers);
	slot->headers = NULL;
	bytes_clear(&slot->request_body);
}

static HttpTransport
slot_classify(const HttpSlot *slot, CURLcode code)
{
	if (slot->sends == 0)
		return HTTP_NOT_SENT;
	if (code == CURLE_OK)
	{
		/* curl takes a connection that closes among the headers for their end */
		if (!slot->headers_complete)
			return HTTP_NO_ANSWER;
		/* an interim answer alone is none */
		return slot->response.status >= 200 ? HTTP_ANSWERED : HTTP_MALFORMED;
	}
	if (slot->too_large)
		return HTTP_TOO_LARGE;

	switch (code)
	{
		case CURLE_FILESIZE_EXCEEDED:
#if LIBCURL_VERSION_NUM >= 0x080600
		case CURLE_TOO_LARGE:
#endif
			return HTTP_TOO_LARGE;

		case CURLE_OUT_OF_MEMORY:
			/* before 8.6 also curl's word for a header line over 100 kB */
			return slot->response.status > 0 && !slot->headers_complete ? HTTP_TOO_LARGE
																		: HTTP_NO_ANSWER;

		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_BAD_CONTENT_ENCODING:
		case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 */
			return HTTP_MALFORMED;

		case CURLE_RECV_ERROR:
			/* shared with a lost connection; only the text tells them apart */
			return strstr(slot->curl_error, "chunk") != NULL ? HTTP_MALFORMED : HTTP_NO_ANSWER;

		default:
			return HTTP_NO_ANSWER;
	}
}

/* curl's general words for a code: its detailed ones would name our URL. */
static const char *
slot_error(const HttpSlot *slot, HttpTransport transport, CURLcode code)
{
	switch (transport)
	{
		case HTTP_ANSWERED:
			return "";
		case HTTP_TOO_LARGE:
			return "answer is larger than janua_billing.max_response_size or its headers than 64 kB";
		case HTTP_MALFORMED:
			return "answer is not valid HTTP";
		case HTTP_NOT_SENT:
			if (slot->address_refused)
				return slot->loopback ? "loopback host has an address that is not loopback"
									  : "host has a private, loopback or link-local address";
			return curl_easy_strerror(code);
		case HTTP_NO_ANSWER:
			if (code == CURLE_OK)
				return curl_easy_strerror(CURLE_PARTIAL_FILE);
			/* our own refusal of a second sending hides why it was tried */
			if (code == CURLE_ABORTED_BY_CALLBACK || code == CURLE_COULDNT_CONNECT)
				return curl_easy_strerror(CURLE_GOT_NOTHING);
			return curl_easy_strerror(code);
	}
	return "";
}

static void
slot_finish(HttpSlot *slot, HttpTransport transport, const char *error)
{
	HttpResponse *response = &slot->response;

	slot_forget_request(slot);

	response->transport = transport;
	response->headers = bytes_text(&slot->answer_headers);
	response->body = bytes_text(&slot->answer_body);
	response->body_length = slot->answer_body.used;
	response->received_at = GetCurrentTimestamp();
	strlcpy(response->error, error, sizeof(response->error));
}

void
slot_conclude(HttpSlot *slot, CURLcode code)
{
	HttpTransport transport;
	long status = 0;

	(void) curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
	slot->response.status = (int) status;
	transport = slot_classify(slot, code);
	slot_finish(slot, transport, slot_error(slot, transport, code));
}

void
slot_refuse(HttpSlot *slot, const char *reason)
{
	slot_finish(slot, HTTP_NOT_SENT, reason);
}

/* ---------- life ---------- */

HttpSlot *
slot_create(void)
{
	HttpSlot *slot = calloc(1, sizeof(HttpSlot));

	if (slot != NULL && (slot->easy = curl_easy_init()) == NULL)
	{
		free(slot);
		slot = NULL;
	}
	return slot;
}

void
slot_clear(HttpSlot *slot)
{
	slot_forget_request(slot);
	bytes_clear(&slot->answer_headers);
	bytes_clear(&slot->answer_body);
	slot->owner = NULL;
}

void
slot_destroy(HttpSlot *slot)
{
	slot_clear(slot);
	curl_easy_cleanup(slot->easy);
	bytes_free(&slot->request_body);
	bytes_free(&slot->answer_headers);
	bytes_free(&slot->answer_body);
	free(slot);
}

/* ---------- settings ---------- */

static void
ca_file_assigned(const char *newval, void *extra)
{
	ca_generation++;
}

void
http_init(void)
{
	DefineCustomIntVariable("janua_billing.max_in_flight",
							"Sets how many calls to providers may be under way at once.",
							"Each needs a connection, and thus a file descriptor of the worker.",
							&http_max_in_flight, 64, 1, 1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("janua_billing.http_timeout",
							"Sets how long a call to a provider may take.",
							"0: as long as suits the provider.", &http_timeout_ms, 0, 0, 600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"janua_billing.connect_timeout",
		"Sets how long connecting to a provider may take, name lookup and TLS included.", NULL,
		&http_connect_timeout_ms, 10000, 100, 120000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"janua_billing.max_response_size", "Sets the largest body of an answer that is read.", NULL,
		&http_max_response_kb, 1024, 1, 100 * 1024, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"janua_billing.ca_file",
		"Sets the file of certificate authorities that providers are checked against.",
		"Empty: those of the operating system.", &http_ca_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
		NULL, ca_file_assigned, NULL);
}
