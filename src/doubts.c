/*-------------------------------------------------------------------------
 *
 * doubts.c
 *	  What a webhook tells in part, and what it leaves out: the provider is
 *	  asked.
 *
 * Called by webhooks.c when the snapshots of an event are applied.  Nothing is
 * taken over from here but the beginning of an object that is not known yet;
 * the rest the provider's answer brings (refresh.c), which is applied like
 * every answer.
 *
 *-------------------------------------------------------------------------
 */
#include "webhooks.h"

#include "payments.h"

QUERY(known_as_of,
	  "SELECT as_of FROM billing.provider_refs "
	  "WHERE object_id = $1 AND object_type = $2 AND provider = $3 AND account = $4",
	  UUIDOID, TEXTOID, TEXTOID, TEXTOID);

/* Money that was given back has arrived before. */
static bool
payment_stands_so(const pg_uuid_t *id, const char *told)
{
	PaymentIntent *p = payment_intent_load(id);

	return p != NULL && (strcmp(p->status, told) == 0 ||
						 (strcmp(told, "succeeded") == 0 && payment_arrived(p->status)));
}

/*
 * Does what is told disagree with what is here?  Where a state is told it
 * counts also within one time; where there is only a time, a newer one does.
 */
static bool
disagrees(const ProviderSnapshot *glimpse, const pg_uuid_t *id, const News *news)
{
	const char *told = glimpse->type == BILLING_PAYMENT_INTENT ? glimpse->payment_intent.status
															   : NULL;
	TimestampTz as_of = DT_NOBEGIN;

	if (told != NULL && payment_stands_so(id, told))
		return false;
	if (glimpse->as_of == 0)
		return true;
	if (RUN(known_as_of, arg_uuid(id), arg_text(object_type_name(glimpse->type)),
			arg_text(news->provider), arg_text(news->account)) > 0)
		as_of = row_time(0, 1);
	return told != NULL ? glimpse->as_of >= as_of : glimpse->as_of > as_of;
}

/*
 * Half of an object is older than the whole of the same time: whatever tells
 * the whole goes over it.
 */
static bool
begin(const ProviderSnapshot *glimpse, const News *news, const char **waiting_for)
{
	ProviderSnapshot half = *glimpse;

	if (half.as_of != 0)
		half.as_of--;
	return snapshot_apply(&half, news, waiting_for) != SNAPSHOT_UNKNOWN;
}

pg_uuid_t *
doubt_object(const ProviderSnapshot *glimpse, const News *news)
{
	if (glimpse->type == BILLING_PAYMENT_INTENT)
		return payment_intent_told(glimpse->provider_id, glimpse->payment_intent.charge, news);
	return ref_object(object_type_name(glimpse->type), glimpse->provider_id, news->provider,
					  news->account);
}

/* False: it is about an object that is not known here (yet). */
static bool
settle_doubt(const EventDoubt *doubt, const News *news, const char **waiting_for, bool *asked)
{
	const ProviderSnapshot *glimpse = doubt->glimpse;
	pg_uuid_t *id = doubt_object(glimpse, news);

	if (id == NULL && doubt->begins)
	{
		if (!begin(glimpse, news, waiting_for))
			return false;
		id = doubt_object(glimpse, news);
	}
	if (id == NULL)
	{
		*waiting_for = glimpse->provider_id;
		if (*waiting_for == NULL && glimpse->type == BILLING_PAYMENT_INTENT)
			*waiting_for = glimpse->payment_intent.charge;
		return false;
	}
	if (disagrees(glimpse, id, news))
	{
		refresh_doubtful(object_type_name(glimpse->type), id, news->provider, news->account);
		*asked = true;
	}
	return true;
}

/* Known to the provider before the roll was called, and not on it. */
QUERY(
	not_on_roll,
	"SELECT s.id FROM billing.subscriptions AS s JOIN billing.provider_refs AS r "
	"ON r.object_id = s.id AND r.object_type = 'subscription' AND r.provider = s.provider AND r.account = s.account "
	"WHERE s.customer_id = $1 AND s.provider = $2 AND s.account = $3 AND s.status IN ('active', 'trialing') "
	"AND r.as_of < $4 AND r.provider_id <> ALL ($5)",
	UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID);

static void
call_roll(const EventRoll *roll, const News *news, bool *asked)
{
	pg_uuid_t *customer = ref_object("customer", roll->customer, news->provider, news->account);
	int count = list_length(roll->subscriptions);
	const char **present = palloc(sizeof(char *) * Max(count, 1));
	Rows missing;

	if (customer == NULL)
		return;
	for (int i = 0; i < count; i++)
		present[i] = list_nth(roll->subscriptions, i);
	RUN(not_on_roll, arg_uuid(customer), arg_text(news->provider), arg_text(news->account),
		arg_time(news->as_of), arg_text_array(present, count));
	missing = rows_keep();
	*asked |= rows_count(missing) > 0;
	for (int64 i = 0; i < rows_count(missing); i++)
		refresh_doubtful("subscription", rows_uuid(missing, i, 1), news->provider, news->account);
}

const char *
doubts_settle(const EventReading *reading, const News *news, bool *asked)
{
	const char *waiting_for = NULL;
	ListCell *cell;

	foreach (cell, reading->doubts)
	{
		const char *unknown = NULL;

		if (!settle_doubt(lfirst(cell), news, &unknown, asked) && waiting_for == NULL)
			waiting_for = unknown;
	}
	if (reading->roll != NULL)
		call_roll(reading->roll, news, asked);
	return waiting_for;
}
