/*-------------------------------------------------------------------------
 *
 * invoice_numbers.h
 *	  Series of numbers, for what is issued with one: invoices, credit notes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_INVOICE_NUMBERS_H
#define JANUA_INVOICE_NUMBERS_H

#include "db.h"

typedef struct NumberSeries
{
	pg_uuid_t *id;
	char *seller;
	char *pattern;
	bool livemode;
	bool yearly;
	int year;
	int64 next_number;
	TimestampTz last_issued_at; /* 0: nothing yet */
	Jsonb *seller_terms;        /* the seller as he is now, for what he issues */
} NumberSeries;

/*
 * Numbers are given by units of the worker alone, one such unit at a time: this
 * waits until the others have ended, and is over with the transaction.
 */
extern void numbers_begin(void);

/* The one who issues where nobody is named. */
extern char *seller_default(void);

/* The year of a moment, where the seller is. */
extern int seller_year(const char *seller, TimestampTz at);

/*
 * The series for a kind (invoice, credit_note): of the list, which is of this
 * kind, or opened and added to it.  It is made when it is the first of its kind;
 * its row is locked until the end of the transaction.
 */
extern NumberSeries *series_of(List **open, const char *seller, const char *kind, bool livemode,
							   int year);

/*
 * The next number of an open series and how it is printed.  In live mode *at, the
 * date of issue, is moved to that of the number before when it is earlier.
 */
extern char *series_next(NumberSeries *series, int year, TimestampTz *at, int64 *number);

/* Writes what was taken of them. */
extern void series_close(const List *open);

#endif /* JANUA_INVOICE_NUMBERS_H */
