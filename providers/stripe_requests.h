/*-------------------------------------------------------------------------
 *
 * stripe_requests.h
 *	  Forms and requests of the Stripe provider, see stripe_requests.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_STRIPE_REQUESTS_H
#define JANUA_STRIPE_REQUESTS_H

#include "stripe.h"

#include "lib/stringinfo.h"

#include "json.h"

#define STRIPE_LIST_LIMIT "100" /* the most that a list gives at once */

/* A form under construction, for the arguments of one call. */
typedef struct Form
{
	StringInfoData text;
	const Jsonb *arguments;
} Form;

extern void form_open(Form *form, const ProviderCall *call);

/* A NULL value is left out. */
extern void form_add(Form *form, const char *name, const char *value);

/* The scalar argument at path: left out when absent, empty when null. */
extern void form_argument(Form *form, const char *name, const char *path);

/* As form_argument, but null is the same as absent: for what is created. */
extern void form_given(Form *form, const char *name, const char *path);

/* The currency at path, in lower case. */
extern void form_currency(Form *form, const char *name, const char *path);

/* The address argument at path, under name; null clears it. */
extern void form_address(Form *form, const char *name, const char *path);

/* The user's metadata; Stripe merges it into what it has, an empty member removes its key. */
extern void form_metadata(Form *form);

/* Of what is created: by these an event or a look-up finds the way to our row. */
extern void form_reference(Form *form, const ProviderCall *call);

/* The same for an object that is made in passing; prefix "payment_intent_data". */
extern void form_reference_of(Form *form, const char *prefix, const char *reference);

/* The customer's consent to be debited, argument mandate. */
extern void form_mandate(Form *form);

/* Argument locale, where Stripe has it or its language among words; else Stripe chooses. */
extern void form_locale(Form *form, const char *const *words, size_t count);

/* expand[0]: with the fee, where it is asked for; else plain, NULL for nothing. */
extern void form_expand_fee(Form *form, const ProviderCall *call, const char *with_fee,
							const char *plain);

extern void stripe_post(ProviderRequest *request, const char *path, const Form *form);

/* form: NULL for a request without parameters. */
extern void stripe_get(ProviderRequest *request, const char *path, const Form *form);
extern void stripe_delete(ProviderRequest *request, const char *path, const Form *form);

/* stripe_path(call, "customers", "customer") is "/v1/customers/cus_1". */
extern char *stripe_path(const ProviderCall *call, const char *collection, const char *argument);

/* POST without parameters to an object: stripe_verb(request, path, "cancel"). */
extern void stripe_verb(const ProviderCall *call, ProviderRequest *request, const char *path,
						const char *verb);

#endif /* JANUA_STRIPE_REQUESTS_H */
