/*-------------------------------------------------------------------------
 *
 * entitlements.c
 *	  has_feature(), feature_limit(), feature_value(): what an organisation
 *	  may use.
 *
 * Called for single rows of any query of the application, on the snapshot of
 * that query.  A call site remembers its answers (entitlement_memo.c); what it
 * does not know is looked up (entitlement_terms.c), and when it has looked up
 * many organisations, all of them at once.
 *
 *-------------------------------------------------------------------------
 */
#include "entitlements.h"

#include "check.h"
#include "errors.h"
#include "miscadmin.h"
#include "utils/datum.h"

void
unknown_feature(const char *feature)
{
	unknown_object("feature", feature,
				   psprintf("There are: %s.",
							hint_list("SELECT feature FROM billing.features ORDER BY feature")));
}

static MemoAnswer
has_feature(const Entitlement *found, const char *feature)
{
	bool has = false;

	switch (found->kind)
	{
		case FEATURE_BOOLEAN:
			has = found->value != NULL && strcmp(found->value, "true") == 0;
			break;
		case FEATURE_LIMIT:
			has = DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(found->limit),
												   NumericGetDatum(int64_to_numeric(0))));
			break;
		case FEATURE_TEXT:
			has = found->value != NULL;
			break;
	}
	return (MemoAnswer){BoolGetDatum(has), false};
}

static MemoAnswer
feature_limit(const Entitlement *found, const char *feature)
{
	if (found->kind != FEATURE_LIMIT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("feature \"%s\" is no limit", feature),
						errhint("Use billing.has_feature() or billing.feature_value().")));
	return (MemoAnswer){NumericGetDatum(found->limit), false};
}

static MemoAnswer
feature_value(const Entitlement *found, const char *feature)
{
	if (found->value == NULL)
		return (MemoAnswer){(Datum) 0, true};
	return (MemoAnswer){CStringGetTextDatum(found->value), false};
}

typedef MemoAnswer (*Answer)(const Entitlement *found, const char *feature);

/* Asks, as the owner; a value by reference is put into the caller's memory. */
static MemoAnswer
look_up(const MemoKey *key, Answer answer, bool by_reference)
{
	char *organization_id = pnstrdup(key->organization_id, key->organization_id_length);
	char *feature = pnstrdup(key->feature, key->feature_length);
	Identity identity = identity_take_owner();
	Entitlement found;
	MemoAnswer made;

	db_open();
	if (!entitlement_find(organization_id, feature, &found))
		unknown_feature(feature);
	made = answer(&found, feature);
	if (by_reference && !made.isnull)
		made.value = SPI_datumTransfer(made.value, false, -1);
	db_close();
	identity_give_back(identity);
	return made;
}

/* ------------------------------------------------------------------------
 * All organisations at once
 * ------------------------------------------------------------------------
 */
typedef struct Loading
{
	Memo *memo;
	MemoKey key; /* of the feature */
	const char *feature;
	Answer answer;
	bool by_reference;
} Loading;

static Size
length_of(MemoAnswer answer, bool by_reference)
{
	return by_reference && !answer.isnull ? VARSIZE_ANY(DatumGetPointer(answer.value)) : 0;
}

static void
remember(const char *organization_id, const Entitlement *found, void *context)
{
	Loading *loading = context;
	MemoAnswer made = loading->answer(found, loading->feature);
	MemoKey key = loading->key;

	if (organization_id == NULL)
	{
		memo_put_rest(loading->memo, &key, made, length_of(made, loading->by_reference));
		return;
	}
	key.organization_id = organization_id;
	key.organization_id_length = (uint32) strlen(organization_id);
	memo_put(loading->memo, &key, made, length_of(made, loading->by_reference));
}

/*
 * A query that has asked about many organisations will ask about more.  How many
 * rows are read for it grows with what was looked up one by one, so that a
 * try in vain costs no more than that did.
 */
static void
load_all(Memo *memo, const MemoKey *key, Answer answer, bool by_reference)
{
	int64 most = memo_rows_to_load(memo);
	Loading loading = {.memo = memo, .key = *key, .answer = answer, .by_reference = by_reference};
	Identity identity;

	if (most == 0)
		return;
	loading.feature = pnstrdup(key->feature, key->feature_length);
	identity = identity_take_owner();
	db_open();
	(void) entitlements_of_all(loading.feature, most, remember, &loading);
	db_close();
	identity_give_back(identity);
}

/* ------------------------------------------------------------------------
 * SQL functions
 * ------------------------------------------------------------------------
 */
static Datum
answer_call(FunctionCallInfo fcinfo, Answer answer, bool by_reference)
{
	const MemoAnswer *known;
	MemoAnswer made;
	Memo *memo;
	MemoKey key;
	text *organization_id;
	text *feature;

	check_given("organization_id", !PG_ARGISNULL(0));
	check_given("feature", !PG_ARGISNULL(1));
	organization_id = PG_GETARG_TEXT_PP(0);
	feature = PG_GETARG_TEXT_PP(1);
	key = (MemoKey){.organization_id = VARDATA_ANY(organization_id),
					.feature = VARDATA_ANY(feature),
					.organization_id_length = (uint32) VARSIZE_ANY_EXHDR(organization_id),
					.feature_length = (uint32) VARSIZE_ANY_EXHDR(feature)};
	memo = memo_of_call(fcinfo);
	memo_check_organization(memo, &key);
	known = memo == NULL ? NULL : memo_find(memo, &key);
	if (known == NULL)
	{
		made = look_up(&key, answer, by_reference);
		if (memo != NULL)
		{
			memo_put(memo, &key, made, length_of(made, by_reference));
			load_all(memo, &key, answer, by_reference);
		}
	}
	else
	{
		made = *known;
		if (by_reference && !made.isnull)
			made.value = datumCopy(made.value, false, -1);
	}
	if (made.isnull)
		PG_RETURN_NULL();
	return made.value;
}

SQL_FUNCTION(billing_has_feature)
{
	return answer_call(fcinfo, has_feature, false);
}

SQL_FUNCTION(billing_feature_limit)
{
	return answer_call(fcinfo, feature_limit, true);
}

SQL_FUNCTION(billing_feature_value)
{
	return answer_call(fcinfo, feature_value, true);
}
