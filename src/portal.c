/*-------------------------------------------------------------------------
 *
 * portal.c
 *	  Portal sessions: pages of the provider on which a customer looks after
 *	  payment methods and subscriptions.
 *
 * Such a page lives for an hour or so and nothing comes of it that its own
 * webhooks do not tell: the row only keeps its address until then.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "subscriptions.h"

/* Where the provider does not tell how long the page lives. */
#define LIFE_SECONDS 3600

typedef struct PortalTerms
{
	const char *return_url;
	const pg_uuid_t *subscription_id;
	const char *locale;
	const Jsonb *metadata;
} PortalTerms;

/* ---- the call ---- */

static Jsonb *
create_arguments(const PortalTerms *terms)
{
	JsonBuilder b;

	json_open(&b);
	if (terms->subscription_id != NULL)
	{
		/* ours; it stands for the provider's until the request is sent */
		json_add_text(&b, "subscription_id", uuid_text(terms->subscription_id));
		json_add_text(&b, "subscription", uuid_text(terms->subscription_id));
	}
	json_add_text(&b, "return_url", terms->return_url);
	json_add_text(&b, "locale", terms->locale);
	return json_close(&b);
}

QUERY(
	live_at_account,
	"SELECT s.id FROM billing.subscriptions AS s JOIN billing.provider_refs AS r ON r.object_id = s.id "
	"AND r.object_type = 'subscription' AND r.provider = s.provider AND r.account = s.account "
	"WHERE s.customer_id = $1 AND s.provider = $2 AND s.account = $3 "
	"AND s.status NOT IN ('canceled', 'incomplete_expired') LIMIT 2",
	UUIDOID, TEXTOID, TEXTOID);

static const char *
missing_argument(const PortalTerms *terms, const Account *account)
{
	return account_missing(account, OPERATION_PORTAL_SESSION_CREATE, create_arguments(terms));
}

/* A provider whose portal is about one subscription gets the only one there is. */
static void
add_what_is_missing(PortalTerms *terms, const Customer *customer, const Account *account)
{
	const char *missing = missing_argument(terms, account);

	if (missing == NULL)
		return;
	if (terms->subscription_id == NULL && strcmp(missing, "subscription") == 0 &&
		RUN(live_at_account, arg_uuid(customer->id), arg_text(account->provider),
			arg_text(account->account)) == 1)
		terms->subscription_id = row_uuid(0, 1);
	missing = missing_argument(terms, account);
	if (missing == NULL)
		return;
	if (strcmp(missing, "subscription") == 0)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("the portal of %s is about one subscription", account->provider),
						errhint("Pass subscription_id; billing.list_subscriptions() lists them.")));
	ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("%s requires %s", account->provider, missing),
					errhint("Pass %s, or name another provider.", missing)));
}

static void
check_subscription(const pg_uuid_t *id, const Customer *customer, const Account *account)
{
	const Subscription *s = id == NULL ? NULL : subscription_load(id);

	if (id == NULL)
		return;
	if (s == NULL || !uuid_equal(s->customer_id, customer->id))
		unknown_object("subscription", uuid_text(id),
					   "billing.list_subscriptions() lists those of the organization.");
	if (strcmp(s->provider, account->provider) != 0 || strcmp(s->account, account->account) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("subscription \"%s\" is at account \"%s\" of %s", uuid_text(id),
							   s->account, s->provider),
						errhint("Pass provider => '%s' and account => '%s' with it.", s->provider,
								s->account)));
}

QUERY(
	insert_portal,
	"INSERT INTO billing.portal_sessions (id, customer_id, organization_id, provider, account, livemode, "
	"subscription_id, return_url, locale, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, '{}'))",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, UUIDOID, TEXTOID, TEXTOID, JSONBOID);

static pg_uuid_t *
portal_create(PortalTerms *terms, const Customer *customer, const Account *account)
{
	pg_uuid_t *id = new_id();

	check_subscription(terms->subscription_id, customer, account);
	account_require(account, OPERATION_PORTAL_SESSION_CREATE, create_arguments(terms));
	add_what_is_missing(terms, customer, account);
	customer_ensure_at(customer, account);
	RUN(insert_portal, arg_uuid(id), arg_uuid(customer->id), arg_text(customer->organization_id),
		arg_text(account->provider), arg_text(account->account), arg_bool(account->livemode),
		arg_uuid(terms->subscription_id), arg_text(terms->return_url), arg_text(terms->locale),
		arg_json(terms->metadata));
	(void) outbox_enqueue(account, OPERATION_PORTAL_SESSION_CREATE, id, customer->id,
						  create_arguments(terms), NULL);
	return id;
}

SQL_FUNCTION(billing_create_portal_session)
{
	pg_uuid_t *customer_id = ARG_UUID(0);
	PortalTerms terms = {
		.return_url = ARG_TEXT(1),
		.subscription_id = ARG_UUID(2),
		.locale = ARG_TEXT(3),
		.metadata = ARG_JSON(4),
	};
	char *provider = ARG_TEXT(5);
	char *account_name = ARG_TEXT(6);
	char *key = ARG_TEXT(7);
	KeyedArgument arguments[] = {
		{"customer_id", customer_id == NULL ? NULL : uuid_text(customer_id)},
		{"return_url", terms.return_url},
		{"subscription_id",
		 terms.subscription_id == NULL ? NULL : uuid_text(terms.subscription_id)},
		{"locale", terms.locale},
		{"metadata", terms.metadata == NULL ? NULL : json_string(terms.metadata)},
		{"provider", provider},
		{"account", account_name},
	};
	Customer *customer;
	pg_uuid_t *id;

	check_no_card_json("metadata", terms.metadata);
	db_open();
	check_given("customer_id", customer_id != NULL);
	check_url("return_url", terms.return_url);
	check_metadata(terms.metadata);
	customer = customer_load(customer_id, true);
	if (customer == NULL || customer->deleted)
		unknown_object("customer", uuid_text(customer_id), NULL);
	id = idempotency_find("create_portal_session", customer->organization_id, key, arguments,
						  lengthof(arguments));
	if (id == NULL)
	{
		id = portal_create(&terms, customer,
						   account_get(provider != NULL ? provider : customer->provider,
									   account_name != NULL ? account_name : customer->account));
		idempotency_store("create_portal_session", customer->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- to the provider ---- */

QUERY(
	load_portal,
	"SELECT customer_id, organization_id, status, subscription_id, return_url, locale FROM billing.portal_sessions "
	"WHERE id = $1",
	UUIDOID);
QUERY(
	fail_portal,
	"UPDATE billing.portal_sessions SET status = 'failed', error_code = $2 WHERE id = $1 AND status = 'pending'",
	UUIDOID, TEXTOID);

static Description
not_to_be(const OutboxRow *row, const char *code, const char *reason)
{
	RUN(fail_portal, arg_uuid(row->object_id), arg_text(code));
	return (Description){OBSOLETE, NULL, reason};
}

Description
portal_describe(const OutboxRow *row)
{
	char *customer = ref_find("customer", row->ordering_key, row->provider, row->account);
	char *subscription = NULL;
	Rows portal;
	JsonBuilder b;

	if (RUN(load_portal, arg_uuid(row->object_id)) == 0)
		return (Description){OBSOLETE, NULL, "it was removed long ago"};
	portal = rows_keep();
	if (strcmp(rows_text(portal, 0, 3), "pending") != 0)
		return (Description){OBSOLETE, NULL, "it is not wanted any more"};
	if (customer == NULL)
		return not_to_be(row, "customer_missing", "the customer was never created there");
	if (!rows_null(portal, 0, 4))
	{
		subscription = ref_find("subscription", rows_uuid(portal, 0, 4), row->provider,
								row->account);
		if (subscription == NULL)
			return not_to_be(row, "subscription_missing", "the subscription was never made there");
	}
	json_open(&b);
	json_add_text(&b, "reference", uuid_text(row->object_id));
	json_add_text(&b, "organization_id", rows_text(portal, 0, 2));
	json_add_text(&b, "customer", customer);
	json_add_text(&b, "subscription", subscription);
	json_add_text(&b, "return_url", rows_text(portal, 0, 5));
	json_add_text(&b, "locale", rows_text(portal, 0, 6));
	return (Description){READY, json_close(&b), NULL};
}

void
portal_refused(const OutboxRow *row, const CallResult *result)
{
	const char *code = result->error_code != NULL ? result->error_code : result->error_type;

	RUN(fail_portal, arg_uuid(row->object_id), arg_text(code != NULL ? code : "refused"));
}

/* ---- from the provider ---- */

QUERY(open_portal,
	  "UPDATE billing.portal_sessions SET status = 'open', url = $2, token = $3, expires_at = $4 "
	  "WHERE id = $1 AND status = 'pending'",
	  UUIDOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID);

/*
 * Only the answer to our own call tells of one, so there is no news to put
 * into an order, and its id is of no use to anybody.
 */
Applied
portal_apply(const ProviderSnapshot *snapshot, const News *news, const char **waiting_for)
{
	const PortalSessionSnapshot *told = &snapshot->portal_session;
	const pg_uuid_t *id = news->own_type == BILLING_PORTAL_SESSION ? news->own_id : NULL;
	TimestampTz expires_at = told->expires_at;

	if (id == NULL || told->url == NULL || RUN(load_portal, arg_uuid(id)) == 0)
		return SNAPSHOT_STALE;
	if (expires_at == 0)
		expires_at = clock_now(row_text(0, 2)) + LIFE_SECONDS * USECS_PER_SEC;
	RUN(open_portal, arg_uuid(id), arg_bytes(seal_text("portal_sessions.url", id, told->url)),
		arg_bytes(seal_text("portal_sessions.token", id, told->token)), arg_time(expires_at));
	return SNAPSHOT_APPLIED;
}
