/*-------------------------------------------------------------------------
 *
 * checkout.h
 *	  What the files of checkout sessions and payment links share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_CHECKOUT_H
#define JANUA_CHECKOUT_H

#include "subjects.h"

#include "utils/array.h"

#include "json.h"

#define NOT_NAMED (-1) /* a number or boolean that the call leaves out */

/* What a session or a link takes. */
typedef struct CheckoutTerms
{
	const char *name; /* of a link */
	const Jsonb *line_items;
	const char *success_url;
	const char *cancel_url;
	const char *mode;
	const char *plan;
	const pg_uuid_t *price;
	int64 quantity; /* NOT_NAMED: 1 */
	int trial_days; /* NOT_NAMED: the plan's, once */
	const char *currency;
	ArrayType *methods;
	ArrayType *installments;
	const char *coupon;
	int allow_promotion_codes; /* these three: 1, 0, NOT_NAMED */
	int collect_tax_id;
	int automatic_tax;
	const Jsonb *tax_lines;
	const char *locale;
	TimestampTz expires_at;
	bool combine;
	int max_payments; /* NOT_NAMED: any number */
	const Jsonb *metadata;
	const pg_uuid_t *invoice_id; /* of ours, that is paid on it; NULL: none */
	TimestampTz ends_about;      /* of it, where the provider decides when; 0: nobody asks */
} CheckoutTerms;

typedef struct CheckoutSession
{
	pg_uuid_t *id;
	bool link;              /* a payment link: about no customer */
	pg_uuid_t *customer_id; /* NULL for a link */
	char *organization_id;  /* NULL for a link */
	char *provider;
	char *account;
	bool livemode;
	char *mode;
	char *status;
	char *payment_status; /* NULL: not told */
	char *name;           /* of a link */
	char *currency;       /* NULL for a setup that names none */
	char *success_url;
	char *cancel_url;
	pg_uuid_t *payment_intent_id;
	pg_uuid_t *subscription_id;
	pg_uuid_t *invoice_id; /* of ours, that is paid on it; NULL: none */
	Jsonb *metadata;
	char *provider_id; /* NULL: the provider does not know it yet */
} CheckoutSession;

/* NULL when there is none. */
extern CheckoutSession *checkout_load(const pg_uuid_t *id);

/* The same under the lock of its customer, or of the link itself, so that its state stands still. */
extern CheckoutSession *checkout_load_locked(const pg_uuid_t *id);

/* checkout.c: JB009, before anything else; then all that is about the call and not about what is sold. */
extern void checkout_check_no_card(const CheckoutTerms *terms);
extern void checkout_check_terms(const CheckoutTerms *terms);

/* A session with its rows and its request; the caller has locked the customer. */
extern pg_uuid_t *checkout_session_create(CheckoutTerms *terms, const Customer *customer,
										  const Account *account);

/* A URL of a session, with its id in the place that the caller left for it. NULL stays NULL. */
extern char *checkout_url(const char *url, const pg_uuid_t *id);

/* checkout_closing.c: closes it, where its provider closes any or has not heard of it; false: it runs out by itself. */
extern bool checkout_close(const pg_uuid_t *id);

/* expired, canceled or failed: nothing will come of it */
extern bool checkout_over(const char *status);

/*
 * Ends a session or link that no provider has open: the row, and the payment and
 * the subscription that waited for it.  error_code may be NULL.
 */
extern void checkout_end(const CheckoutSession *session, const char *status,
						 const char *error_code);

/*
 * checkout_closing.c: two pages on which the same subscription could be bought
 * would sell it twice.  Where the provider closes none, the earlier one runs
 * out by itself.
 */
extern void checkout_close_earlier(const Customer *customer, const char *plan_group);

/* ---- checkout_lines.c: what is sold in one ---- */

typedef struct CheckoutLine
{
	Price *price; /* NULL: named in the call */
	const char *name;
	const char *description;
	int64 amount; /* minor units, of one */
	const char *currency;
	int64 quantity;
} CheckoutLine;

typedef struct CheckoutLines
{
	List *lines; /* of CheckoutLine * */
	const char *currency;
	int64 total;
	CheckoutLine *recurring; /* the line that is paid again and again, NULL: none */
} CheckoutLines;

/*
 * Reads line_items; 22023 names the element that cannot be used.  customer NULL
 * for a link.  currency: what the call says, NULL: that of the lines.
 */
extern CheckoutLines *checkout_lines_read(const Jsonb *items, const char *currency,
										  const Customer *customer);

/* The one line of a call that names plan or price. */
extern CheckoutLines *checkout_lines_of_price(const PriceChoice *choice, int64 quantity);

/* All as one line with the sum: 22023 when one of them is paid again and again. */
extern void checkout_lines_combine(CheckoutLines *lines);

/* Pushes prices that the provider wants to know; returns the request to be blocked by, NULL: none. */
extern pg_uuid_t *checkout_lines_ensure_at(const CheckoutLines *lines, const Account *account);

/* As the row keeps them. */
extern Jsonb *checkout_lines_json(const CheckoutLines *lines);

/* Adds line_items as a request has them, in the units of the provider. */
extern void checkout_lines_add(JsonBuilder *builder, const CheckoutLines *lines,
							   const char *provider);

/* From minor units; 22003 when a sum is out of range. */
extern int64 checkout_sum(int64 total, int64 amount, int64 quantity);

#endif /* JANUA_CHECKOUT_H */
