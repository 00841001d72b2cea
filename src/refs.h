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
 * What a webhook is worth that is of the same second as what we have.  Ids of
 * events say nothing about their order; the subject may know better.
 */
typedef enum Tie
{
	TIE_BY_ARRIVAL, /* goes over an older webhook, not over an answer to our own call */
	TIE_FOLLOWS,    /* it came out of the state that we have */
	TIE_PRECEDES    /* it did not */
} Tie;

/*
 * Notes that the object is as fresh as the news, and the provider's id with
 * it.  False when what we have is newer: then nothing may be overwritten.
 * Order: time, then terminal before not, then tie; answers win a tie.
 */
extern bool ref_advance(const ProviderSnapshot *snapshot, const pg_uuid_t *object_id,
						const News *news, Tie tie);

/* Only the id, for objects without states of their own (a subscription's item). */
extern void ref_put(const char *object_type, const pg_uuid_t *object_id, const char *provider_id,
					const News *news);

#endif /* JANUA_REFS_H */
