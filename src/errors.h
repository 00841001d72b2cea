/*-------------------------------------------------------------------------
 *
 * errors.h
 *	  SQLSTATE class JB: what billing refuses, one meaning each.
 *
 * Bad arguments use the standard codes (22023, 23502, 23505, 23514); these
 * are for refusals that only billing knows.  The list is public: it stands in
 * the README, and applications test for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_ERRORS_H
#define JANUA_ERRORS_H

#define ERRCODE_JB_SIGNATURE         MAKE_SQLSTATE('J', 'B', '0', '0', '1')
#define ERRCODE_JB_WEBHOOK_TIME      MAKE_SQLSTATE('J', 'B', '0', '0', '2')
#define ERRCODE_JB_QUOTA_EXCEEDED    MAKE_SQLSTATE('J', 'B', '0', '0', '3')
#define ERRCODE_JB_NOT_SUPPORTED     MAKE_SQLSTATE('J', 'B', '0', '0', '4')
#define ERRCODE_JB_UNKNOWN_OBJECT    MAKE_SQLSTATE('J', 'B', '0', '0', '5')
#define ERRCODE_JB_NOT_CONFIGURED    MAKE_SQLSTATE('J', 'B', '0', '0', '6')
#define ERRCODE_JB_IDEMPOTENCY       MAKE_SQLSTATE('J', 'B', '0', '0', '7')
#define ERRCODE_JB_STATE             MAKE_SQLSTATE('J', 'B', '0', '0', '8')
#define ERRCODE_JB_CARD_NUMBER       MAKE_SQLSTATE('J', 'B', '0', '0', '9')
#define ERRCODE_JB_DUPLICATE_PAYMENT MAKE_SQLSTATE('J', 'B', '0', '1', '0')
#define ERRCODE_JB_MODE_MIXED        MAKE_SQLSTATE('J', 'B', '0', '1', '1')
/* No key file, one that cannot be read, or a value that no key here opens. */
#define ERRCODE_JB_KEY MAKE_SQLSTATE('J', 'B', '0', '1', '2')
/* A webhook body that is larger than max_webhook_size. */
#define ERRCODE_JB_TOO_LARGE MAKE_SQLSTATE('J', 'B', '0', '1', '3')

/* A country that nothing may be sold to: billing.countries.sanctioned. */
#define ERRCODE_JB_COUNTRY_REFUSED MAKE_SQLSTATE('J', 'B', '0', '1', '4')

/*
 * What a table may keep of an ERROR: its SQLSTATE and what that means, but not
 * its message, which may quote a value.  errors.c.
 */
extern const char *error_in_words(const char *sqlstate);

#endif /* JANUA_ERRORS_H */
