/*-------------------------------------------------------------------------
 *
 * unsigned_webhooks.c
 *	  Webhooks that nobody vouches for, where an account takes them.
 *
 * Some accounts are sent webhooks without a signature.  Where the account says
 * so (Provider.accepts_unsigned), one is a hint and nothing more: of all that
 * it says the type and the id of its object are used, and the provider is
 * asked for that object if it is one of ours.
 *
 * Anybody can send such a thing, as often as he likes.  So nothing of it is
 * kept: the inbox gets one row for each type and object of ours, and one for
 * everything else; and no second question is queued behind one that was not
 * sent yet.
 *
 *-------------------------------------------------------------------------
 */
#include "webhooks.h"

#include "accounts.h"
#include "json.h"
#include "subjects.h"

/* Types of events are short; a longer one is none. */
#define TYPE_MAX 100

#define ASKED "not signed: the provider is asked for its object"

typedef struct Hint
{
	const char *type;
	EventReading reading;
	EventIdentity identity;
} Hint;

/* False: what was sent is no event, and the missing signature is all there is to say. */
static bool
read_hint(const Provider *module, const char *payload, size_t length, const WebhookHeaders *headers,
		  Hint *hint)
{
	const char *reason = NULL;
	Jsonb *json = json_parse(payload, length, &reason);

	if (json == NULL || !module->identify_event(json, headers, &hint->identity) ||
		strlen(hint->identity.type) > TYPE_MAX || hint->identity.sub_account != NULL)
		return false;
	hint->type = hint->identity.type;
	module->read_event(json, &hint->reading);
	return true;
}

QUERY(accounts_of,
	  "SELECT " ACCOUNT_COLUMNS " FROM billing.provider_accounts AS a "
	  "JOIN billing.providers AS p ON p.name = a.provider "
	  "WHERE a.provider = $1 AND ($2 IS NULL OR a.account = $2) AND " ACCOUNT_CONFIGURED
	  " ORDER BY a.account",
	  TEXTOID, TEXTOID);

/* Those of the mode, if one is told, that take what is not signed. List of Account *. */
static List *
accounts_without_signature(const char *provider, const char *account)
{
	List *found = NIL;
	int64 count = RUN(accounts_of, arg_text(provider), arg_text(account));

	for (int64 i = 0; i < count; i++)
	{
		Account *one = account_read(SPI_tuptable, i);

		if (one->module->accepts_unsigned != NULL && one->module->accepts_unsigned(one->options))
			found = lappend(found, one);
	}
	return found;
}

static bool
is_of_mode(const Hint *hint, const Account *account)
{
	return !hint->identity.has_livemode || hint->identity.livemode == account->livemode;
}

/* The account that knows the object, and our id of it; NULL when none does. */
static Account *
account_of_object(const Hint *hint, const List *accounts, pg_uuid_t **id)
{
	const ProviderSnapshot *subject = hint->reading.subject;
	ListCell *cell;

	if (subject == NULL)
		return NULL;
	foreach (cell, accounts)
	{
		Account *account = lfirst(cell);
		News news = {.provider = account->provider,
					 .account = account->account,
					 .livemode = account->livemode,
					 .event_id = ""};

		if (!is_of_mode(hint, account))
			continue;
		*id = doubt_object(subject, &news);
		if (*id != NULL && refresh_possible(object_type_name(subject->type)))
			return account;
	}
	return NULL;
}

QUERY(
	note_hint,
	"INSERT INTO billing.webhook_events AS e (id, provider, account, event_id, livemode, type, state, reason, attempts, "
	"handled_at, applied_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, clock_timestamp(), "
	"CASE WHEN $7 = 'applied' THEN clock_timestamp() END) "
	"ON CONFLICT (provider, account, event_id) DO UPDATE SET type = excluded.type, state = excluded.state, "
	"reason = excluded.reason, attempts = e.attempts + 1, handled_at = excluded.handled_at, "
	"applied_at = coalesce(e.applied_at, excluded.applied_at)",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID);

static void
note(const Account *account, const Hint *hint, const char *event_id, const char *state,
	 const char *reason)
{
	RUN(note_hint, arg_uuid(new_id()), arg_text(account->provider), arg_text(account->account),
		arg_text(event_id), arg_bool(account->livemode), arg_text(hint->type), arg_text(state),
		arg_text(reason));
}

static void
ask(const Account *account, const Hint *hint, const pg_uuid_t *id)
{
	const char *object_type = object_type_name(hint->reading.subject->type);

	note(account, hint, psprintf("unsigned:%s:%s", hint->type, uuid_text(id)), "applied", ASKED);
	refresh_doubtful(object_type, id, account->provider, account->account);
}

static const char *
reason_to_ignore(const Hint *hint)
{
	if (hint->reading.subject == NULL && hint->reading.ignored != NULL)
		return psprintf("not signed; %s", hint->reading.ignored);
	if (hint->reading.subject == NULL ||
		!refresh_possible(object_type_name(hint->reading.subject->type)))
		return "not signed, and about nothing that the provider can be asked for";
	return "not signed, and about an object that is not known here";
}

bool
webhook_take_unsigned(const char *provider, const char *payload, size_t length,
					  const WebhookHeaders *headers, const char *account, WebhookResult *result)
{
	List *accounts = accounts_without_signature(provider, account);
	Hint hint = {0};
	pg_uuid_t *id = NULL;
	Account *knows;

	if (accounts == NIL ||
		!read_hint(((Account *) linitial(accounts))->module, payload, length, headers, &hint))
		return false;
	knows = account_of_object(&hint, accounts, &id);
	if (knows != NULL)
		ask(knows, &hint, id);
	else
		note(linitial(accounts), &hint, "unsigned:ignored", "ignored", reason_to_ignore(&hint));
	/* whoever sent it does not learn which objects there are: the inbox says what became of it */
	*result = (WebhookResult){"unsigned", hint.type, "ignored"};
	return true;
}
