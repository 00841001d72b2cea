/*-------------------------------------------------------------------------
 *
 * payment_methods.h
 *	  What the two files of payment methods share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_PAYMENT_METHODS_H
#define JANUA_PAYMENT_METHODS_H

#include "subjects.h"

typedef struct Method
{
	pg_uuid_t *customer_id;
	char *state;
	char *provider;
	char *account;
	bool is_default;
	char *organization_id;
	char *token;
	bytea *mandate; /* sealed */
	char *unusable; /* why it cannot be charged, although the provider has it; NULL: it can */
} Method;

/* The provider has it: attached, or failed because it cannot be charged any more. */
extern bool payment_method_is_there(const Method *method);

/* False when there is none. */
extern bool payment_method_load(const pg_uuid_t *id, Method *method);

#endif /* JANUA_PAYMENT_METHODS_H */
