/*-------------------------------------------------------------------------
 *
 * common.h
 *	  What the rooms of several providers need: reading JSON, writing paths,
 *	  telling answers apart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_PROVIDERS_COMMON_H
#define JANUA_PROVIDERS_COMMON_H

#include "provider.h"

/* Either may be missing, and then they are not the same. */
extern bool same_text(const char *a, const char *b);

/* Is the word in the list, which ends with NULL?  NULL is in none. */
extern bool is_one_of(const char *word, const char *const *words);

/* Text at path; "" (told to be none) where the member is there and null, NULL where it is not there. */
extern char *text_or_none_at(const Jsonb *object, const char *path);

/* Of an object of the provider's: the currency in upper case, NULL when it is not told. */
extern char *currency_at(const Jsonb *object, const char *path);

/* NO_AMOUNT when it is not told, or no integer. */
extern int64 amount_at(const Jsonb *object, const char *path);

/* Small counts and dates of cards; 0 when absent or absurd. */
extern int small_int_at(const Jsonb *object, const char *path);

/*
 * A part of a path, escaped.  The core never enqueues an operation without
 * its ids; an empty one would turn DELETE of one object into a request on all
 * of them.
 */
extern char *path_part(const char *id, const char *argument);

/* "no_answer", "not_sent", ... */
extern const char *http_transport_word(HttpTransport transport);

/* An answer with a status from 200 to 299. */
extern bool answer_is_success(const HttpResponse *response);

extern void result_set_error(CallResult *result, Outcome outcome, const char *type,
							 const char *code);

/* Is it this type of event, or one of this family, which ends with a star? */
extern bool event_type_is(const char *type, const char *pattern);

#endif /* JANUA_PROVIDERS_COMMON_H */
