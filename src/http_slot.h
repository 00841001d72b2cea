/*-------------------------------------------------------------------------
 *
 * http_slot.h
 *	  One HTTP call: what http.c asks of http_slot.c; nobody else needs it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_HTTP_SLOT_H
#define JANUA_HTTP_SLOT_H

#include <curl/curl.h>

#include "http.h"

#include "lib/ilist.h"

/*
 * A request leaves at most once because of CURLOPT_PREREQFUNCTION (7.80);
 * CURLOPT_PROTOCOLS_STR came with 7.85.
 */
#define CURL_MINIMUM 0x075500
#if LIBCURL_VERSION_NUM < CURL_MINIMUM
#error "janua_billing needs libcurl 7.85 or newer"
#endif

/* Bytes in malloc'd memory, because curl's callbacks must not palloc. */
typedef struct Bytes
{
	char *data;
	size_t used;
	size_t size;
} Bytes;

/* One call and what it needs; in exactly one list of http.c. */
typedef struct HttpSlot
{
	dlist_node node;
	CURL *easy;
	int ca_generation; /* of the options set in easy */
	struct curl_slist *headers;
	Bytes request_body;
	Bytes answer_headers;
	Bytes answer_body;
	bool headers_complete;
	bool loopback; /* may connect to loopback, and only there */
	bool address_refused;
	bool too_large;
	int sends; /* how often the request was about to leave */
	void *owner;
	HttpResponse response;
	char curl_error[CURL_ERROR_SIZE];
} HttpSlot;

/* A new slot; NULL when memory is short. */
extern HttpSlot *slot_create(void);

/* Frees a slot that is in no list and not in the hands of a multi handle. */
extern void slot_destroy(HttpSlot *slot);

/* Copies the request into the slot; NULL, or why it cannot be sent. */
extern const char *slot_prepare(HttpSlot *slot, const HttpRequest *request);

/* Writes down how the call ended, and what curl has read of the answer. */
extern void slot_conclude(HttpSlot *slot, CURLcode code);

/* Writes down that the call was refused before curl had it. */
extern void slot_refuse(HttpSlot *slot, const char *reason);

/* Wipes request and answer. */
extern void slot_clear(HttpSlot *slot);

#endif /* JANUA_HTTP_SLOT_H */
