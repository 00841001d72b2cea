/*-------------------------------------------------------------------------
 *
 * db.c
 *	  SQL from C: prepared once per backend, typed arguments, typed results.
 *
 * Plans are kept for the life of the backend; PostgreSQL itself plans them
 * again when a table changed, also when the extension was dropped and made
 * anew, because they are found by name.
 *
 *-------------------------------------------------------------------------
 */
#include "db.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

Arg
arg_text(const char *value)
{
	if (value == NULL)
		return arg_null();
	return (Arg){CStringGetTextDatum(value), false};
}

Arg
arg_uuid(const pg_uuid_t *value)
{
	if (value == NULL)
		return arg_null();
	return (Arg){UUIDPGetDatum(value), false};
}

Arg
arg_json(const Jsonb *value)
{
	if (value == NULL)
		return arg_null();
	return (Arg){JsonbPGetDatum(value), false};
}

Arg
arg_bytes(const bytea *value)
{
	if (value == NULL)
		return arg_null();
	return (Arg){PointerGetDatum(value), false};
}

Arg
arg_time(TimestampTz value)
{
	if (value == 0)
		return arg_null();
	return (Arg){TimestampTzGetDatum(value), false};
}

Arg
arg_datum(Datum value, bool isnull)
{
	return (Arg){value, isnull};
}

static int
query_nargs(const SqlQuery *query)
{
	int n = 0;

	while (n < QUERY_MAX_ARGS && OidIsValid(query->types[n]))
		n++;
	return n;
}

/*
 * The outbox is empty most of the time and now and then holds a hundred
 * thousand rows, while a plan that was made when it was empty is kept: reading
 * all of it for every single row would never end.  Every query of ours finds
 * its rows by an index, so the planner is told to take one, whatever the
 * statistics say, and not to compile for the cost of a table that is read in
 * full for want of an index.  Set here and not by SET: this runs several times
 * per call.
 */
static int
execute_by_index(const SqlQuery *query, Datum *values, const char *nulls, Snapshot snapshot,
				 bool read_only)
{
	bool seqscan = enable_seqscan;
	bool hashjoin = enable_hashjoin;
	bool mergejoin = enable_mergejoin;
	bool sort = enable_sort;
	bool jit = jit_enabled;
	volatile int result = 0;

	PG_TRY();
	{
		enable_seqscan = false;
		enable_hashjoin = false;
		enable_mergejoin = false;
		enable_sort = sort && !query->in_order;
		jit_enabled = false;
		result = SPI_execute_snapshot(query->plan, values, nulls, snapshot, InvalidSnapshot,
									  read_only, true, 0);
	}
	PG_FINALLY();
	{
		enable_seqscan = seqscan;
		enable_hashjoin = hashjoin;
		enable_mergejoin = mergejoin;
		enable_sort = sort;
		jit_enabled = jit;
	}
	PG_END_TRY();
	return result;
}

static int64
query_execute(SqlQuery *query, const Arg *args, Snapshot snapshot, bool read_only)
{
	MemoryContext memory = CurrentMemoryContext;
	int nargs = query_nargs(query);
	Datum values[QUERY_MAX_ARGS];
	char nulls[QUERY_MAX_ARGS];
	int result;

	if (query->plan == NULL)
	{
		/* planned once for all arguments: most of these plans cost more than their run */
		SPIPlanPtr plan = SPI_prepare_cursor(query->text, nargs, query->types,
											 query->custom ? CURSOR_OPT_CUSTOM_PLAN
														   : CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL)
			elog(ERROR, "could not prepare a query: %s", SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep a plan");
		query->plan = plan;
	}
	for (int i = 0; i < nargs; i++)
	{
		values[i] = args[i].value;
		nulls[i] = args[i].isnull ? 'n' : ' ';
	}
	result = execute_by_index(query, values, nulls, snapshot, read_only);
	if (result < 0)
		elog(ERROR, "could not run a query: %s", SPI_result_code_string(result));
	/* SPI leaves us in its own context; callers choose theirs */
	MemoryContextSwitchTo(memory);
	return (int64) SPI_processed;
}

/* Connections of db_open_reading() that are open. */
static int readers = 0;

int64
query_run(SqlQuery *query, const Arg *args)
{
	return query_execute(query, args, InvalidSnapshot, readers > 0);
}

int64
query_read(SqlQuery *query, const Arg *args)
{
	return query_execute(query, args, InvalidSnapshot, true);
}

int64
query_read_at(SqlQuery *query, const Arg *args, Snapshot snapshot)
{
	return query_execute(query, args, snapshot, true);
}

Rows
rows_keep(void)
{
	return SPI_tuptable;
}

int64
rows_count(Rows rows)
{
	return rows == NULL ? 0 : (int64) rows->numvals;
}

Datum
rows_datum(Rows rows, int64 row, int column, bool *isnull)
{
	Assert(rows != NULL && row < (int64) rows->numvals);
	return SPI_getbinval(rows->vals[row], rows->tupdesc, column, isnull);
}

bool
rows_null(Rows rows, int64 row, int column)
{
	bool isnull;

	rows_datum(rows, row, column, &isnull);
	return isnull;
}

char *
rows_text(Rows rows, int64 row, int column)
{
	Assert(rows != NULL && row < (int64) rows->numvals);
	return SPI_getvalue(rows->vals[row], rows->tupdesc, column);
}

pg_uuid_t *
rows_uuid(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);
	pg_uuid_t *copy;

	if (isnull)
		return NULL;
	/* out of the tuple, which the next query of the loop may free */
	copy = palloc(sizeof(pg_uuid_t));
	memcpy(copy, DatumGetUUIDP(value), sizeof(pg_uuid_t));
	return copy;
}

int64
rows_int(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

int32
rows_int4(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

bool
rows_bool(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? false : DatumGetBool(value);
}

TimestampTz
rows_time(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

Jsonb *
rows_json(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

bytea *
rows_bytes(Rows rows, int64 row, int column)
{
	bool isnull;
	Datum value = rows_datum(rows, row, column, &isnull);

	return isnull ? NULL : DatumGetByteaPCopy(value);
}

void
db_open(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

static void
reader_is_gone(void *unused)
{
	readers--;
}

/* The memory of a connection goes with it, whatever ends it. */
void
db_open_reading(void)
{
	MemoryContextCallback *callback;

	db_open();
	callback = palloc0(sizeof(MemoryContextCallback));
	callback->func = reader_is_gone;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	readers++;
}

void
db_close(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
}

Arg
arg_text_array(const char *const *values, int count)
{
	Datum *datums = palloc(sizeof(Datum) * Max(count, 1));
	bool *nulls = palloc(sizeof(bool) * Max(count, 1));
	int lower = 1;

	for (int i = 0; i < count; i++)
	{
		nulls[i] = values[i] == NULL;
		datums[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(values[i]);
	}
	return (Arg){PointerGetDatum(construct_md_array(datums, nulls, 1, &count, &lower, TEXTOID, -1,
													false, TYPALIGN_INT)),
				 false};
}

/*
 * The memory context and resource owner are put back by hand, as every
 * language with exceptions does it; a connection to SPI that the work left
 * open is closed by the abort of the subtransaction.
 */
static bool
guard(void (*work)(void *context), void *context, char **sqlstate, char **message, char **hint)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		work(context);
		ReleaseCurrentSubTransaction();
		ok = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(memory);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		*sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
		*message = pstrdup(error->message);
		*hint = error->hint;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	return ok;
}

bool
guarded(void (*work)(void *context), void *context, char **sqlstate, char **message)
{
	char *hint;

	return guard(work, context, sqlstate, message, &hint);
}

bool
guarded_with_hint(void (*work)(void *context), void *context, char **sqlstate, char **message)
{
	char *hint = NULL;
	bool ok = guard(work, context, sqlstate, message, &hint);

	if (!ok && hint != NULL)
		*message = psprintf("%s (%s)", *message, hint);
	return ok;
}

bool
sqlstate_passes(const char *sqlstate)
{
	return strcmp(sqlstate, "55P03") == 0 || strncmp(sqlstate, "40", 2) == 0 ||
		   strncmp(sqlstate, "53", 2) == 0;
}

/* SPI_palloc allocates where db_open() was called from. */
Datum
db_close_uuid(const pg_uuid_t *value)
{
	pg_uuid_t *copy = SPI_palloc(sizeof(pg_uuid_t));

	memcpy(copy, value, sizeof(pg_uuid_t));
	db_close();
	return UUIDPGetDatum(copy);
}

static Datum
db_close_varlena(const void *value)
{
	void *copy = SPI_palloc(VARSIZE(value));

	memcpy(copy, value, VARSIZE(value));
	db_close();
	return PointerGetDatum(copy);
}

Datum
db_close_text(const char *value)
{
	return db_close_varlena(cstring_to_text(value));
}

Datum
db_close_json(const Jsonb *value)
{
	return db_close_varlena(value);
}

Oid
owner_role(void)
{
	return get_role_oid("janua_billing", false);
}

/*
 * search_path belongs to the identity: a query of ours must never find an
 * operator or function in a schema of the caller.
 */
Identity
identity_take_owner(void)
{
	Identity identity;

	GetUserIdAndSecContext(&identity.user, &identity.security_context);
	identity.guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(owner_role(), identity.security_context | SECURITY_LOCAL_USERID_CHANGE);
	return identity;
}

void
identity_give_back(Identity identity)
{
	AtEOXact_GUC(true, identity.guc_level);
	SetUserIdAndSecContext(identity.user, identity.security_context);
}

ArrayType *
uuid_array(pg_uuid_t *const *ids, int count)
{
	Datum *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = UUIDPGetDatum(ids[i]);
	return construct_array(values, count, UUIDOID, sizeof(pg_uuid_t), false, TYPALIGN_CHAR);
}

char *
uuid_text(const pg_uuid_t *value)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(value)));
}

pg_uuid_t *
uuid_parse(const char *text)
{
	/* uuid_in accepts braces and odd hyphens; an id of ours has one form */
	if (text == NULL || strlen(text) != 36 || strspn(text, "0123456789abcdefABCDEF-") != 36)
		return NULL;
	for (int i = 0; i < 36; i++)
	{
		bool hyphen = (i == 8 || i == 13 || i == 18 || i == 23);

		if ((text[i] == '-') != hyphen)
			return NULL;
	}
	return DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

bool
uuid_equal(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t)) == 0;
}

/*
 * RFC 9562: 48 bits of milliseconds, version 7, the 12 bits of rand_a hold the
 * fraction of the millisecond so that ids made one after the other sort, the
 * rest is random.  PostgreSQL has uuidv7() since 18 only.
 */
pg_uuid_t *
new_id(void)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	int64 us = GetCurrentTimestamp() +
			   (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	uint64 ms = us / 1000;
	uint32 fraction = (uint32) (us % 1000) * 4096 / 1000;

	if (!pg_strong_random(id->data, sizeof(id->data)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (ms >> (8 * (5 - i)));
	id->data[6] = 0x70 | (fraction >> 8);
	id->data[7] = fraction & 0xff;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
	return id;
}

SQL_FUNCTION(billing_new_id)
{
	PG_RETURN_UUID_P(new_id());
}
