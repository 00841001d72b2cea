/*-------------------------------------------------------------------------
 *
 * embedded.h
 *	  The far side of embedded providers: state, clock, webhooks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_EMBEDDED_H
#define JANUA_EMBEDDED_H

#include "accounts.h"
#include "outbox.h"

/*
 * Carries out a request of a customer in a unit of its own; the response's
 * times are the organisation's clock.  False when the unit could not be had.
 */
extern bool embedded_perform(const OutboxRow *row, const ProviderAccount *account,
							 const ProviderRequest *request, const char *wire_key,
							 HttpResponse *response);

/* Plays what is due in real time for organisations without a test clock. Returns how many. */
extern int embedded_elapse(void);

/* Plays what is due at a moment for one customer, inside the caller's unit. */
extern void embedded_elapse_customer(const pg_uuid_t *customer_id, TimestampTz now);

/* A customer whose provider is embedded. */
typedef struct Buyer
{
	pg_uuid_t *customer_id;
	char *organization_id;
	char *provider;
	char *account;
} Buyer;

/*
 * The buyer acts (EmbeddedProvider.act), inside the caller's transaction; locks
 * the customer.  NULL, or why there is nothing to do: then nothing is changed.
 */
extern const char *embedded_act(const Buyer *buyer, const char *action, const char *reference,
								const Jsonb *arguments);

/* Hands webhooks that wait to handle_webhook(). Returns how many. */
extern int embedded_deliver(void);

/* Milliseconds until something of the two is due, -1 when nothing is. */
extern long embedded_next_due(void);

#endif /* JANUA_EMBEDDED_H */
