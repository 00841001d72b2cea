/*-------------------------------------------------------------------------
 *
 * provider.h
 *	  The contract between the core and a payment provider.
 *
 * A provider is a room of files that fills one struct Provider and registers it.
 * It translates both ways and knows nothing else: operations and their terms
 * become HTTP requests, answers and webhooks become snapshots.  It reads no
 * table, opens no connection, and keeps no state.
 *
 * To add a provider: write providers/<name>.c with a Provider and
 * PROVIDER_REGISTER(), add its rows to sql/20_providers.sql and
 * sql/45_routing.sql, and its module to test/simulator; see
 * docs/architecture.md.  No other file names a provider.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_PROVIDER_H
#define JANUA_PROVIDER_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "http.h"
#include "manager_rules.h"
#include "operation.h"
#include "signature.h"
#include "snapshot.h"

/* ------------------------------------------------------------------------
 * What goes out
 * ------------------------------------------------------------------------
 */

/* An account of ours at a provider, its secrets opened. */
typedef struct ProviderAccount
{
	const char *provider;
	const char *account;    /* our name for it, "default" */
	const char *base_url;   /* without a trailing slash */
	const char *secret_key; /* "" for embedded providers */
	bool livemode;
	const Jsonb *options; /* never NULL: {} */
} ProviderAccount;

typedef struct ProviderCall
{
	Operation operation;
	int step;               /* 0, 1, ... of an operation that takes several requests */
	const char *reference;  /* uuid text of the object that the operation is about */
	const char *request_id; /* uuid text of the outbox row */
	const Jsonb *arguments;
	const Jsonb *carry; /* what the step before left, NULL at step 0 */
	const ProviderAccount *account;
	TimestampTz sent_at;    /* look-ups: when the request was last sent; 0: not known */
	const char *last_error; /* error_code of the answer before this call; NULL: none */
} ProviderCall;

/* A request as it is frozen: no host, no secret. */
typedef struct ProviderRequest
{
	const char *method;
	const char *path; /* with query, "/v1/customers" */
	List *headers;    /* of char *, "Name: value"; neither authorisation nor idempotency key */
	const char *body; /* NULL: none */
	size_t body_length;
	int timeout_ms; /* what suits the provider; the setting http_timeout overrides it */
} ProviderRequest;

/* ------------------------------------------------------------------------
 * Outcome of a request
 * ------------------------------------------------------------------------
 */
typedef enum Outcome
{
	OUTCOME_DONE,           /* this step succeeded: snapshots, perhaps next_step */
	OUTCOME_DECLINED,       /* a payment was refused; the request itself was fine */
	OUTCOME_RETRY,          /* again with the same key, nothing was done or stored */
	OUTCOME_UNKNOWN,        /* it may have happened: look up before anything else */
	OUTCOME_ABSENT,         /* from a look-up: it did not happen, send with a new key */
	OUTCOME_REFUSED,        /* permanent: will be refused again */
	OUTCOME_ACCOUNT_STOPPED /* key refused: nothing of this account can be sent */
} Outcome;

typedef struct CallResult
{
	Outcome outcome;
	int retry_after;    /* seconds, -1: none told */
	int next_step;      /* 0: the operation is complete */
	bool start_over;    /* refused: a retry begins with step 0, not with this one */
	const Jsonb *carry; /* for the next step */
	List *snapshots;    /* of ProviderSnapshot * */
	/* of an error: the provider's type and code, never its message */
	const char *error_type;
	const char *error_code;
	const char *provider_request_id;
} CallResult;

/* ------------------------------------------------------------------------
 * Webhooks
 * ------------------------------------------------------------------------
 */

/* Value of a header, name in lower case; NULL when absent. */
typedef const char *(*HeaderLookup)(const char *name, void *context);

typedef struct WebhookHeaders
{
	HeaderLookup lookup;
	void *context;
} WebhookHeaders;

static inline const char *
webhook_header(const WebhookHeaders *headers, const char *name)
{
	return headers->lookup(name, headers->context);
}

typedef struct WebhookTolerance
{
	int past;   /* seconds */
	int future; /* seconds */
} WebhookTolerance;

typedef struct EventIdentity
{
	const char *id;
	const char *type;
	TimestampTz
		time; /* when the provider says it happened; 0: not told, nothing of it is applied */
	bool livemode;
	bool has_livemode;
	const char *sub_account; /* event of another (connected) account, NULL for our own */
} EventIdentity;

/*
 * What an event says of an object that is no state of it: that a trial will
 * end, that the bank fears fraud.  It becomes a row of billing.events, once for
 * an event however often that is delivered or replayed.  docs/architecture.md
 * lists the types.
 */
typedef struct EventNotice
{
	const char *type;     /* in our words, "<object>.<what>": "subscription.trial_will_end" */
	BillingObject object; /* of a type that has a state, and customers */
	const char *provider_id;
	const char *charge; /* of a payment intent whose id is not told: provider's id of its charge */
} EventNotice;

/*
 * An event that tells of an object only a part, or tells it in passing: what it
 * says is not taken over, but the provider is asked for the object where it
 * does not agree with what is here.
 */
typedef struct EventDoubt
{
	/*
	 * The id (of a payment, perhaps only that of its charge), when it was so
	 * (as_of; 0: asked for in any case), and of a payment the status, where it is told.
	 */
	const ProviderSnapshot *glimpse;
	bool begins; /* an object that is not known here begins with what is told */
} EventDoubt;

/*
 * All subscriptions of a customer that are active or trialing at the provider.
 * One that is so here and not there is asked for; it is not ended by that alone.
 */
typedef struct EventRoll
{
	const char *customer; /* provider's id */
	List *subscriptions;  /* of char *, provider's ids */
} EventRoll;

typedef struct EventReading
{
	List *snapshots;       /* of ProviderSnapshot *, in the order in which to apply them */
	List *notices;         /* of EventNotice *, written when the snapshots are applied */
	List *doubts;          /* of EventDoubt *, looked at after the snapshots */
	const EventRoll *roll; /* NULL: none is called */
	/*
	 * The one object that it is about, of which nothing but type and id is
	 * used: where nobody vouches for the event (accepts_unsigned), the provider
	 * is asked for it.  NULL: none that could be asked for.
	 */
	const ProviderSnapshot *subject;
	const char *ignored; /* why there is nothing to apply; NULL otherwise */
} EventReading;

/* Adds a doubt about what is told in part. */
extern void event_doubt(EventReading *reading, const ProviderSnapshot *glimpse, bool begins);

/* Adds a notice about an object that the provider calls so, and returns it. */
extern EventNotice *event_notice(EventReading *reading, const char *type, BillingObject object,
								 const char *provider_id);

/* ------------------------------------------------------------------------
 * Embedded providers: no network, the worker keeps their state
 *
 * The state of one customer is one jsonb, NULL at first.  perform() answers a
 * request, elapse() plays the one item that is due at "now"; both return the
 * new state and the webhooks that a real provider would send.
 * ------------------------------------------------------------------------
 */
typedef struct EmbeddedEvent
{
	const char *id;
	const char *payload; /* JSON text */
} EmbeddedEvent;

typedef struct EmbeddedExchange
{
	const Jsonb *state;             /* in: NULL for a customer not seen yet */
	TimestampTz now;                /* in: by the test clock of the organisation */
	const ProviderAccount *account; /* in */
	const char *fault;              /* in: NULL, or timeout_after_success, 429, 500, declined */
	Jsonb *new_state;               /* out */
	List *events;                   /* out: of EmbeddedEvent * */
	TimestampTz next_due;           /* out: when elapse() has something to do, 0: never */
	const char *refused;            /* out: why act() did nothing, NULL otherwise */
} EmbeddedExchange;

typedef struct EmbeddedProvider
{
	/* Carries out a request; wire_key: the same key is answered the same. */
	void (*perform)(EmbeddedExchange *exchange, const ProviderRequest *request,
					const char *wire_key, HttpResponse *response);
	/* Plays what is due first; exchange->now is that item's time. */
	void (*elapse)(EmbeddedExchange *exchange);
	/*
	 * The buyer (or his bank) acts.  reference: the provider's id of the object,
	 * our uuid of it, or what the buyer was given to pay to.  Actions and their
	 * arguments: authenticate {success}, settle {outcome: succeeded|failed},
	 * complete_checkout {payment_method}, pay_reference {?amount}, expire {},
	 * dispute {?amount ?reason}, resolve_dispute {outcome: won|lost}.
	 */
	void (*act)(EmbeddedExchange *exchange, const char *action, const char *reference,
				const Jsonb *arguments);
	/* Headers of a webhook delivery as jsonb {name: value}. */
	Jsonb *(*sign)(const char *payload, const char *secret, TimestampTz now);
} EmbeddedProvider;

/* ------------------------------------------------------------------------
 * The provider
 * ------------------------------------------------------------------------
 */
typedef enum Catalogue
{
	CATALOGUE_NONE,     /* terms go with each sale */
	CATALOGUE_PRICES,   /* a price version has one counterpart (a plan, a product) */
	CATALOGUE_PRODUCTS, /* a plan is a product, its price versions are prices of it */
} Catalogue;

typedef enum Support
{
	UNSUPPORTED, /* refused in the SQL call with JB004 */
	SUPPORTED,
	EMULATED /* not offered there: we do it in its stead, see src/scheduled_changes.c */
} Support;

/* Requests a second; 0: not limited. */
typedef struct Pace
{
	double live;
	double test;
} Pace;

typedef struct Provider
{
	const char *name;

	/*
	 * Seconds for which the provider answers the same key with the same
	 * answer; 0 when it has no such keys: then a lost answer is looked up.
	 */
	int idempotency_window;

	/* What must exist there before something can be sold. */
	Catalogue catalogue;

	/* What it bills by itself: who runs a subscription by default (manager_rules.c). */
	ProviderBilling billing;

	/* Where that depends on the account; NULL: it does not. */
	ProviderBilling (*billing_of)(const ProviderAccount *account);

	/* How many requests it takes in a second, from one account; published or careful. */
	Pace pace;

	/* NULL for providers that are reached over the network. */
	const EmbeddedProvider *embedded;

	/*
	 * Can it do this?  When not, *alternative says what to do instead (a
	 * sentence for the errhint of JB004), or what we do in its stead.  Asked twice: with the arguments of
	 * the SQL call, which hold our ids and not yet the provider's, and with
	 * {} for the table of what is supported; so an absent argument refuses
	 * nothing.
	 */
	Support (*supports)(Operation operation, const Jsonb *arguments, const ProviderAccount *account,
						const char **alternative);

	/*
	 * The first argument that the provider requires and that is missing
	 * ("email"); NULL when all is there.  Checked in the SQL call (23502).
	 */
	const char *(*missing)(Operation operation, const Jsonb *arguments,
						   const ProviderAccount *account);

	/*
	 * Checks the terms of a new account: base_url default, key prefix, mode
	 * (of the key, or of the member "sandbox" of the options where the key does
	 * not tell).  Returns NULL or why the key cannot be right.
	 */
	const char *(*default_base_url)(bool livemode);
	const char *(*check_key)(const char *secret_key, const Jsonb *options, bool *livemode);

	/* Why the options of an account cannot be right; NULL: they can.  May be NULL: all can. */
	const char *(*check_options)(const Jsonb *options);

	void (*build_request)(const ProviderCall *call, ProviderRequest *request);
	void (*read_response)(const ProviderCall *call, const HttpResponse *response,
						  CallResult *result);

	/*
	 * Did it happen?  Only asked for operations whose answer was lost;
	 * read_lookup() says DONE with snapshots, ABSENT, RETRY, REFUSED or
	 * ACCOUNT_STOPPED.  step and carry are those of the step whose answer was
	 * lost, and DONE may have a next_step, as from read_response().
	 */
	void (*build_lookup)(const ProviderCall *call, ProviderRequest *request);
	void (*read_lookup)(const ProviderCall *call, const HttpResponse *response, CallResult *result);

	/*
	 * Headers that must not be frozen: authorisation, and the wire key where
	 * the provider takes one.  Appends to the list and returns it.
	 */
	List *(*authorize)(const ProviderAccount *account, const ProviderRequest *request,
					   const char *wire_key, List *headers);

	/*
	 * secrets are for signature.h to use: most have been made ready before and
	 * have no text any more.
	 */
	SignatureResult (*verify)(const void *payload, size_t length, const WebhookHeaders *headers,
							  const SignatureSecret *secrets, int secret_count, int64 now,
							  WebhookTolerance tolerance, int *matched);

	/*
	 * Does an account with these options take webhooks without a signature?
	 * Nothing of such a webhook is trusted: the provider is asked for the object
	 * that it names.  May be NULL: never.
	 */
	bool (*accepts_unsigned)(const Jsonb *options);

	/* false: the body is not an event of this provider. */
	bool (*identify_event)(const Jsonb *payload, const WebhookHeaders *headers,
						   EventIdentity *identity);
	void (*read_event)(const Jsonb *payload, EventReading *reading);
} Provider;

/* By name, NULL when there is none. */
extern const Provider *provider_find(const char *name);

/*
 * A provider's file registers itself when the library is loaded, so that no
 * list of providers has to be kept anywhere in the code.
 */
extern void provider_register(const Provider *provider);

#define PROVIDER_REGISTER(provider)                                       \
	static void __attribute__((constructor)) provider_register_this(void) \
	{                                                                     \
		provider_register(&(provider));                                   \
	}

#endif /* JANUA_PROVIDER_H */
