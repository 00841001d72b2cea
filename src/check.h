/*-------------------------------------------------------------------------
 *
 * check.h
 *	  What callers may pass: one small function per rule.
 *
 * Each raises a standard SQLSTATE with a hint that says what there is, and
 * returns the value in the form in which it is stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_CHECK_H
#define JANUA_CHECK_H

#include "db.h"

/* 23502 when NULL (or empty): "argument" names it. */
extern void check_given(const char *argument, bool given);

/*
 * JB009 when the text is, or holds, a raw card number. NULL is fine. To be asked
 * before anything else: every other error puts the statement into the log.
 */
extern void check_no_card(const char *argument, const char *text);

/* The same for every text inside a jsonb. */
extern void check_no_card_json(const char *argument, const Jsonb *json);

/*
 * The largest amount that is taken of a caller, and its reverse: so that the sum of
 * thousands of them is no overflow.
 */
#define AMOUNT_MAX INT64CONST(999999999999999)

/* 22023 when it is larger, or its reverse is. */
extern void check_amount(const char *argument, int64 amount);

/* Upper-case ISO 4217 code, 22023 when unknown. NULL stays NULL. */
extern char *check_currency(const char *currency);

/* Upper-case ISO 3166-1 code, 22023 when unknown. NULL stays NULL. */
extern char *check_country(const char *country);

/* JB014 when nothing may be sold to the country (a known code in any case). NULL is fine. */
extern void check_country_served(const char *country);

/* 22023 unless it can be an address: something@something, at most 254 bytes, no blanks. */
extern void check_email(const char *email);

/* 22023 unless it begins as the address of a web page does. NULL is fine. */
extern void check_url(const char *argument, const char *url);

/* 22023 unless the value is one of the words (NULL-terminated list). NULL is fine. */
extern void check_word(const char *argument, const char *value, const char *const *words);

/* Flat object, at most 50 keys of at most 40 characters, values of at most 500: 22023. NULL is fine. */
extern void check_metadata(const Jsonb *metadata);

/* Is it usable? The lenient form for triggers of the application's table. */
extern bool is_email(const char *email);
extern bool is_country(const char *country);
extern bool is_currency(const char *currency);
extern bool is_country_served(const char *country);

/* JB005: there is no such object. hint may be NULL. */
extern _Noreturn void unknown_object(const char *what, const char *value, const char *hint);

/* A comma-separated list for a hint; at most 50 values. */
extern char *hint_list(const char *query);

#endif /* JANUA_CHECK_H */
