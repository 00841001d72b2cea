/*-------------------------------------------------------------------------
 *
 * refs.h
 *	  The providers' ids of our objects, and how fresh our knowledge is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_REFS_H
#define JANUA_REFS_H

#include "db.h"
#include "provider.h"

/* Where and when something was said about an object. */
typedef struct News
{
	const char *provider;
	const char *account;
	bool livemode;
	TimestampTz as_of;    /* the provider's time */
	const char *event_id; /* of the webhook; "" for an answer to our own call */
	/* an answer: the object that our call was about */
	const pg_uuid_t *own_id; /* NULL for a webhook */
	BillingObject own_type;
	bool asked; /* our call only asked, so that the answer may be news to us */
} News;

/* The provider's id of our object, NULL when it has none there. */
extern char *ref_find(const char *object_type, const pg_uuid_t *object_id, const char *provider,
					  const char *account);

/* Our object behind a provider's id, NULL when it is unknown. */
extern pg_uuid_t *ref_object(const char *object_type, const char *provider_id, const char *provider,
							 const char *account);

/*
 * Our object that a snapshot is about: by the provider's id, else by our
 * reference in its metadata, else the object of our own call.  NULL: unknown.
 * A reference counts only for the caller to look up; it is not trusted to
 * exist.
 */
extern pg_uuid_t *snapshot_object(const ProviderSnapshot *snapshot, const News *news);

/*
 * Locks the customer that news are about before anything of his is read.  A
 * webhook waits for whoever holds him; an answer does not, as the delivery
 * must never wait for a session: when he is held it is applied later (55P03).
 * False when there is no such customer.
 */
extern bool news_lock_customer(const News *news, const pg_uuid_t *customer_id);

/*
 * How far an object has come in its life.  Of two states that are told of one
 * second a later part of life is the later one; within one part the greater
 * step most likely is, and where the two differ the provider is asked.
 */
#define STAGE(part, step) ((part) *100 + (step))

/*
 * Notes that the object is as fresh as the news, and the provider's id with
 * it.  False when what we have is newer: then nothing may be overwritten.
 *
 * Order: time; part of life, where a terminal state comes last; an answer
 * after webhooks (what we ask is asked after what we were told); step; id of
 * the event.  It is a total order of webhooks, so that they may come in any.
 * Answers count as they come, since one is asked for after the other.
 */
extern bool ref_advance(const ProviderSnapshot *snapshot, const pg_uuid_t *object_id,
						const News *news, int stage);

/*
 * The object, whose row is there, is known by this id from now on: webhooks
 * that wait for it are due, and the links to it are made.  For who writes the
 * id himself.
 */
extern void ref_appeared(const char *object_type, const char *provider_id,
						 const pg_uuid_t *object_id, const News *news);

/* Only the id, for objects without states of their own (a subscription's item). */
extern void ref_put(const char *object_type, const pg_uuid_t *object_id, const char *provider_id,
					const News *news);

#endif /* JANUA_REFS_H */
