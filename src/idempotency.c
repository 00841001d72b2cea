/*-------------------------------------------------------------------------
 *
 * idempotency.c
 *	  Callers' idempotency keys: the same call twice makes one object.
 *
 * Called by the creating functions of the subjects.  The row of a key is
 * inserted before the object is made, so that a concurrent call with the same
 * key waits at the primary key until this transaction has ended.  Of the
 * arguments only a keyed hash is stored: they may be personal data, and a
 * difference has to be named, not shown.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "check.h"
#include "crypto.h"
#include "errors.h"
#include "json.h"
#include "keys.h"
#include "mb/pg_wchar.h"

#define KEY_MAX 255

/* Enough that a changed argument is missed once in 2^64 times. */
#define HASH_BYTES 8

QUERY(claim_key,
	  "INSERT INTO billing.idempotency_keys (function, organization_id, key, arguments) "
	  "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
	  TEXTOID, TEXTOID, TEXTOID, JSONBOID);
QUERY(find_key,
	  "SELECT arguments, object_id FROM billing.idempotency_keys "
	  "WHERE organization_id = $2 AND function = $1 AND key = $3",
	  TEXTOID, TEXTOID, TEXTOID);
QUERY(store_object,
	  "UPDATE billing.idempotency_keys SET object_id = $4 "
	  "WHERE organization_id = $2 AND function = $1 AND key = $3",
	  TEXTOID, TEXTOID, TEXTOID, UUIDOID);

static char *
argument_hash(const KeyedArgument *argument)
{
	char *hex = palloc(CRYPTO_HEX_SIZE(HASH_BYTES));
	bytea *hash;

	if (argument->value == NULL)
		return NULL;
	hash = keyed_hash(psprintf("argument:%s", argument->name), argument->value);
	crypto_hex_encode(VARDATA_ANY(hash), HASH_BYTES, hex);
	return hex;
}

/* SQL NULL is left out. */
static Jsonb *
argument_hashes(const KeyedArgument *arguments, int count)
{
	JsonBuilder builder;

	json_open(&builder);
	for (int i = 0; i < count; i++)
		json_add_text(&builder, arguments[i].name, argument_hash(&arguments[i]));
	return json_close(&builder);
}

static bool
same_hash(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static void
compare_arguments(const char *key, const Jsonb *before, const Jsonb *now,
				  const KeyedArgument *arguments, int count)
{
	for (int i = 0; i < count; i++)
	{
		const char *name = arguments[i].name;

		if (!same_hash(json_text(before, name), json_text(now, name)))
			ereport(
				ERROR,
				(errcode(ERRCODE_JB_IDEMPOTENCY),
				 errmsg("idempotency key \"%s\" was used with another %s", key, name),
				 errhint(
					 "A key stands for one call: repeat it with the same arguments, or use a new key.")));
	}
}

pg_uuid_t *
idempotency_find(const char *function, const char *organization_id, const char *key,
				 const KeyedArgument *arguments, int count)
{
	Jsonb *now;
	pg_uuid_t *object_id;

	if (key == NULL)
		return NULL;
	if (*key == '\0' || pg_mbstrlen(key) > KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("idempotency_key is empty or longer than %d characters", KEY_MAX),
				 errhint("Use the id of what the call is about in the application, or a uuid.")));

	now = argument_hashes(arguments, count);
	if (RUN(claim_key, arg_text(function), arg_text(organization_id), arg_text(key),
			arg_json(now)) > 0)
		return NULL;

	if (RUN(find_key, arg_text(function), arg_text(organization_id), arg_text(key)) == 0)
		elog(ERROR, "idempotency key has gone");
	object_id = row_uuid(0, 2);
	compare_arguments(key, row_json(0, 1), now, arguments, count);
	if (object_id == NULL)
		elog(ERROR, "idempotency key without an object");
	return object_id;
}

void
idempotency_store(const char *function, const char *organization_id, const char *key,
				  const pg_uuid_t *object_id)
{
	if (key == NULL)
		return;
	RUN(store_object, arg_text(function), arg_text(organization_id), arg_text(key),
		arg_uuid(object_id));
}
