/*-------------------------------------------------------------------------
 *
 * setup_intents.c
 *	  Setup intents: the customer's consent to charge a method later.
 *
 * The method that is saved comes as a payment method of its own
 * (payment_methods.c); a setup intent only says whether it may be charged.
 *
 *-------------------------------------------------------------------------
 */
#include "payments.h"

#include "check.h"
#include "errors.h"
#include "keys.h"
#include "links.h"

static const char *const usage_words[] = {"off_session", "on_session", NULL};

typedef struct SetupIntent
{
	pg_uuid_t *id;
	pg_uuid_t *customer_id;
	char *organization_id;
	char *provider;
	char *account;
	char *status;
	pg_uuid_t *payment_method_id;
	char *usage;
	char *description;
	bytea *terms;
	Jsonb *metadata;
	char *provider_id; /* NULL: no provider knows it */
} SetupIntent;

QUERY(
	load_setup,
	"SELECT s.id, s.customer_id, s.organization_id, s.provider, s.account, s.status, s.payment_method_id, s.usage, "
	"s.description, s.terms, s.metadata, r.provider_id FROM billing.setup_intents AS s "
	"LEFT JOIN billing.provider_refs AS r ON r.object_id = s.id AND r.object_type = 'setup_intent' "
	"AND r.provider = s.provider AND r.account = s.account WHERE s.id = $1",
	UUIDOID);

static SetupIntent *
setup_load(const pg_uuid_t *id)
{
	SetupIntent *s;

	if (id == NULL || RUN(load_setup, arg_uuid(id)) == 0)
		return NULL;
	s = palloc(sizeof(SetupIntent));
	s->id = row_uuid(0, 1);
	s->customer_id = row_uuid(0, 2);
	s->organization_id = row_text(0, 3);
	s->provider = row_text(0, 4);
	s->account = row_text(0, 5);
	s->status = row_text(0, 6);
	s->payment_method_id = row_uuid(0, 7);
	s->usage = row_text(0, 8);
	s->description = row_text(0, 9);
	s->terms = row_bytes(0, 10);
	s->metadata = row_json(0, 11);
	s->provider_id = row_text(0, 12);
	return s;
}

static bool
is_over(const char *status)
{
	return strcmp(status, "succeeded") == 0 || strcmp(status, "canceled") == 0;
}

/* ---- create ---- */

typedef struct SetupTerms
{
	const char *payment_method;
	const char *usage;
	bool confirm;
	const char *return_url;
	const Jsonb *mandate;
	const char *description;
	const Jsonb *metadata;
	const char *provider;
	const char *account;
} SetupTerms;

QUERY(
	insert_setup,
	"INSERT INTO billing.setup_intents (id, customer_id, organization_id, provider, account, livemode, usage, "
	"payment_method_id, description, terms, metadata) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, '{}'))",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, UUIDOID, TEXTOID, BYTEAOID,
	JSONBOID);

static const char *const request_members[] = {"token", "confirm", "usage", NULL};

static Jsonb *
create_arguments(const SetupTerms *terms, const PaymentMethodChoice *choice)
{
	JsonBuilder b;

	json_open(&b);
	json_add_text(&b, "token", choice->token);
	json_add_bool(&b, "confirm", terms->confirm);
	json_add_text(&b, "usage", terms->usage);
	return json_close(&b);
}

/* What is sealed in the row only: the provider's module can refuse that, too. */
static Jsonb *
with_private(const SetupTerms *terms, const Jsonb *arguments)
{
	JsonBuilder b;

	json_open(&b);
	json_copy(&b, arguments, request_members);
	json_add_text(&b, "return_url", terms->return_url);
	json_add_json(&b, "mandate", terms->mandate);
	return json_close(&b);
}

static pg_uuid_t *
setup_create(const SetupTerms *terms, const Customer *customer)
{
	PaymentMethodChoice choice = payment_method_choose(customer, terms->payment_method);
	Account *account = payment_account(&(RouteTerms){.provider = terms->provider,
													 .account = terms->account,
													 .amount = NO_AMOUNT,
													 .operation = OPERATION_SETUP_INTENT_CREATE,
													 .customer = customer},
									   &choice);
	char *private = private_terms(terms->return_url, terms->mandate);
	pg_uuid_t *id = new_id();
	Jsonb *arguments;

	customer_check_mode(customer, account);
	arguments = create_arguments(terms, &choice);
	account_require(account, OPERATION_SETUP_INTENT_CREATE, with_private(terms, arguments));
	payment_require_arguments(account, OPERATION_SETUP_INTENT_CREATE, arguments);

	RUN(insert_setup, arg_uuid(id), arg_uuid(customer->id), arg_text(customer->organization_id),
		arg_text(account->provider), arg_text(account->account), arg_bool(account->livemode),
		arg_text(terms->usage), arg_uuid(choice.method_id), arg_text(terms->description),
		arg_bytes(seal_text("setup_intents.terms", id, private)), arg_json(terms->metadata));
	event_record("setup_intent.created", "setup_intent", id, customer->organization_id, NULL,
				 "pending");
	customer_ensure_at(customer, account);
	outbox_enqueue(account, OPERATION_SETUP_INTENT_CREATE, id, customer->id, arguments, NULL);
	return id;
}

SQL_FUNCTION(billing_create_setup_intent)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	SetupTerms terms = {
		.payment_method = ARG_TEXT(1),
		.usage = PG_ARGISNULL(2) ? "off_session" : ARG_TEXT(2),
		.confirm = ARG_BOOL(3, !PG_ARGISNULL(1)),
		.return_url = ARG_TEXT(4),
		.mandate = ARG_JSON(5),
		.description = ARG_TEXT(6),
		.metadata = ARG_JSON(7),
		.provider = ARG_TEXT(8),
		.account = ARG_TEXT(9),
	};
	char *key = ARG_TEXT(10);
	KeyedArgument arguments[] = {
		{"customer_id", customer_id == NULL ? NULL : uuid_text(customer_id)},
		{"payment_method", terms.payment_method},
		{"usage", terms.usage},
		{"confirm", terms.confirm ? "true" : "false"},
		{"return_url", terms.return_url},
		{"mandate", terms.mandate == NULL ? NULL : json_string(terms.mandate)},
		{"description", terms.description},
		{"metadata", terms.metadata == NULL ? NULL : json_string(terms.metadata)},
		{"provider", terms.provider},
		{"account", terms.account},
	};
	Customer *customer;
	pg_uuid_t *id;

	db_open();
	check_no_card("payment_method", terms.payment_method);
	check_no_card("return_url", terms.return_url);
	check_no_card("description", terms.description);
	check_no_card_json("mandate", terms.mandate);
	check_no_card_json("metadata", terms.metadata);
	check_given("customer_id", customer_id != NULL);
	check_given("payment_method, to confirm it,", !terms.confirm || terms.payment_method != NULL);
	check_word("usage", terms.usage, usage_words);
	check_metadata(terms.metadata);
	customer = customer_load(customer_id, true);
	if (customer == NULL || customer->deleted)
		unknown_object("customer", uuid_text(customer_id), NULL);
	id = idempotency_find("create_setup_intent", customer->organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = setup_create(&terms, customer);
		idempotency_store("create_setup_intent", customer->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- cancel ---- */

QUERY(
	end_setup,
	"UPDATE billing.setup_intents SET status = $2, error_code = coalesce($3, error_code), "
	"client_secret = CASE WHEN $2 = 'canceled' THEN NULL ELSE client_secret END, "
	"terms = CASE WHEN $2 = 'canceled' THEN NULL ELSE terms END, next_action = NULL, updated_at = now() "
	"WHERE id = $1 AND status NOT IN ('succeeded', 'canceled')",
	UUIDOID, TEXTOID, TEXTOID);

static void
end_here(const SetupIntent *s, const char *status, const char *code)
{
	if (RUN(end_setup, arg_uuid(s->id), arg_text(status), arg_text(code)) > 0)
		event_record(psprintf("setup_intent.%s", status), "setup_intent", s->id, s->organization_id,
					 s->status, status);
}

static void
cancel(const SetupIntent *s)
{
	JsonBuilder b;

	if (strcmp(s->status, "succeeded") == 0)
		ereport(ERROR, (errcode(ERRCODE_JB_STATE),
						errmsg("setup intent \"%s\" has succeeded", uuid_text(s->id)),
						errhint("Use billing.detach_payment_method() to give the method up.")));
	if (strcmp(s->status, "canceled") == 0 ||
		outbox_under_way(s->id, OPERATION_SETUP_INTENT_CANCEL))
		return;
	if (s->provider_id == NULL && outbox_withdraw_creation(s->id, OPERATION_SETUP_INTENT_CREATE))
	{
		end_here(s, "canceled", NULL);
		outbox_promote(uuid_array(&unconstify(SetupIntent *, s)->customer_id, 1));
		worker_wake_at_commit();
		return;
	}
	json_open(&b);
	outbox_enqueue(account_get(s->provider, s->account), OPERATION_SETUP_INTENT_CANCEL, s->id,
				   s->customer_id, json_close(&b), NULL);
}

SQL_FUNCTION(billing_cancel_setup_intent)
{
	pg_uuid_t *id = ARG_UUID(0);
	SetupIntent *s;

	db_open();
	check_given("setup_intent_id", id != NULL);
	s = setup_load(id);
	if (s == NULL)
		unknown_object("setup intent", uuid_text(id), NULL);
	outbox_lock_customer(s->customer_id);
	cancel(setup_load(id));
	db_close();
	PG_RETURN_VOID();
}

/* ---- to the provider ---- */

static Description
describe_create(const OutboxRow *row, const SetupIntent *s)
{
	static const char *const private[] = {"return_url", "mandate", NULL};
	char *customer = ref_find("customer", s->customer_id, row->provider, row->account);
	char *terms = unseal_text("setup_intents.terms", s->id, s->terms);
	const char *reason;
	char *method;
	JsonBuilder b;

	if (is_over(s->status) && outbox_is_fresh(row))
		return (Description){OBSOLETE, NULL, "the setup intent is over"};
	if (customer == NULL)
	{
		end_here(s, "failed", "customer_missing");
		return (Description){OBSOLETE, NULL, "the customer was never created there"};
	}
	if (!payment_method_at_provider(row, s->payment_method_id, &method) && outbox_is_fresh(row))
	{
		end_here(s, "failed", "payment_method_refused");
		return (Description){OBSOLETE, NULL, "the payment method was refused"};
	}
	json_open(&b);
	json_add_text(&b, "reference", uuid_text(s->id));
	json_add_text(&b, "organization_id", s->organization_id);
	json_add_text(&b, "customer", customer);
	json_add_text(&b, "payment_method", method);
	json_copy(&b, row->arguments, request_members);
	if (terms != NULL)
		json_copy(&b, json_parse(terms, strlen(terms), &reason), private);
	json_add_text(&b, "description", s->description);
	json_add_json(&b, "metadata", s->metadata);
	return (Description){READY, json_close(&b), NULL};
}

Description
setup_intent_describe(const OutboxRow *row)
{
	SetupIntent *s = setup_load(row->object_id);
	JsonBuilder b;

	if (s == NULL)
		elog(ERROR, "setup intent %s is gone", uuid_text(row->object_id));
	if (row->operation == OPERATION_SETUP_INTENT_CREATE)
		return describe_create(row, s);
	if (s->provider_id == NULL)
		return (Description){OBSOLETE, NULL, "the setup intent was never made there"};
	if (is_over(s->status) && outbox_is_fresh(row))
		return (Description){OBSOLETE, NULL, "the setup intent is over"};
	json_open(&b);
	json_add_text(&b, "setup_intent", s->provider_id);
	json_add_text(&b, "reference", uuid_text(s->id));
	return (Description){READY, json_close(&b), NULL};
}

QUERY(note_error,
	  "UPDATE billing.setup_intents SET error_code = $2, updated_at = now() WHERE id = $1", UUIDOID,
	  TEXTOID);

void
setup_intent_refused(const OutboxRow *row, const CallResult *result)
{
	const char *code = result->error_code != NULL ? result->error_code : result->error_type;
	SetupIntent *s = setup_load(row->object_id);

	if (s == NULL)
		return;
	if (row->operation != OPERATION_SETUP_INTENT_CREATE)
		RUN(note_error, arg_uuid(s->id), arg_text(code));
	else if (code != NULL && strcmp(code, "canceled") == 0)
		end_here(s, "canceled", NULL);
	else if (strcmp(s->status, "failed") != 0)
		end_here(s, "failed", code);
}

/* ---- from the provider ---- */

QUERY(
	adopt_setup,
	"INSERT INTO billing.setup_intents (id, customer_id, organization_id, provider, account, livemode) "
	"SELECT $1, c.id, c.organization_id, $3, $4, $5 FROM billing.customers AS c WHERE c.id = $2",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID);

/* One that a checkout or the provider's dashboard made. */
static SetupIntent *
adopt(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const char *told = snapshot->setup_intent.customer;
	pg_uuid_t *customer = ref_object("customer", told, news->provider, news->account);
	pg_uuid_t *id;

	if (customer == NULL)
	{
		*waiting_for = told != NULL ? told : snapshot->provider_id;
		return NULL;
	}
	news_lock_customer(news, customer);
	id = snapshot_object(snapshot, news);
	if (id != NULL)
		return setup_load(id);
	id = new_id();
	RUN(adopt_setup, arg_uuid(id), arg_uuid(customer), arg_text(news->provider),
		arg_text(news->account), arg_bool(news->livemode));
	return setup_load(id);
}

QUERY(
	mirror_setup,
	"UPDATE billing.setup_intents SET status = $2, provider_status = coalesce($3, provider_status), "
	"payment_method_id = CASE WHEN $9 THEN $4 ELSE payment_method_id END, "
	"client_secret = CASE WHEN $8 THEN NULL ELSE coalesce($5, client_secret) END, "
	"next_action = CASE WHEN $2 = 'requires_action' THEN coalesce($6, next_action) END, "
	"terms = CASE WHEN $8 THEN NULL ELSE terms END, "
	"error_code = CASE WHEN $2 = 'failed' THEN coalesce($7, error_code) ELSE $7 END, updated_at = now() "
	"WHERE id = $1",
	UUIDOID, TEXTOID, TEXTOID, UUIDOID, BYTEAOID, BYTEAOID, TEXTOID, BOOLOID, BOOLOID);
QUERY(keep_browser,
	  "UPDATE billing.setup_intents SET client_secret = coalesce(client_secret, $2) "
	  "WHERE id = $1 AND status NOT IN ('succeeded', 'canceled')",
	  UUIDOID, BYTEAOID);

/*
 * How far it has come, for what is told of one second (refs.h).  Nobody can be
 * asked for one, so that each state is a part of life.
 */
static int
stage_of(const char *status)
{
	static const char *const order[] = {"pending", "requires_action", "processing", "failed"};

	for (size_t i = 0; i < lengthof(order); i++)
	{
		if (strcmp(status, order[i]) == 0)
			return STAGE((int) i, 0);
	}
	return STAGE(lengthof(order), 0);
}

Applied
setup_intent_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const SetupIntentSnapshot *told = &snapshot->setup_intent;
	pg_uuid_t *id = snapshot_object(snapshot, news);
	SetupIntent *s = setup_load(id);
	const char *status;
	bytea *secret;
	bool same;

	if (s != NULL && news_lock_customer(news, s->customer_id))
		s = setup_load(id);
	if (s == NULL)
		s = adopt(snapshot, news, waiting_for);
	if (s == NULL)
		return SNAPSHOT_UNKNOWN;
	status = told->status != NULL ? told->status : s->status;
	same = strcmp(s->status, status) == 0;
	secret = seal_text("setup_intents.client_secret", s->id, told->client_secret);
	if ((is_over(s->status) && !same) || !ref_advance(snapshot, s->id, news, stage_of(status)))
	{
		RUN(keep_browser, arg_uuid(s->id), arg_bytes(secret));
		return SNAPSHOT_STALE;
	}
	RUN(mirror_setup, arg_uuid(s->id), arg_text(status), arg_text(told->provider_status),
		arg_uuid(link_find("payment_method", told->payment_method, "setup_intent", s->id, news)),
		arg_bytes(secret),
		arg_bytes(seal_text("setup_intents.next_action", s->id,
							told->next_action == NULL ? NULL : json_string(told->next_action))),
		arg_text(told->error_code), arg_bool(is_over(status)),
		arg_bool(told->payment_method != NULL));
	if (!same)
		event_record(psprintf("setup_intent.%s", status), "setup_intent", s->id, s->organization_id,
					 s->status, status);
	return SNAPSHOT_APPLIED;
}
