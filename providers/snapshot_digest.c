/*-------------------------------------------------------------------------
 *
 * snapshot_digest.c
 *	  Do two snapshots of an object tell the same?
 *
 * Several webhooks often tell of one change (an invoice is paid: updated,
 * paid, payment_succeeded), all of one second.  Only when they differ in what
 * our row shows is it a question which one came last.
 *
 *-------------------------------------------------------------------------
 */
#include "snapshot.h"

#include "common/hashfn.h"

typedef enum MemberKind
{
	MEMBER_TEXT,
	MEMBER_INT,
	MEMBER_BIGINT, /* amounts and times too */
	MEMBER_BOOL
} MemberKind;

typedef struct Member
{
	size_t offset;
	MemberKind kind;
} Member;

#define TEXT(member)                                    \
	{                                                   \
		offsetof(ProviderSnapshot, member), MEMBER_TEXT \
	}
#define INT(member)                                    \
	{                                                  \
		offsetof(ProviderSnapshot, member), MEMBER_INT \
	}
#define BIG(member)                                       \
	{                                                     \
		offsetof(ProviderSnapshot, member), MEMBER_BIGINT \
	}
#define BOOL(member)                                    \
	{                                                   \
		offsetof(ProviderSnapshot, member), MEMBER_BOOL \
	}

/*
 * What makes the state of a kind.  Not in it: what only an answer to our own
 * call tells (secrets, addresses of pages), ids that lead to other objects and
 * are told in full or not at all, and what is counted elsewhere.
 */
static const Member customer_members[] = {
	TEXT(customer.email),
	TEXT(customer.name),
	TEXT(customer.phone),
	TEXT(customer.default_payment_method),
};
static const Member payment_method_members[] = {
	TEXT(payment_method.customer),   TEXT(payment_method.type),     TEXT(payment_method.brand),
	TEXT(payment_method.last4),      INT(payment_method.exp_month), INT(payment_method.exp_year),
	BOOL(payment_method.is_default),
};
static const Member subscription_members[] = {
	TEXT(subscription.price),
	TEXT(subscription.status),
	TEXT(subscription.provider_status),
	BIG(subscription.quantity),
	BIG(subscription.current_period_start),
	BIG(subscription.current_period_end),
	BIG(subscription.trial_start),
	BIG(subscription.trial_end),
	BOOL(subscription.cancel_at_period_end),
	BIG(subscription.cancel_at),
	BIG(subscription.canceled_at),
	BIG(subscription.ended_at),
	BOOL(subscription.pause_at_period_end),
	BIG(subscription.resumes_at),
	TEXT(subscription.pending_price),
	TEXT(subscription.payment_method),
};
static const Member invoice_members[] = {
	TEXT(invoice.number),       TEXT(invoice.status),          BIG(invoice.total),
	BIG(invoice.tax),           BIG(invoice.amount_due),       BIG(invoice.amount_paid),
	INT(invoice.attempt_count), BIG(invoice.amount_remaining), BIG(invoice.period_start),
	BIG(invoice.period_end),    BIG(invoice.due_at),           BIG(invoice.next_attempt_at),
};
static const Member setup_intent_members[] = {
	TEXT(setup_intent.status),
	TEXT(setup_intent.provider_status),
	TEXT(setup_intent.payment_method),
	TEXT(setup_intent.error_code),
};
static const Member payment_intent_members[] = {
	TEXT(payment_intent.status),         TEXT(payment_intent.provider_status),
	BIG(payment_intent.amount),          BIG(payment_intent.amount_capturable),
	BIG(payment_intent.amount_received), TEXT(payment_intent.method),
	TEXT(payment_intent.payment_method), BIG(payment_intent.expires_at),
	INT(payment_intent.installments),    TEXT(payment_intent.error_code),
	TEXT(payment_intent.decline_code),   TEXT(payment_intent.cancellation_reason),
};
static const Member refund_members[] = {
	TEXT(refund.status), BOOL(refund.requires_action), BIG(refund.amount),
	TEXT(refund.reason), TEXT(refund.error_code),
};
static const Member dispute_members[] = {
	TEXT(dispute.status), TEXT(dispute.provider_status),    BIG(dispute.amount),
	TEXT(dispute.reason), BOOL(dispute.evidence_submitted), BIG(dispute.evidence_due_by),
};
static const Member checkout_session_members[] = {
	TEXT(checkout_session.status),         TEXT(checkout_session.provider_status),
	TEXT(checkout_session.payment_status), TEXT(checkout_session.payment_intent),
	TEXT(checkout_session.subscription),   TEXT(checkout_session.setup_intent),
	BIG(checkout_session.amount_total),    BIG(checkout_session.expires_at),
};

/* The other kinds have no state that could be told in two ways. */
static const struct
{
	const Member *members;
	size_t count;
} kinds[BILLING_OBJECT_COUNT] = {
#define KIND(list)           \
	{                        \
		list, lengthof(list) \
	}
	[BILLING_CUSTOMER] = KIND(customer_members),
	[BILLING_PAYMENT_METHOD] = KIND(payment_method_members),
	[BILLING_SUBSCRIPTION] = KIND(subscription_members),
	[BILLING_INVOICE] = KIND(invoice_members),
	[BILLING_SETUP_INTENT] = KIND(setup_intent_members),
	[BILLING_PAYMENT_INTENT] = KIND(payment_intent_members),
	[BILLING_REFUND] = KIND(refund_members),
	[BILLING_DISPUTE] = KIND(dispute_members),
	[BILLING_CHECKOUT_SESSION] = KIND(checkout_session_members),
#undef KIND
};

static uint64
add_member(uint64 digest, const ProviderSnapshot *snapshot, const Member *member)
{
	const char *at = (const char *) snapshot + member->offset;
	const char *text;

	switch (member->kind)
	{
		case MEMBER_TEXT:
			text = *(const char *const *) at;
			/* absent is not the same as empty */
			return text == NULL ? hash_combine64(digest, 0)
								: hash_bytes_extended((const unsigned char *) text,
													  (int) strlen(text), digest + 1);
		case MEMBER_INT:
			return hash_bytes_extended((const unsigned char *) at, sizeof(int), digest);
		case MEMBER_BIGINT:
			return hash_bytes_extended((const unsigned char *) at, sizeof(int64), digest);
		case MEMBER_BOOL:
			return hash_bytes_extended((const unsigned char *) at, sizeof(bool), digest);
	}
	return digest;
}

int64
snapshot_digest(const ProviderSnapshot *snapshot)
{
	uint64 digest = snapshot->deleted ? 1 : 0;

	for (size_t i = 0; i < kinds[snapshot->type].count; i++)
		digest = add_member(digest, snapshot, &kinds[snapshot->type].members[i]);
	return (int64) digest;
}
