/*-------------------------------------------------------------------------
 *
 * collection.h
 *	  What the files of the collection of our own invoices share.
 *
 *	  collection.c        the duty: what is due is charged or reminded of
 *	  collection_calls.c  what callers ask for
 *	  collection_money.c  which payment paid which invoice
 *	  dunning.c           what follows when an attempt fails
 *	  invoice_checkout.c  a page of the provider on which one is paid
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_COLLECTION_H
#define JANUA_COLLECTION_H

#include "engine.h"

typedef struct OwnInvoice
{
	pg_uuid_t *id;
	pg_uuid_t *customer_id;
	char *organization_id;
	pg_uuid_t *subscription_id; /* NULL: of a customer alone */
	char *provider;
	char *account;
	char *status;
	char *number; /* NULL: a statement, whose provider is the seller */
	char *title;  /* what the customer knows it by: its number, of a statement its first line */
	char *currency;
	int64 amount_paid;
	int64 remaining;
	char *collection_method;
	char *reason;
	char *collect_by; /* NULL: a method is charged */
	TimestampTz issued_at;
	TimestampTz due_at; /* 0: none */
	TimestampTz period_start;
	TimestampTz next_attempt_at;    /* 0: nothing is planned */
	char *subscription_status;      /* NULL: it has none */
	pg_uuid_t *subscription_method; /* NULL: the customer's default one */
	Jsonb *metadata; /* of the subscription: its payments carry it; NULL: it has none */
	bool overdue;    /* its due date has been dealt with */
	TimestampTz now; /* by the organisation's clock */
} OwnInvoice;

/* NULL unless it is an invoice of ours. */
extern OwnInvoice *own_invoice_load(const pg_uuid_t *id);

/* collection.c */

/* A row that is due now; returns its id. cause: as in dunning_attempts. */
extern pg_uuid_t *attempt_add(const OwnInvoice *invoice, const char *cause);

/*
 * Asks for the payment of an invoice: by the method that is named, else by
 * reference where that is wished, else by what there is.  Raises what payments
 * raise, 23502 where there is nothing to charge.
 */
extern void attempt_start(const OwnInvoice *invoice, const pg_uuid_t *attempt_id,
						  const pg_uuid_t *payment_method_id, const char *method);

/* Sets next_attempt_at by what is planned. */
extern void collection_schedule(const OwnInvoice *invoice);

/* Nothing of it is on its way any more: what is planned next, or left of one that was paid in part. */
extern void collection_go_on(const pg_uuid_t *invoice_id);

extern bool send_invoices_only(const OwnInvoice *invoice);

/* collection_money.c */

/* Under the lock of its customer; JB008 unless it can be paid, NULL unless it is ours. */
extern OwnInvoice *own_invoice_to_pay(const pg_uuid_t *id);

/* The same where only one of ours will do: JB005, and JB004 with what to do about a provider's. */
extern OwnInvoice *own_invoice_only(const pg_uuid_t *id, const char *detail, const char *hint);

/* Money for it has arrived or gone, or less of it is due: amount_paid is what it has now.  The caller holds the customer. */
extern void invoice_payment_changed(const pg_uuid_t *invoice_id);

/*
 * State or money of a payment has changed: books what it means for an invoice
 * of ours.  The caller holds the customer.
 */
extern void collection_payment_changed(const pg_uuid_t *payment_intent_id);

/* The same for who must not do it himself: the duty finds what has become of it. */
extern void collection_look_again(const pg_uuid_t *payment_intent_id);

/* A charge of it that was not sent yet is not sent any more. */
extern void invoice_withdraw_charges(const pg_uuid_t *invoice_id);

/*
 * Nothing is to be paid any more: charges that were not sent are withdrawn;
 * references and the like that wait for the
 * customer are called off where the provider can.  Who pays all the same has a
 * balance.
 */
extern void invoice_call_off_payments(const pg_uuid_t *invoice_id);

/*
 * invoice_checkout.c: where the settings want it, one that is sent gets a page,
 * unless there is one or it is being paid.
 */
extern void invoice_page_by_itself(const OwnInvoice *invoice);

/* The same whether or not the settings want it; they have to say where the customer comes back to. */
extern void invoice_page_offer(const OwnInvoice *invoice);

/* dunning.c */

/* An attempt failed: the plan, the subscription, the end. code: why, as providers tell it. */
extern void dunning_failed(const OwnInvoice *invoice, const pg_uuid_t *attempt_id,
						   const char *decline_code, const char *error_code);

/* What has come of the attempt that is running, if that is known; true when it is over. */
extern bool dunning_catch_up(const OwnInvoice *invoice);

/* A planned attempt is not made; the last one of the schedule is the end. */
extern void dunning_skip(const OwnInvoice *invoice, const pg_uuid_t *attempt_id, const char *why);

/*
 * A planned attempt is not made, and that is nobody's failure: what is left of
 * an invoice that was paid in part is too little to be charged.  A person decides.
 */
extern void dunning_leave(const OwnInvoice *invoice, const pg_uuid_t *attempt_id, const char *why);

/* Why the attempt must not be made by this method (NULL: by reference); NULL when it may. */
extern const char *dunning_forbids(const OwnInvoice *invoice, const pg_uuid_t *attempt_id,
								   const pg_uuid_t *method_id, const char *type);

/* Rows of the plan that are late move all that follow, before the next one is done. */
extern void dunning_keep_distance(const OwnInvoice *invoice);

/* A planned reminder of one that is charged and cannot be: the customer is to pay on a page. */
extern void dunning_ask(const OwnInvoice *invoice, const pg_uuid_t *attempt_id);

/* Reminds of an invoice that is sent. */
extern void dunning_remind(const OwnInvoice *invoice);

/* collection_calls.c: each false when the invoice (the subscription) is not ours to collect. */
extern bool own_invoice_pay(const pg_uuid_t *id, const pg_uuid_t *payment_method_id,
							const char *method);
extern bool own_invoice_send(const pg_uuid_t *id);
extern bool own_subscription_retry(const pg_uuid_t *id);

#endif /* JANUA_COLLECTION_H */
