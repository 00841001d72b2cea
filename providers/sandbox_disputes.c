/*-------------------------------------------------------------------------
 *
 * sandbox_disputes.c
 *	  Disputes of the sandbox: the buyer's bank wants the money back.
 *
 * Called by sandbox_clock.c for the tokens that are disputed the next day, by
 * sandbox_buyer.c for those that a test opens and decides, by sandbox_perform.c
 * for our answers to them.
 *
 * A dispute takes the money when it is opened; won, it comes back.  An inquiry
 * only asks: answered well it is closed, else it becomes a dispute.  There
 * are seven days to answer, then it is lost (an inquiry is closed).  Evidence
 * is not kept; two texts decide it the next day, as at Stripe: winning_evidence
 * and losing_evidence.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox_fees.h"

#define DAYS_TO_ANSWER 7

static void
dispute_event(Sandbox *sandbox, const char *type, const SandboxDispute *dispute)
{
	sandbox_event(sandbox, type, sandbox_dispute_object(&sandbox->state, dispute));
}

static void
reply_dispute(const Sandbox *sandbox, const SandboxDispute *dispute, SandboxReply *reply)
{
	sandbox_reply_object(reply, sandbox_dispute_object(&sandbox->state, dispute));
}

bool
sandbox_dispute_is_over(const SandboxDispute *dispute)
{
	return dispute->status == SANDBOX_DISPUTE_WON || dispute->status == SANDBOX_DISPUTE_LOST ||
		   dispute->status == SANDBOX_DISPUTE_WARNING_CLOSED;
}

static bool
is_inquiry(const SandboxDispute *dispute)
{
	return dispute->status == SANDBOX_DISPUTE_WARNING_NEEDS_RESPONSE ||
		   dispute->status == SANDBOX_DISPUTE_WARNING_UNDER_REVIEW;
}

/* ------------------------------------------------------------------------
 * Beginning and end
 * ------------------------------------------------------------------------
 */

/* An answer is awaited; without one it is decided against us when the time is over. */
static void
await_answer(const Sandbox *sandbox, SandboxDispute *dispute, SandboxDisputeStatus status)
{
	dispute->status = status;
	dispute->evidence_submitted = false;
	dispute->evidence_due_by = sandbox->now + DAYS_TO_ANSWER * PERIOD_SECONDS_PER_DAY;
	dispute->decide_at = dispute->evidence_due_by;
	dispute->decide_won = status == SANDBOX_DISPUTE_WARNING_NEEDS_RESPONSE;
}

static void
withdraw(Sandbox *sandbox, SandboxDispute *dispute)
{
	dispute->withdrawn = true;
	dispute->fee = sandbox_fee_of(sandbox, "dispute", dispute->currency);
	dispute_event(sandbox, "charge.dispute.funds_withdrawn", dispute);
}

void
sandbox_dispute_open(Sandbox *sandbox, SandboxPayment *payment, int64 amount, const char *reason,
					 bool inquiry)
{
	SandboxDispute *dispute = palloc0(sizeof(SandboxDispute));

	payment->dispute_at = 0;
	dispute->record.id = sandbox_new_id(&sandbox->state, "dp");
	dispute->payment = payment->record.id;
	dispute->charge = payment->charge;
	dispute->amount = amount;
	dispute->currency = payment->currency;
	dispute->reason = reason;
	dispute->created = sandbox->now;
	await_answer(sandbox, dispute,
				 inquiry ? SANDBOX_DISPUTE_WARNING_NEEDS_RESPONSE : SANDBOX_DISPUTE_NEEDS_RESPONSE);
	sandbox->state.disputes = lappend(sandbox->state.disputes, dispute);
	dispute_event(sandbox, "charge.dispute.created", dispute);
	if (!inquiry)
		withdraw(sandbox, dispute);
}

/* An inquiry that is lost becomes a dispute. */
void
sandbox_dispute_decide(Sandbox *sandbox, SandboxDispute *dispute, bool won)
{
	bool inquiry = is_inquiry(dispute);

	dispute->decide_at = 0;
	if (inquiry && !won)
	{
		await_answer(sandbox, dispute, SANDBOX_DISPUTE_NEEDS_RESPONSE);
		dispute_event(sandbox, "charge.dispute.updated", dispute);
		withdraw(sandbox, dispute);
		return;
	}
	dispute->status = inquiry ? SANDBOX_DISPUTE_WARNING_CLOSED
					  : won   ? SANDBOX_DISPUTE_WON
							  : SANDBOX_DISPUTE_LOST;
	dispute_event(sandbox, "charge.dispute.closed", dispute);
	if (won && dispute->withdrawn)
	{
		dispute->reinstated = true;
		dispute_event(sandbox, "charge.dispute.funds_reinstated", dispute);
	}
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

/* The dispute of a request, while it can be answered. */
static SandboxDispute *
open_dispute(const Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxDispute *dispute = sandbox_requested(sandbox->state.disputes, arguments, "dispute",
												reply);

	if (dispute == NULL || !sandbox_dispute_is_over(dispute))
		return dispute;
	sandbox_refuse(reply, 400, "dispute_already_closed");
	return NULL;
}

typedef struct Evidence
{
	bool wins;
	bool loses;
} Evidence;

static void
read_evidence(const char *key, const JsonbValue *value, void *context)
{
	Evidence *evidence = context;
	const char *text = json_scalar_text(value);

	if (sandbox_text_is(text, "winning_evidence"))
		evidence->wins = true;
	if (sandbox_text_is(text, "losing_evidence"))
		evidence->loses = true;
}

void
sandbox_dispute_evidence(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxDispute *dispute = open_dispute(sandbox, arguments, reply);
	Evidence evidence = {false, false};

	if (dispute == NULL)
		return;
	if (dispute->evidence_submitted)
	{
		sandbox_refuse(reply, 400, "dispute_evidence_submitted");
		return;
	}
	if (json_bool(arguments, "submit", false))
	{
		json_visit(json_part(arguments, "evidence"), read_evidence, &evidence);
		dispute->status = is_inquiry(dispute) ? SANDBOX_DISPUTE_WARNING_UNDER_REVIEW
											  : SANDBOX_DISPUTE_UNDER_REVIEW;
		dispute->evidence_submitted = true;
		dispute->decide_at = 0;
		if (evidence.wins || evidence.loses)
			dispute->decide_at = sandbox->now + PERIOD_SECONDS_PER_DAY;
		dispute->decide_won = evidence.wins;
	}
	dispute_event(sandbox, "charge.dispute.updated", dispute);
	reply_dispute(sandbox, dispute, reply);
}

/* Nothing is said against it: the buyer keeps the money, an inquiry is closed. */
void
sandbox_dispute_accept(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxDispute *dispute = open_dispute(sandbox, arguments, reply);

	if (dispute == NULL)
		return;
	sandbox_dispute_decide(sandbox, dispute, is_inquiry(dispute));
	reply_dispute(sandbox, dispute, reply);
}

void
sandbox_dispute_fetch(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxDispute *dispute = sandbox_requested(sandbox->state.disputes, arguments, "dispute",
												reply);

	if (dispute != NULL)
		reply_dispute(sandbox, dispute, reply);
}
