/*-------------------------------------------------------------------------
 *
 * sandbox_records.c
 *	  What the sandbox remembers of payments, setups, refunds, disputes and
 *	  checkout sessions, and what it tells of them.
 *
 * One table per kind says which members of its struct there are and which of
 * them are told; from it follow the object that stands in answers and events,
 * the jsonb that is kept, and the way back.  What is told but not kept (the
 * customer, what the buyer has to do) is added by the kind's own function.
 * Called by sandbox_state.c for the state as a whole, by everybody for the
 * objects.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

/* Records whose story is over, beyond these, are forgotten: the oldest first. */
#define MAX_RECORDS 200

typedef enum FieldKind
{
	FIELD_TEXT,   /* const char *, NULL is left out */
	FIELD_AMOUNT, /* int64, always there */
	FIELD_NUMBER, /* int64, 0 is left out; times too */
	FIELD_BOOL,
	FIELD_WORD,  /* int, by its name */
	FIELD_TOKEN, /* const SandboxToken *, by its name */
	FIELD_JSON   /* const Jsonb *, NULL is left out */
} FieldKind;

typedef struct Field
{
	const char *name;
	size_t offset;
	FieldKind kind;
	bool told;                /* stands in the object, too */
	const char *const *words; /* of FIELD_WORD, ended by NULL */
} Field;

#define TOLD(type, member, kind)                          \
	{                                                     \
#member, offsetof(type, member), kind, true, NULL \
	}
#define KEPT(type, member, kind)                           \
	{                                                      \
#member, offsetof(type, member), kind, false, NULL \
	}
#define NAMED(name, type, member, kind)                \
	{                                                  \
		name, offsetof(type, member), kind, true, NULL \
	}
#define WORD(type, member, words)                                \
	{                                                            \
#member, offsetof(type, member), FIELD_WORD, true, words \
	}
#define HEAD(type) \
	NAMED("id", type, record.id, FIELD_TEXT), NAMED("reference", type, record.reference, FIELD_TEXT)

static const char *const payment_words[] = {
	[SANDBOX_PAYMENT_PENDING] = "pending",
	[SANDBOX_PAYMENT_REQUIRES_ACTION] = "requires_action",
	[SANDBOX_PAYMENT_PROCESSING] = "processing",
	[SANDBOX_PAYMENT_REQUIRES_CAPTURE] = "requires_capture",
	[SANDBOX_PAYMENT_SUCCEEDED] = "succeeded",
	[SANDBOX_PAYMENT_FAILED] = "failed",
	[SANDBOX_PAYMENT_CANCELED] = "canceled",
	NULL,
};

static const Field payment_fields[] = {
	HEAD(SandboxPayment),
	TOLD(SandboxPayment, charge, FIELD_TEXT),
	NAMED("checkout_session", SandboxPayment, session, FIELD_TEXT),
	TOLD(SandboxPayment, invoice, FIELD_TEXT),
	TOLD(SandboxPayment, subscription, FIELD_TEXT),
	WORD(SandboxPayment, status, payment_words),
	TOLD(SandboxPayment, amount, FIELD_AMOUNT),
	TOLD(SandboxPayment, amount_received, FIELD_AMOUNT),
	TOLD(SandboxPayment, amount_refunded, FIELD_AMOUNT),
	TOLD(SandboxPayment, currency, FIELD_TEXT),
	NAMED("method", SandboxPayment, kind, FIELD_TEXT),
	KEPT(SandboxPayment, token, FIELD_TOKEN),
	NAMED("payment_method", SandboxPayment, method, FIELD_TEXT),
	KEPT(SandboxPayment, manual_capture, FIELD_BOOL),
	KEPT(SandboxPayment, save, FIELD_BOOL),
	KEPT(SandboxPayment, authenticated, FIELD_BOOL),
	KEPT(SandboxPayment, microdeposits, FIELD_BOOL),
	TOLD(SandboxPayment, installments, FIELD_NUMBER),
	TOLD(SandboxPayment, error_code, FIELD_TEXT),
	TOLD(SandboxPayment, decline_code, FIELD_TEXT),
	TOLD(SandboxPayment, cancellation_reason, FIELD_TEXT),
	TOLD(SandboxPayment, created, FIELD_NUMBER),
	TOLD(SandboxPayment, paid_at, FIELD_NUMBER),
	TOLD(SandboxPayment, expires_at, FIELD_NUMBER),
	KEPT(SandboxPayment, number, FIELD_TEXT),
	KEPT(SandboxPayment, pay_at, FIELD_NUMBER),
	KEPT(SandboxPayment, pay_amount, FIELD_NUMBER),
	KEPT(SandboxPayment, settle_at, FIELD_NUMBER),
	KEPT(SandboxPayment, settle_code, FIELD_TEXT),
	KEPT(SandboxPayment, dispute_at, FIELD_NUMBER),
	NAMED("fee", SandboxPayment, fee.amount, FIELD_NUMBER),
	NAMED("fee_currency", SandboxPayment, fee.currency, FIELD_TEXT),
};

static const Field setup_fields[] = {
	HEAD(SandboxSetup),
	WORD(SandboxSetup, status, payment_words),
	NAMED("checkout_session", SandboxSetup, session, FIELD_TEXT),
	NAMED("payment_method", SandboxSetup, method, FIELD_TEXT),
	KEPT(SandboxSetup, token, FIELD_TOKEN),
	TOLD(SandboxSetup, error_code, FIELD_TEXT),
	TOLD(SandboxSetup, created, FIELD_NUMBER),
};

static const char *const refund_words[] = {
	[SANDBOX_REFUND_PENDING] = "pending",
	[SANDBOX_REFUND_SUCCEEDED] = "succeeded",
	[SANDBOX_REFUND_FAILED] = "failed",
	[SANDBOX_REFUND_CANCELED] = "canceled",
	NULL,
};

static const Field refund_fields[] = {
	HEAD(SandboxRefund),
	NAMED("payment_intent", SandboxRefund, payment, FIELD_TEXT),
	TOLD(SandboxRefund, charge, FIELD_TEXT),
	WORD(SandboxRefund, status, refund_words),
	TOLD(SandboxRefund, requires_action, FIELD_BOOL),
	TOLD(SandboxRefund, amount, FIELD_AMOUNT),
	TOLD(SandboxRefund, currency, FIELD_TEXT),
	TOLD(SandboxRefund, reason, FIELD_TEXT),
	TOLD(SandboxRefund, error_code, FIELD_TEXT),
	TOLD(SandboxRefund, created, FIELD_NUMBER),
	KEPT(SandboxRefund, settle_at, FIELD_NUMBER),
	KEPT(SandboxRefund, settle_fails, FIELD_BOOL),
	NAMED("fee", SandboxRefund, fee.amount, FIELD_NUMBER),
	NAMED("fee_currency", SandboxRefund, fee.currency, FIELD_TEXT),
};

static const char *const dispute_words[] = {
	[SANDBOX_DISPUTE_WARNING_NEEDS_RESPONSE] = "warning_needs_response",
	[SANDBOX_DISPUTE_WARNING_UNDER_REVIEW] = "warning_under_review",
	[SANDBOX_DISPUTE_WARNING_CLOSED] = "warning_closed",
	[SANDBOX_DISPUTE_NEEDS_RESPONSE] = "needs_response",
	[SANDBOX_DISPUTE_UNDER_REVIEW] = "under_review",
	[SANDBOX_DISPUTE_WON] = "won",
	[SANDBOX_DISPUTE_LOST] = "lost",
	NULL,
};

static const Field dispute_fields[] = {
	HEAD(SandboxDispute),
	NAMED("payment_intent", SandboxDispute, payment, FIELD_TEXT),
	TOLD(SandboxDispute, charge, FIELD_TEXT),
	WORD(SandboxDispute, status, dispute_words),
	TOLD(SandboxDispute, amount, FIELD_AMOUNT),
	TOLD(SandboxDispute, currency, FIELD_TEXT),
	TOLD(SandboxDispute, reason, FIELD_TEXT),
	NAMED("funds_withdrawn", SandboxDispute, withdrawn, FIELD_BOOL),
	NAMED("funds_reinstated", SandboxDispute, reinstated, FIELD_BOOL),
	TOLD(SandboxDispute, evidence_submitted, FIELD_BOOL),
	TOLD(SandboxDispute, evidence_due_by, FIELD_NUMBER),
	TOLD(SandboxDispute, created, FIELD_NUMBER),
	KEPT(SandboxDispute, decide_at, FIELD_NUMBER),
	KEPT(SandboxDispute, decide_won, FIELD_BOOL),
	NAMED("fee", SandboxDispute, fee.amount, FIELD_NUMBER),
	NAMED("fee_currency", SandboxDispute, fee.currency, FIELD_TEXT),
};

static const char *const session_words[] = {
	[SANDBOX_SESSION_OPEN] = "open",
	[SANDBOX_SESSION_COMPLETE] = "complete",
	[SANDBOX_SESSION_EXPIRED] = "expired",
	NULL,
};

static const Field session_fields[] = {
	HEAD(SandboxSession),
	TOLD(SandboxSession, mode, FIELD_TEXT),
	WORD(SandboxSession, status, session_words),
	KEPT(SandboxSession, paid, FIELD_BOOL),
	NAMED("amount_total", SandboxSession, amount, FIELD_AMOUNT),
	TOLD(SandboxSession, currency, FIELD_TEXT),
	TOLD(SandboxSession, url, FIELD_TEXT),
	NAMED("payment_intent", SandboxSession, payment, FIELD_TEXT),
	TOLD(SandboxSession, subscription, FIELD_TEXT),
	NAMED("setup_intent", SandboxSession, setup, FIELD_TEXT),
	TOLD(SandboxSession, invoice, FIELD_TEXT),
	KEPT(SandboxSession, upgraded, FIELD_TEXT),
	KEPT(SandboxSession, payment_reference, FIELD_TEXT),
	KEPT(SandboxSession, subscription_reference, FIELD_TEXT),
	KEPT(SandboxSession, wish, FIELD_TEXT),
	KEPT(SandboxSession, terms, FIELD_JSON),
	TOLD(SandboxSession, created, FIELD_NUMBER),
	TOLD(SandboxSession, expires_at, FIELD_NUMBER),
};

/* One kind of record: where its list lies in the state, and its table. */
typedef struct Kind
{
	const char *list;
	size_t list_offset;
	size_t size;
	const Field *fields;
	int count;
	bool (*is_over)(const void *record);
} Kind;

/* ------------------------------------------------------------------------
 * By the tables
 * ------------------------------------------------------------------------
 */

static void
write_field(JsonBuilder *builder, const Field *field, const void *member)
{
	int64 number;

	switch (field->kind)
	{
		case FIELD_TEXT:
			json_add_text(builder, field->name, *(const char *const *) member);
			break;
		case FIELD_AMOUNT:
			json_add_int(builder, field->name, *(const int64 *) member);
			break;
		case FIELD_NUMBER:
			number = *(const int64 *) member;
			if (number != 0)
				json_add_int(builder, field->name, number);
			break;
		case FIELD_BOOL:
			json_add_bool(builder, field->name, *(const bool *) member);
			break;
		case FIELD_WORD:
			json_add_text(builder, field->name, field->words[*(const int *) member]);
			break;
		case FIELD_TOKEN:
		{
			const SandboxToken *token = *(const SandboxToken *const *) member;

			json_add_text(builder, field->name, token == NULL ? NULL : token->name);
			break;
		}
		case FIELD_JSON:
			json_add_json(builder, field->name, *(const Jsonb *const *) member);
			break;
	}
}

static void
write_fields(JsonBuilder *builder, const Field *fields, int count, const void *record, bool all)
{
	for (int i = 0; i < count; i++)
	{
		if (all || fields[i].told)
			write_field(builder, &fields[i], (const char *) record + fields[i].offset);
	}
}

static int
read_word(const Jsonb *json, const Field *field)
{
	const char *word = json_text(json, field->name);

	for (int i = 0; word != NULL && field->words[i] != NULL; i++)
	{
		if (strcmp(field->words[i], word) == 0)
			return i;
	}
	elog(ERROR, "sandbox state has no valid \"%s\"", field->name);
	return 0;
}

static const SandboxToken *
read_token(const Jsonb *json, const Field *field)
{
	const char *name = json_text(json, field->name);
	const SandboxToken *token = sandbox_token(name);

	if (name == NULL)
		return NULL;
	if (token == NULL)
		token = sandbox_reference_token(name);
	if (token == NULL)
		elog(ERROR, "sandbox state has an unknown token");
	return token;
}

static void
read_field(const Jsonb *json, const Field *field, void *member)
{
	switch (field->kind)
	{
		case FIELD_TEXT:
			*(const char **) member = json_text(json, field->name);
			break;
		case FIELD_AMOUNT:
		case FIELD_NUMBER:
			(void) json_int(json, field->name, (int64 *) member);
			break;
		case FIELD_BOOL:
			*(bool *) member = json_bool(json, field->name, false);
			break;
		case FIELD_WORD:
			*(int *) member = read_word(json, field);
			break;
		case FIELD_TOKEN:
			*(const SandboxToken **) member = read_token(json, field);
			break;
		case FIELD_JSON:
			*(const Jsonb **) member = json_part(json, field->name);
			break;
	}
}

/* ------------------------------------------------------------------------
 * Objects
 * ------------------------------------------------------------------------
 */

static void
open_object(JsonBuilder *builder, const SandboxState *state, const char *object)
{
	json_open(builder);
	json_add_text(builder, "object", object);
	json_add_bool(builder, "livemode", false);
	json_add_text(builder, "customer", state->id);
}

/* What the buyer has to do in a browser, at an address that never resolves. */
static void
add_redirect(JsonBuilder *builder, const char *id)
{
	json_open_object(builder, "next_action");
	json_add_text(builder, "type", "redirect");
	json_add_text(builder, "url", psprintf("https://sandbox.invalid/authenticate/%s", id));
	json_close_object(builder);
}

void
sandbox_add_number(JsonBuilder *builder, const char *key, const char *kind, const char *number,
				   int64 expires_at)
{
	bool transfer = strncmp(kind, "spei", 4) == 0;

	json_open_object(builder, key);
	json_add_text(builder, "type", transfer ? "spei" : "oxxo");
	json_add_text(builder, transfer ? "clabe" : "reference", number);
	if (transfer)
		json_add_text(builder, "bank", "STP");
	else
		json_add_text(builder, "barcode_url",
					  psprintf("https://sandbox.invalid/barcode/%s.png", number));
	if (expires_at != 0)
		json_add_int(builder, "expires_at", expires_at);
	json_close_object(builder);
}

static void
add_payment_action(JsonBuilder *builder, const SandboxPayment *payment)
{
	if (payment->status != SANDBOX_PAYMENT_REQUIRES_ACTION)
		return;
	if (payment->number != NULL)
		sandbox_add_number(builder, "next_action", payment->kind, payment->number,
						   payment->expires_at);
	else if (payment->microdeposits)
	{
		json_open_object(builder, "next_action");
		json_add_text(builder, "type", "verify_microdeposits");
		json_add_int(builder, "arrival", payment->created + PERIOD_SECONDS_PER_DAY);
		json_close_object(builder);
	}
	else
		add_redirect(builder, payment->record.id);
}

Jsonb *
sandbox_payment_object(const SandboxState *state, const SandboxPayment *payment)
{
	bool open = payment->status == SANDBOX_PAYMENT_PENDING ||
				payment->status == SANDBOX_PAYMENT_REQUIRES_ACTION ||
				payment->status == SANDBOX_PAYMENT_FAILED;
	JsonBuilder builder;

	open_object(&builder, state, "payment_intent");
	write_fields(&builder, payment_fields, lengthof(payment_fields), payment, false);
	json_add_int(&builder, "amount_capturable",
				 payment->status == SANDBOX_PAYMENT_REQUIRES_CAPTURE ? payment->amount : 0);
	if (open)
		json_add_text(&builder, "client_secret", psprintf("%s_secret", payment->record.id));
	add_payment_action(&builder, payment);
	return json_close(&builder);
}

Jsonb *
sandbox_setup_object(const SandboxState *state, const SandboxSetup *setup)
{
	bool open = setup->status == SANDBOX_PAYMENT_PENDING ||
				setup->status == SANDBOX_PAYMENT_REQUIRES_ACTION ||
				setup->status == SANDBOX_PAYMENT_FAILED;
	JsonBuilder builder;

	open_object(&builder, state, "setup_intent");
	write_fields(&builder, setup_fields, lengthof(setup_fields), setup, false);
	if (open)
		json_add_text(&builder, "client_secret", psprintf("%s_secret", setup->record.id));
	if (setup->status == SANDBOX_PAYMENT_REQUIRES_ACTION)
		add_redirect(&builder, setup->record.id);
	return json_close(&builder);
}

Jsonb *
sandbox_refund_object(const SandboxState *state, const SandboxRefund *refund)
{
	JsonBuilder builder;

	open_object(&builder, state, "refund");
	write_fields(&builder, refund_fields, lengthof(refund_fields), refund, false);
	return json_close(&builder);
}

Jsonb *
sandbox_dispute_object(const SandboxState *state, const SandboxDispute *dispute)
{
	JsonBuilder builder;

	open_object(&builder, state, "dispute");
	write_fields(&builder, dispute_fields, lengthof(dispute_fields), dispute, false);
	return json_close(&builder);
}

Jsonb *
sandbox_session_object(const SandboxState *state, const SandboxSession *session)
{
	bool nothing_due = session->status == SANDBOX_SESSION_COMPLETE && session->amount == 0;
	JsonBuilder builder;

	open_object(&builder, state, "checkout_session");
	write_fields(&builder, session_fields, lengthof(session_fields), session, false);
	json_add_text(&builder, "payment_status",
				  nothing_due     ? "no_payment_required"
				  : session->paid ? "paid"
								  : "unpaid");
	return json_close(&builder);
}

/* ------------------------------------------------------------------------
 * The state
 * ------------------------------------------------------------------------
 */

static bool
payment_is_over(const void *record)
{
	const SandboxPayment *payment = record;

	return payment->pay_at == 0 && payment->settle_at == 0 && payment->dispute_at == 0 &&
		   (payment->status == SANDBOX_PAYMENT_SUCCEEDED ||
			payment->status == SANDBOX_PAYMENT_CANCELED);
}

static bool
setup_is_over(const void *record)
{
	return ((const SandboxSetup *) record)->status != SANDBOX_PAYMENT_REQUIRES_ACTION;
}

static bool
refund_is_over(const void *record)
{
	const SandboxRefund *refund = record;

	return refund->status != SANDBOX_REFUND_PENDING && refund->settle_at == 0;
}

static bool
dispute_is_over(const void *record)
{
	return sandbox_dispute_is_over(record);
}

static bool
session_is_over(const void *record)
{
	return ((const SandboxSession *) record)->status != SANDBOX_SESSION_OPEN;
}

#define KIND(list, type, fields, is_over)                                                    \
	{                                                                                        \
#list, offsetof(SandboxState, list), sizeof(type), fields, lengthof(fields), is_over \
	}

static const Kind kinds[] = {
	KIND(payments, SandboxPayment, payment_fields, payment_is_over),
	KIND(setups, SandboxSetup, setup_fields, setup_is_over),
	KIND(refunds, SandboxRefund, refund_fields, refund_is_over),
	KIND(disputes, SandboxDispute, dispute_fields, dispute_is_over),
	KIND(sessions, SandboxSession, session_fields, session_is_over),
};

static List **
list_of(SandboxState *state, const Kind *kind)
{
	return (List **) ((char *) state + kind->list_offset);
}

static void
write_list(JsonBuilder *builder, const Kind *kind, const List *records)
{
	ListCell *cell;

	if (records == NIL)
		return;
	json_open_array(builder, kind->list);
	foreach (cell, records)
	{
		JsonBuilder element;

		json_open(&element);
		write_fields(&element, kind->fields, kind->count, lfirst(cell), true);
		json_append_json(builder, json_close(&element));
	}
	json_close_array(builder);
}

/* By these a payment that comes in finds its customer: see src/embedded.c. */
static void
write_numbers(JsonBuilder *builder, const SandboxState *state)
{
	bool found = false;
	ListCell *cell;

	foreach (cell, state->payments)
		found = found || ((SandboxPayment *) lfirst(cell))->number != NULL;
	foreach (cell, state->methods)
		found = found || ((SandboxMethod *) lfirst(cell))->number != NULL;
	if (!found)
		return;

	json_open_array(builder, "numbers");
	foreach (cell, state->payments)
	{
		if (((SandboxPayment *) lfirst(cell))->number != NULL)
			json_append_text(builder, ((SandboxPayment *) lfirst(cell))->number);
	}
	foreach (cell, state->methods)
	{
		if (((SandboxMethod *) lfirst(cell))->number != NULL)
			json_append_text(builder, ((SandboxMethod *) lfirst(cell))->number);
	}
	json_close_array(builder);
}

void
sandbox_records_write(JsonBuilder *builder, const SandboxState *state)
{
	for (size_t i = 0; i < lengthof(kinds); i++)
		write_list(builder, &kinds[i], *list_of((SandboxState *) state, &kinds[i]));
	write_numbers(builder, state);
}

void
sandbox_records_read(SandboxState *state, const Jsonb *json)
{
	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		const Kind *kind = &kinds[i];
		List **list = list_of(state, kind);
		int count = json_length(json, kind->list);

		*list = NIL;
		for (int j = 0; j < count; j++)
		{
			const Jsonb *element = json_part(json, psprintf("%s.%d", kind->list, j));
			char *record = palloc0(kind->size);

			for (int k = 0; k < kind->count; k++)
				read_field(element, &kind->fields[k], record + kind->fields[k].offset);
			*list = lappend(*list, record);
		}
	}
}

void
sandbox_records_forget(SandboxState *state)
{
	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		List **list = list_of(state, &kinds[i]);
		ListCell *cell;

		foreach (cell, *list)
		{
			if (list_length(*list) <= MAX_RECORDS)
				break;
			if (kinds[i].is_over(lfirst(cell)))
				*list = foreach_delete_current(*list, cell);
		}
	}
}
