/*-------------------------------------------------------------------------
 *
 * sandbox_fees.h
 *	  What the sandbox keeps of payments, refunds and disputes.
 *
 * Nothing is kept, and nothing told, unless the account has the option "fees":
 * {"basis_points": 290, "fixed": 30, "refund": 0, "dispute": 1500, "currency":
 * "MXN"}.  Of a payment it is so many hundredths of a percent and so many minor
 * units, of a refund and a dispute so many minor units; below 0 they are given
 * back.  What is left out is not told.  currency: as of the payment, else this.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_SANDBOX_FEES_H
#define JANUA_SANDBOX_FEES_H

#include "sandbox.h"

/* Why the options of an account cannot be right; NULL: they can. */
extern const char *sandbox_check_options(const Jsonb *options);

/* Of a payment that has been received, so far. */
extern void sandbox_fee_of_payment(const Sandbox *sandbox, SandboxPayment *payment);

/* Of what happens to a payment: "refund", "dispute". */
extern FeeSnapshot sandbox_fee_of(const Sandbox *sandbox, const char *what, const char *currency);

#endif /* JANUA_SANDBOX_FEES_H */
