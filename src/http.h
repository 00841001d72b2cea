/*-------------------------------------------------------------------------
 *
 * http.h
 *	  Many HTTP calls at once from one PostgreSQL process.
 *
 * The http room (http.c and http_slot.c) is the only one that includes curl.
 * It owns one multi handle, one pool of connections and one epoll descriptor,
 * so that a single wait covers the latch, every socket, curl's timers and the
 * death of the postmaster.  Nothing here starts or needs a transaction, and no
 * function raises an ERROR from inside a curl callback.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_HTTP_H
#define JANUA_HTTP_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* One call. Strings belong to the caller and are copied by http_start(). */
typedef struct HttpRequest
{
	const char *method; /* GET, POST, PUT, PATCH, DELETE */
	const char *url;    /* absolute: https, or http to loopback only */
	List *headers;      /* of char *, "Name: value" */
	const char *body;   /* NULL: none */
	size_t body_length; /* bytes */
	int timeout_ms;     /* from start to last byte */
} HttpRequest;

/*
 * How far a call came.  The difference between NOT_SENT and NO_ANSWER is what
 * decides whether the provider can have acted on it.
 */
typedef enum HttpTransport
{
	HTTP_ANSWERED,  /* status, headers and body are complete */
	HTTP_NOT_SENT,  /* refused, no such host, TLS failed: nothing was sent */
	HTTP_NO_ANSWER, /* sent at least in part; time-out or connection lost */
	HTTP_TOO_LARGE, /* the answer broke a size limit; status is what was read */
	HTTP_MALFORMED  /* bytes came that are not HTTP */
} HttpTransport;

typedef struct HttpResponse
{
	HttpTransport transport;
	int status;          /* 0 unless a status line was read */
	const char *headers; /* raw header lines, NUL-terminated, "" if none */
	const char *body;    /* NUL-terminated for convenience; may hold NULs */
	size_t body_length;  /* bytes */
	char error[160];     /* why not HTTP_ANSWERED: curl's words, no data of ours */
	TimestampTz sent_at;
	TimestampTz received_at;
} HttpResponse;

/* A finished call as http_collect() hands it out. */
typedef struct HttpDone
{
	void *owner;           /* as given to http_start() */
	HttpResponse response; /* valid until http_release() */
	void *slot;            /* private */
} HttpDone;

/*
 * Opens the engine (idempotent).  max_in_flight is also the cap on connections; it must stay
 * well below the limit on open files.  ERROR 58000 when curl or epoll cannot be set up.
 */
extern void http_open(int max_in_flight);

/* Frees everything, drops what is in flight. Safe to call twice and at exit. */
extern void http_close(void);

/* Calls in flight, and slots left. */
extern int http_in_flight(void);
extern int http_free_slots(void);

/*
 * Puts a call on the wire; false when there is no free slot.  A URL that is
 * not https (or http to 127.0.0.0/8, ::1 or localhost) is answered as
 * HTTP_NOT_SENT with the reason, like every other failure: callers have one
 * way to hear about trouble.
 */
extern bool http_start(const HttpRequest *request, void *owner);

/* Takes what has finished, at most max; never waits. Returns how many. */
extern int http_collect(HttpDone *done, int max);

/* Gives the slot back, its connection stays open for the next call. */
extern void http_release(HttpDone *done);

/* Drops a call in flight without an answer (its owner is going away). */
extern void http_cancel(void *owner);

/*
 * Waits until the latch is set, a socket or timer of curl needs service, or
 * timeout_ms has passed; serves curl; leaves by proc_exit when the postmaster
 * died.  Resets the latch.  Does not look for interrupts: the caller does.  Returns
 * whether the latch was set.
 */
extern bool http_wait(long timeout_ms, uint32 wait_event);

/* Value of a response header, any case, palloc'd; NULL when absent. */
extern char *http_header(const HttpResponse *response, const char *name);

/* Seconds to wait by Retry-After (delta or HTTP date), -1 when absent or unreadable. */
extern int http_retry_after(const HttpResponse *response);

/* The Date header as a timestamp; false when absent or unreadable. */
extern bool http_date(const HttpResponse *response, TimestampTz *date);

/*
 * Percent-encodes for a query or a form: everything but A-Z a-z 0-9 - _ . ~
 * (RFC 3986 unreserved), a blank as %20.  Appends to a StringInfo.
 */
struct StringInfoData;
extern void http_escape(struct StringInfoData *out, const char *text, size_t length);

/* Is this a URL that we may send secrets to?  *reason says why not. */
extern bool http_url_allowed(const char *url, const char **reason);

/* GUCs: max_in_flight, http_timeout, ca_file. Called once from _PG_init. */
extern void http_init(void);

/* Setting read by the worker. */
extern int http_max_in_flight;

/* How long a call may take: the setting if there is one, else what suits the provider (0: it does not say). */
extern int http_timeout(int suitable_ms);

#endif /* JANUA_HTTP_H */
