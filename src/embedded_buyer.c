/*-------------------------------------------------------------------------
 *
 * embedded_buyer.c
 *	  SQL functions that play the buyer of an embedded provider.
 *
 * Each finds out whose customer the object is, and hands the action to the
 * provider (embedded_act); what follows comes in by webhooks.  Real buyers act
 * at real providers: there these functions are refused.
 *
 *-------------------------------------------------------------------------
 */
#include "embedded.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "refs.h"

/* ---- whose it is ---- */

/*
 * What this database bills is no subscription and no invoice of the provider:
 * the buyer acts on its payment, the newest one.
 */
QUERY(
	payment_of_ours,
	"SELECT p.id FROM billing.payment_intents AS p JOIN billing.invoices AS i ON i.id = p.invoice_id "
	"WHERE (i.subscription_id = $1 OR i.id = $1) AND i.managed_by = 'local' ORDER BY p.id DESC LIMIT 1",
	UUIDOID);

static const pg_uuid_t *
acted_on(const pg_uuid_t *id)
{
	return RUN(payment_of_ours, arg_uuid(id)) == 0 ? id : row_uuid(0, 1);
}

QUERY(find_buyer,
	  "SELECT 'subscription', customer_id, organization_id, provider, account "
	  "FROM billing.subscriptions WHERE id = $1 "
	  "UNION ALL SELECT 'payment_intent', customer_id, organization_id, provider, account "
	  "FROM billing.payment_intents WHERE id = $1 "
	  "UNION ALL SELECT 'setup_intent', customer_id, organization_id, provider, account "
	  "FROM billing.setup_intents WHERE id = $1 "
	  "UNION ALL SELECT 'checkout_session', customer_id, organization_id, provider, account "
	  "FROM billing.checkout_sessions WHERE id = $1 AND customer_id IS NOT NULL "
	  "UNION ALL SELECT 'refund', customer_id, organization_id, provider, account "
	  "FROM billing.refunds WHERE id = $1 "
	  "UNION ALL SELECT 'dispute', customer_id, organization_id, provider, account "
	  "FROM billing.disputes WHERE id = $1",
	  UUIDOID);

/* What the SQL functions say the object is, for errors, and the kinds that it may be. */
typedef struct Target
{
	const char *what;
	const char *const *types; /* NULL-terminated */
} Target;

static bool
is_one_of(const char *word, const char *const *words)
{
	for (; *words != NULL; words++)
	{
		if (strcmp(word, *words) == 0)
			return true;
	}
	return false;
}

/* The buyer, and the object as its provider knows it: by its id, or by our reference. */
static Buyer
buyer_of(const pg_uuid_t *id, const Target *target, const char **reference)
{
	const char *type;
	const char *known;
	Buyer buyer;

	if (RUN(find_buyer, arg_uuid(id)) == 0 || !is_one_of(row_text(0, 1), target->types))
		unknown_object(target->what, uuid_text(id), NULL);
	type = row_text(0, 1);
	buyer = (Buyer){row_uuid(0, 2), row_text(0, 3), row_text(0, 4), row_text(0, 5)};
	if (provider_find(buyer.provider)->embedded == NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("%s \"%s\" is not in the sandbox", target->what, uuid_text(id)),
						errdetail("Its provider is %s, where a real buyer acts.", buyer.provider)));
	known = ref_find(type, id, buyer.provider, buyer.account);
	*reference = known != NULL ? known : uuid_text(id);
	return buyer;
}

static void
act(const pg_uuid_t *id, const Target *target, const char *action, const Jsonb *arguments)
{
	const char *reference;
	const char *refused;
	Buyer buyer;

	check_given("id", id != NULL);
	buyer = buyer_of(acted_on(id), target, &reference);
	refused = embedded_act(&buyer, action, reference, arguments);
	if (refused != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_JB_STATE),
				 errmsg("nothing to do for the buyer of %s \"%s\"", target->what, uuid_text(id)),
				 errdetail("%s", refused)));
}

/* ---- cards and debits ---- */

static const char *const payable_types[] = {"payment_intent", "subscription", "setup_intent", NULL};
static const Target payable = {"payment, setup or subscription", payable_types};
static const char *const settled_types[] = {"payment_intent", "subscription", "refund", NULL};
static const Target settled = {"payment, refund or subscription", settled_types};
static const char *const outcome_words[] = {"succeeded", "failed", NULL};

SQL_FUNCTION(billing_sandbox_authenticate)
{
	pg_uuid_t *id = ARG_UUID(0);
	JsonBuilder builder;

	db_open();
	json_open(&builder);
	json_add_bool(&builder, "success", ARG_BOOL(1, true));
	act(id, &payable, "authenticate", json_close(&builder));
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_sandbox_settle)
{
	pg_uuid_t *id = ARG_UUID(0);
	char *outcome = ARG_TEXT(1);
	JsonBuilder builder;

	db_open();
	check_given("outcome", outcome != NULL);
	check_word("outcome", outcome, outcome_words);
	json_open(&builder);
	json_add_text(&builder, "outcome", outcome);
	act(id, &settled, "settle", json_close(&builder));
	db_close();
	PG_RETURN_VOID();
}

/* ---- checkout and numbers ---- */

static const char *const session_types[] = {"checkout_session", NULL};
static const Target session = {"checkout session", session_types};
static const char *const expiring_types[] = {"checkout_session", "payment_intent", "subscription",
											 NULL};
static const Target expiring = {"checkout session, payment or subscription", expiring_types};

SQL_FUNCTION(billing_sandbox_complete_checkout)
{
	pg_uuid_t *id = ARG_UUID(0);
	char *payment_method = ARG_TEXT(1);
	JsonBuilder builder;

	db_open();
	check_no_card("payment_method", payment_method);
	check_given("payment_method", payment_method != NULL);
	json_open(&builder);
	json_add_text(&builder, "payment_method", payment_method);
	act(id, &session, "complete_checkout", json_close(&builder));
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_sandbox_expire)
{
	pg_uuid_t *id = ARG_UUID(0);
	JsonBuilder builder;

	db_open();
	json_open(&builder);
	act(id, &expiring, "expire", json_close(&builder));
	db_close();
	PG_RETURN_VOID();
}

/* The sandbox keeps the numbers that it has given out where an index finds them. */
QUERY(find_number,
	  "SELECT c.id, c.organization_id, p.name, s.account FROM billing.sandbox_state AS s "
	  "JOIN billing.customers AS c ON c.id = s.customer_id CROSS JOIN billing.providers AS p "
	  "WHERE p.embedded AND s.state ? 'numbers' AND (s.state -> 'numbers') ? $1 LIMIT 1",
	  TEXTOID);

SQL_FUNCTION(billing_sandbox_pay_reference)
{
	char *reference = ARG_TEXT(0);
	int64 amount = ARG_INT(1, 0);
	const char *refused;
	Buyer buyer;
	JsonBuilder builder;

	db_open();
	check_given("reference", reference != NULL);
	if (!PG_ARGISNULL(1) && amount < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("amount must be at least 1 minor unit")));
	if (RUN(find_number, arg_text(reference)) == 0)
		unknown_object(
			"reference", reference,
			"It is the reference or CLABE in the next_action of a payment of the sandbox.");
	buyer = (Buyer){row_uuid(0, 1), row_text(0, 2), row_text(0, 3), row_text(0, 4)};
	json_open(&builder);
	if (amount > 0)
		json_add_int(&builder, "amount", amount);
	refused = embedded_act(&buyer, "pay_reference", reference, json_close(&builder));
	if (refused != NULL)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("nothing to pay for reference \"%s\"", reference),
						errdetail("%s", refused)));
	db_close();
	PG_RETURN_VOID();
}

/* ---- disputes ---- */

static const char *const payment_types[] = {"payment_intent", NULL};
static const Target payment = {"payment intent", payment_types};
static const char *const dispute_types[] = {"dispute", NULL};
static const Target dispute = {"dispute", dispute_types};
static const char *const decision_words[] = {"won", "lost", NULL};

SQL_FUNCTION(billing_sandbox_dispute)
{
	pg_uuid_t *id = ARG_UUID(0);
	int64 amount = ARG_INT(1, 0);
	char *reason = ARG_TEXT(2);
	JsonBuilder builder;

	db_open();
	check_no_card("reason", reason);
	json_open(&builder);
	if (!PG_ARGISNULL(1))
		json_add_int(&builder, "amount", amount);
	json_add_text(&builder, "reason", reason);
	act(id, &payment, "dispute", json_close(&builder));
	db_close();
	PG_RETURN_VOID();
}

SQL_FUNCTION(billing_sandbox_resolve_dispute)
{
	pg_uuid_t *id = ARG_UUID(0);
	char *outcome = ARG_TEXT(1);
	JsonBuilder builder;

	db_open();
	check_given("outcome", outcome != NULL);
	check_word("outcome", outcome, decision_words);
	json_open(&builder);
	json_add_text(&builder, "outcome", outcome);
	act(id, &dispute, "resolve_dispute", json_close(&builder));
	db_close();
	PG_RETURN_VOID();
}
