/*-------------------------------------------------------------------------
 *
 * http_text.h
 *	  What http.c asks of http_text.c; nobody else needs it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_HTTP_TEXT_H
#define JANUA_HTTP_TEXT_H

#include "http.h"

struct sockaddr;

/* What a URL says about where it leads, before any name is looked up. */
typedef struct HttpTarget
{
	bool tls;      /* https */
	bool loopback; /* localhost, 127.0.0.0/8 or ::1, spelled out */
} HttpTarget;

/* Reads a URL strictly; false with a reason when it must not be called. */
extern bool http_target_read(const char *url, HttpTarget *target, const char **reason);

/*
 * May a connection go to this address?  A loopback host only to loopback,
 * every other host only to public addresses.
 */
extern bool http_address_allowed(const struct sockaddr *address, bool loopback);

#endif /* JANUA_HTTP_TEXT_H */
