/*-------------------------------------------------------------------------
 *
 * links.c
 *	  From one object to another that may be told of later.
 *
 * News come in any order: a subscription names its card before the card is
 * told.  Nothing waits for that, as many a card is never told (a buyer's who
 * did not save it); the link is noted and made when its object appears.
 *
 *-------------------------------------------------------------------------
 */
#include "links.h"

QUERY(method_of_subscription,
	  "UPDATE billing.subscriptions SET payment_method_id = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, UUIDOID);
QUERY(method_of_setup,
	  "UPDATE billing.setup_intents SET payment_method_id = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, UUIDOID);
QUERY(method_of_payment,
	  "UPDATE billing.payment_intents SET payment_method_id = $2, updated_at = now() WHERE id = $1",
	  UUIDOID, UUIDOID);
QUERY(
	invoice_of_payment,
	"UPDATE billing.payment_intents SET invoice_id = $2, "
	"subscription_id = coalesce(subscription_id, (SELECT i.subscription_id FROM billing.invoices AS i WHERE i.id = $2)), "
	"updated_at = now() WHERE id = $1",
	UUIDOID, UUIDOID);
QUERY(
	payment_of_invoice,
	"UPDATE billing.payment_intents SET invoice_id = $1, "
	"subscription_id = coalesce(subscription_id, (SELECT i.subscription_id FROM billing.invoices AS i WHERE i.id = $1)), "
	"updated_at = now() WHERE id = $2 AND invoice_id IS NULL",
	UUIDOID, UUIDOID);

/* Two statements: of one customer two are not the default even for a moment. */
QUERY(
	clear_default,
	"UPDATE billing.payment_methods SET is_default = false WHERE customer_id = $1 AND is_default AND id <> $2",
	UUIDOID, UUIDOID);
QUERY(default_of_customer,
	  "UPDATE billing.payment_methods SET is_default = true, updated_at = now() "
	  "WHERE id = $2 AND customer_id = $1",
	  UUIDOID, UUIDOID);

/* $1 is the holder, $2 the object. */
static const struct
{
	const char *holder_type;
	const char *object_type;
	SqlQuery *make;
	SqlQuery *before; /* what has to make room for it; NULL: nothing */
} kinds[] = {
	{"subscription", "payment_method", &method_of_subscription, NULL},
	{"setup_intent", "payment_method", &method_of_setup, NULL},
	{"payment_intent", "payment_method", &method_of_payment, NULL},
	{"payment_intent", "invoice", &invoice_of_payment, NULL},
	{"invoice", "payment_intent", &payment_of_invoice, NULL},
	{"customer", "payment_method", &default_of_customer, &clear_default},
};

QUERY(
	find_target,
	"SELECT (SELECT r.object_id FROM billing.provider_refs AS r WHERE r.provider_id = $1 "
	"AND r.object_type = $2 AND r.provider = $3 AND r.account = $4), "
	"EXISTS (SELECT FROM billing.waiting_links AS w WHERE w.holder_id = $5 AND w.object_type = $2 "
	"AND w.provider = $3 AND w.account = $4)",
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID);
QUERY(forget_link,
	  "DELETE FROM billing.waiting_links WHERE holder_id = $1 AND object_type = $2 "
	  "AND provider = $3 AND account = $4",
	  UUIDOID, TEXTOID, TEXTOID, TEXTOID);
QUERY(
	note_link,
	"INSERT INTO billing.waiting_links (holder_type, holder_id, object_type, provider, account, provider_id) "
	"VALUES ($1, $2, $3, $4, $5, $6) "
	"ON CONFLICT (holder_id, object_type, provider, account) DO UPDATE SET provider_id = excluded.provider_id",
	TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID);

pg_uuid_t *
link_find(const char *object_type, const char *provider_id, const char *holder_type,
		  const pg_uuid_t *holder_id, const News *news)
{
	pg_uuid_t *id;
	bool waits;

	if (provider_id == NULL)
		return NULL;
	RUN(find_target, arg_text(provider_id), arg_text(object_type), arg_text(news->provider),
		arg_text(news->account), arg_uuid(holder_id));
	id = row_uuid(0, 1);
	waits = row_bool(0, 2);
	if (waits && (id != NULL || *provider_id == '\0'))
		RUN(forget_link, arg_uuid(holder_id), arg_text(object_type), arg_text(news->provider),
			arg_text(news->account));
	if (id == NULL && *provider_id != '\0')
		RUN(note_link, arg_text(holder_type), arg_uuid(holder_id), arg_text(object_type),
			arg_text(news->provider), arg_text(news->account), arg_text(provider_id));
	return id;
}

QUERY(
	take_links,
	"DELETE FROM billing.waiting_links WHERE provider_id = $1 AND object_type = $2 AND provider = $3 "
	"AND account = $4 RETURNING holder_type, holder_id",
	TEXTOID, TEXTOID, TEXTOID, TEXTOID);

void
links_make(const char *object_type, const char *provider_id, const pg_uuid_t *object_id,
		   const News *news)
{
	int64 count = RUN(take_links, arg_text(provider_id), arg_text(object_type),
					  arg_text(news->provider), arg_text(news->account));
	Rows rows = rows_keep();

	for (int64 i = 0; i < count; i++)
	{
		for (size_t k = 0; k < lengthof(kinds); k++)
		{
			const Arg both[] = {arg_uuid(rows_uuid(rows, i, 2)), arg_uuid(object_id)};

			if (strcmp(kinds[k].object_type, object_type) != 0 ||
				strcmp(kinds[k].holder_type, rows_text(rows, i, 1)) != 0)
				continue;
			if (kinds[k].before != NULL)
				query_run(kinds[k].before, both);
			query_run(kinds[k].make, both);
		}
	}
}
