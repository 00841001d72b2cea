/*-------------------------------------------------------------------------
 *
 * snapshot.h
 *	  The state of one object as a provider tells it, in our words.
 *
 * Answers to our calls and webhooks both become snapshots, and the subjects
 * apply them by the same function.  NULL, 0 and NO_AMOUNT mean "not told", not
 * "empty".  Amounts are in the provider's units of the currency, currency
 * codes upper case.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_SNAPSHOT_H
#define JANUA_SNAPSHOT_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef enum BillingObject
{
	BILLING_CUSTOMER,
	BILLING_PAYMENT_METHOD,
	BILLING_PRODUCT,
	BILLING_PRICE,
	BILLING_SUBSCRIPTION,
	BILLING_INVOICE,
	BILLING_SETUP_INTENT,
	BILLING_PAYMENT_INTENT,
	BILLING_REFUND,
	BILLING_DISPUTE,
	BILLING_CHECKOUT_SESSION,
	BILLING_PORTAL_SESSION,
	BILLING_WEBHOOK_ENDPOINT,
	BILLING_METER,
	BILLING_USAGE, /* told to the provider only: there is no snapshot of it */
	BILLING_OBJECT_COUNT
} BillingObject;

extern const char *object_type_name(BillingObject type); /* "customer", ... */

#define NO_AMOUNT PG_INT64_MIN

/*
 * What the provider keeps of a movement for its service, in the currency that
 * it takes it in, which may be another one than the movement's; below 0 it
 * gives some back.  currency NULL: not told.
 */
typedef struct FeeSnapshot
{
	int64 amount;
	const char *currency;
} FeeSnapshot;

typedef struct CustomerSnapshot
{
	/* "": told to have none */
	const char *email;
	const char *name;
	const char *phone;
	const char *default_payment_method; /* provider's id; "": as above */
} CustomerSnapshot;

typedef struct PaymentMethodSnapshot
{
	const char *customer; /* provider's id; NULL when detached */
	const char *type;     /* card, us_bank_account, sepa_debit, ... */
	const char *brand;
	const char *last4;
	int exp_month;
	int exp_year;
	const char *wallet;     /* apple_pay, google_pay, ... */
	bool is_default;        /* told to be the default now */
	const Jsonb *reference; /* of a cash_recurrent, spei_recurrent: as next_action below */
	const char *unusable;   /* only of a partial one: why it cannot be charged; NULL: it can be */
} PaymentMethodSnapshot;

typedef struct SubscriptionSnapshot
{
	const char *customer;        /* provider's id */
	const char *price;           /* provider's id of the (first) item's price */
	const char *item;            /* provider's id of that item, where there is one */
	const char *status;          /* one of ours, design.md section 5 */
	const char *provider_status; /* the provider's word */
	int64 quantity;              /* 0: not told */
	const char *currency;
	TimestampTz created_at;
	TimestampTz current_period_start;
	TimestampTz current_period_end;
	TimestampTz trial_start;
	TimestampTz trial_end;
	bool cancel_at_period_end;
	TimestampTz cancel_at;
	TimestampTz canceled_at;
	TimestampTz ended_at;
	bool pause_at_period_end;
	TimestampTz resumes_at;
	const char *pending_price;  /* provider's id: from the next period on, or once it is paid for */
	const char *payment_method; /* provider's id of the default method; "": told to have none */
	const char *client_secret;  /* to be shown by client_config() only */
} SubscriptionSnapshot;

typedef struct InvoiceSnapshot
{
	const char *customer;     /* provider's id */
	const char *subscription; /* provider's id, NULL for a one-off */
	const char *number;
	const char *status;   /* draft, open, paid, void, uncollectible */
	const char *currency; /* upper case */
	int64 total;          /* minor units */
	int64 tax;
	int64 amount_due;
	int64 amount_paid;
	int64 amount_remaining;
	const char *billing_reason;
	int attempt_count;
	TimestampTz period_start;
	TimestampTz period_end;
	TimestampTz due_at;
	TimestampTz paid_at;
	TimestampTz next_attempt_at;
	TimestampTz created_at;
	const char *payment_intent; /* provider's id */
	const char *hosted_url;     /* where the customer can pay or see it */
	const char *pdf_url;
	const char *error_code; /* why a draft cannot be made final */
} InvoiceSnapshot;

typedef struct SetupIntentSnapshot
{
	const char *customer; /* provider's id */
	const char *status;   /* pending, requires_action, processing, succeeded, failed, canceled */
	const char *provider_status;
	const char *payment_method; /* provider's id; "": told to have none */
	const char *client_secret;
	const Jsonb *next_action; /* as of a payment intent */
	const char *error_code;
} SetupIntentSnapshot;

/*
 * next_action is what the customer has to do, {type, ...}: redirect {url},
 * oxxo {reference barcode_url ?url expires_at}, spei {clabe bank expires_at},
 * verify_microdeposits {?url arrival}, other {...}; times unix seconds.
 */
typedef struct PaymentIntentSnapshot
{
	bool as_asked;        /* what we asked for is what is paid: another amount is worth a look */
	const char *customer; /* provider's id */
	const char *status;   /* one of ours, design.md section 5 */
	const char *provider_status; /* the provider's word */
	const char *currency;
	int64 amount;
	int64 amount_capturable;
	int64 amount_received;
	int64 amount_refunded;
	/* of amount_received, what it has added to the amount asked for as the tax that it owes as the seller, and its number of the sale */
	int64 provider_tax;
	const char *provider_number;
	const char *method;         /* card, oxxo, spei, us_bank_account, sepa_debit, ... */
	const char *payment_method; /* provider's id; "": told to have none */
	const char *charge;         /* provider's id of the latest charge */
	const char *client_secret;
	const Jsonb *next_action; /* NULL: none (any more) */
	TimestampTz expires_at;
	int installments; /* 0: none */
	const char *error_code;
	const char *decline_code;
	const char *cancellation_reason;
	const char *invoice;          /* provider's id */
	const char *subscription;     /* provider's id */
	const char *checkout_session; /* provider's id */
	const char *receipt_url;
	TimestampTz paid_at;
	TimestampTz created_at;
	TimestampTz charged_at; /* when the charge was tried, where its details are told; 0: not told */
	FeeSnapshot fee;        /* of the payment, without its refunds and disputes */
} PaymentIntentSnapshot;

typedef struct RefundSnapshot
{
	const char *payment_intent; /* provider's id */
	const char *charge;         /* provider's id; one of the two may be missing */
	const char *status;         /* pending, succeeded, failed, canceled */
	bool requires_action;       /* pending: the customer has to act */
	const char *currency;
	int64 amount; /* what the customer gets back, positive, tax included */
	const char *reason;
	const char *error_code;
	const char *dispute; /* provider's id: paid back because of it */
	TimestampTz created_at;
	FeeSnapshot fee; /* of the refund itself */
} RefundSnapshot;

typedef struct DisputeSnapshot
{
	const char *payment_intent; /* provider's id */
	const char *charge;         /* provider's id; one of the two may be missing */
	const char *status;         /* one of ours, design.md section 5 */
	const char *provider_status;
	const char *currency;
	int64 amount;
	bool funds_withdrawn;  /* told that the money was taken */
	bool funds_reinstated; /* told that it was given back */
	const char *reason;
	bool evidence_submitted;
	TimestampTz evidence_due_by;
	TimestampTz created_at;
	FeeSnapshot fee; /* of the dispute itself */
} DisputeSnapshot;

typedef struct CheckoutSessionSnapshot
{
	const char *kind;   /* session, link */
	const char *status; /* open, processing, complete, expired, canceled, failed */
	const char *provider_status;
	const char *payment_status; /* paid, unpaid, no_payment_required */
	const char *url;
	const char *client_secret;
	const char *customer; /* provider's id, like the next four */
	const char *payment_intent;
	const char *subscription;
	const char *setup_intent;
	const char *invoice;
	const char *currency;
	int64 amount_total;
	TimestampTz expires_at;
} CheckoutSessionSnapshot;

typedef struct PortalSessionSnapshot
{
	const char *customer; /* provider's id */
	const char *url;
	const char *token; /* secret, where the provider gives one */
	TimestampTz expires_at;
} PortalSessionSnapshot;

typedef struct WebhookEndpointSnapshot
{
	const char *url;
	const char *secret; /* of its signatures (or the PEM of the public key); only when it is made */
	bool enabled;
	const Jsonb *events; /* array of types; NULL: not told */
	const char *api_version;
} WebhookEndpointSnapshot;

/* Of a partial one only when errors were reported, and which kind is the most frequent. */
typedef struct MeterSnapshot
{
	const char *event_name;  /* NULL: it takes events by something else than one name */
	const char *aggregation; /* sum, latest; NULL: another one */
	bool hourly;             /* the last value of an hour counts; else each one counts */
	bool active;
	TimestampTz errors_at;
	const char *error_code;
} MeterSnapshot;

typedef struct ProviderSnapshot
{
	BillingObject type;
	const char *provider_id;
	const char *reference; /* our uuid out of the metadata, NULL when there is none */
	bool has_livemode;     /* the provider says which mode it is of */
	bool livemode;
	/*
	 * Tells something beside the state, whose news it is not: of a payment
	 * intent what a charge of it or an invoice says, of a payment method
	 * whether it can be charged.  Nothing of the object is ordered by it.
	 */
	bool partial;
	bool deleted;  /* gone at the provider */
	bool terminal; /* a state that is not left again: wins a tie of times */
	/*
	 * When the object came into this state, where the provider dates it more
	 * exactly than an answer can be dated; 0: the time of the answer or event.
	 * All that a provider tells of a kind of object has it, or none.
	 */
	TimestampTz as_of;
	/*
	 * Where this state stands in the provider's own order of events, as a text
	 * that sorts by its bytes; NULL where it keeps none.  Of two states of one
	 * time the greater position is the later one, whatever they are.
	 */
	const char *position;
	union
	{
		CustomerSnapshot customer;
		PaymentMethodSnapshot payment_method;
		SubscriptionSnapshot subscription;
		InvoiceSnapshot invoice;
		SetupIntentSnapshot setup_intent;
		PaymentIntentSnapshot payment_intent;
		RefundSnapshot refund;
		DisputeSnapshot dispute;
		CheckoutSessionSnapshot checkout_session;
		PortalSessionSnapshot portal_session;
		WebhookEndpointSnapshot webhook_endpoint;
		MeterSnapshot meter;
	};
} ProviderSnapshot;

/* A snapshot in which nothing is told yet, every amount NO_AMOUNT. */
extern ProviderSnapshot *snapshot_new(BillingObject type, const char *provider_id, bool livemode);

/* The same for two snapshots that tell the same state (snapshot_digest.c). */
extern int64 snapshot_digest(const ProviderSnapshot *snapshot);

#endif /* JANUA_SNAPSHOT_H */
