/*
 * card_number.h
 *		Does a text hold a raw card number?
 *
 * The extension refuses card numbers (SQLSTATE JB009) so that a database never
 * comes into the scope of PCI DSS by accident.  Pure: bytes in, a verdict out.
 * The functions never keep, copy out or print what they read.  Which columns
 * and arguments are looked at is the caller's rule; in references, CLABEs,
 * phone numbers and ids one number in ten passes the check digit.
 */
#ifndef JANUA_BILLING_CARD_NUMBER_H
#define JANUA_BILLING_CARD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Is the whole value a card number: nothing but digits, blanks and hyphens, a
 * network's prefix and length, and a right check digit (ISO/IEC 7812-1)?
 */
extern bool card_number_is(const char *text, size_t length);

/*
 * Does a longer text hold a card number written as on the card: groups of four
 * (16 digits, or 19 with a last group of three), 4-6-5 (American Express) or
 * 4-6-4 (Diners Club), with blanks or hyphens between the groups?  A bare run
 * of digits is no alarm; ask card_number_is about the whole value as well.
 */
extern bool card_number_inside(const char *text, size_t length);

/*
 * The published test token that stands for a published test number, for an
 * errhint; NULL when the value is none of the three known test numbers.
 */
extern const char *card_number_test_token(const char *text, size_t length);

#endif /* JANUA_BILLING_CARD_NUMBER_H */
