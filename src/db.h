/*-------------------------------------------------------------------------
 *
 * db.h
 *	  SQL from C: prepared once per backend, typed arguments, typed results.
 *
 * A query is a static variable, declared where it is used:
 *
 *	  QUERY(find_plan, "SELECT id FROM billing.plans WHERE plan = $1", TEXTOID);
 *	  ...
 *	  if (RUN(find_plan, arg_text(code)) == 0)
 *		  ...
 *	  id = row_uuid(0, 1);
 *
 * Every object is written with its schema.  The caller has a connection to
 * SPI (db_open), the owner's identity and search_path pg_catalog, pg_temp.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_DB_H
#define JANUA_DB_H

#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define QUERY_MAX_ARGS 48

typedef struct SqlQuery
{
	const char *text;
	Oid types[QUERY_MAX_ARGS];
	bool in_order;
	bool custom;
	SPIPlanPtr plan;
} SqlQuery;

#define QUERY(name, sql, ...) static SqlQuery name = {.text = (sql), .types = {__VA_ARGS__}}
/* Takes the first few in the order of an index: never reads and sorts all there are. */
#define QUERY_IN_ORDER(name, sql, ...) \
	static SqlQuery name = {.text = (sql), .types = {__VA_ARGS__}, .in_order = true}

/* Planned anew for its arguments each time: Citus sends it to where they belong. */
#define QUERY_CUSTOM(name, sql, ...) \
	static SqlQuery name = {.text = (sql), .types = {__VA_ARGS__}, .custom = true}

typedef struct Arg
{
	Datum value;
	bool isnull;
} Arg;

/* Arguments; a NULL pointer (or an absent time, 0) becomes SQL NULL. */
extern Arg arg_text(const char *value);
extern Arg arg_uuid(const pg_uuid_t *value);
extern Arg arg_json(const Jsonb *value);
extern Arg arg_bytes(const bytea *value);
extern Arg arg_time(TimestampTz value); /* 0 = NULL */
extern Arg arg_datum(Datum value, bool isnull);

static inline Arg
arg_int(int64 value)
{
	return (Arg){Int64GetDatum(value), false};
}

static inline Arg
arg_int4(int32 value)
{
	return (Arg){Int32GetDatum(value), false};
}

static inline Arg
arg_bool(bool value)
{
	return (Arg){BoolGetDatum(value), false};
}

static inline Arg
arg_null(void)
{
	return (Arg){(Datum) 0, true};
}

/* Runs the query with its own snapshot (but see db_open_reading) and returns the number of rows. */
extern int64 query_run(SqlQuery *query, const Arg *args);

/* The same on the active snapshot: for functions that are STABLE. */
extern int64 query_read(SqlQuery *query, const Arg *args);

/* The same on that snapshot, whatever the transaction sees. */
extern int64 query_read_at(SqlQuery *query, const Arg *args, Snapshot snapshot);

#define RUN(query, ...)  query_run(&(query), (const Arg[]){__VA_ARGS__})
#define READ(query, ...) query_read(&(query), (const Arg[]){__VA_ARGS__})

/*
 * The result of the last query.  Rows from 0, columns from 1.  The next query
 * replaces it: keep it with rows_keep() where a loop runs queries of its own.
 */
typedef SPITupleTable *Rows;
extern Rows rows_keep(void);
extern int64 rows_count(Rows rows);

extern bool rows_null(Rows rows, int64 row, int column);
extern char *rows_text(Rows rows, int64 row, int column);       /* any type; NULL for SQL NULL */
extern pg_uuid_t *rows_uuid(Rows rows, int64 row, int column);  /* NULL for SQL NULL */
extern int64 rows_int(Rows rows, int64 row, int column);        /* int8; 0 for NULL */
extern int32 rows_int4(Rows rows, int64 row, int column);       /* int4; 0 for NULL */
extern bool rows_bool(Rows rows, int64 row, int column);        /* false for NULL */
extern TimestampTz rows_time(Rows rows, int64 row, int column); /* 0 for NULL */
extern Jsonb *rows_json(Rows rows, int64 row, int column);
extern bytea *rows_bytes(Rows rows, int64 row, int column);
extern Datum rows_datum(Rows rows, int64 row, int column, bool *isnull);

#define row_null(row, column)  rows_null(SPI_tuptable, row, column)
#define row_text(row, column)  rows_text(SPI_tuptable, row, column)
#define row_uuid(row, column)  rows_uuid(SPI_tuptable, row, column)
#define row_int(row, column)   rows_int(SPI_tuptable, row, column)
#define row_int4(row, column)  rows_int4(SPI_tuptable, row, column)
#define row_bool(row, column)  rows_bool(SPI_tuptable, row, column)
#define row_time(row, column)  rows_time(SPI_tuptable, row, column)
#define row_json(row, column)  rows_json(SPI_tuptable, row, column)
#define row_bytes(row, column) rows_bytes(SPI_tuptable, row, column)

/*
 * Connection to SPI for one SQL-callable function.  What db_close() is given
 * is copied into the memory context of the caller of db_open().
 */
extern void db_open(void);

/*
 * For functions that are STABLE and call what others call to write, too: until
 * db_close(), or an ERROR, all queries read on the active snapshot, also those
 * of functions that these call, and none may write or lock.
 */
extern void db_open_reading(void);
extern void db_close(void);
extern Datum db_close_uuid(const pg_uuid_t *value);
extern Datum db_close_text(const char *value); /* not NULL */
extern Datum db_close_json(const Jsonb *value);

/*
 * The owner's identity, for what is not SECURITY DEFINER: triggers on tables
 * of the application keep the caller's identity for their DDL, the worker
 * takes the owner's inside each transaction.  An ERROR gives it back.
 */
typedef struct Identity
{
	Oid user;
	int security_context;
	int guc_level;
} Identity;

extern Identity identity_take_owner(void);
extern void identity_give_back(Identity identity);

/* Oid of role janua_billing; ERROR 42704 when there is none. */
extern Oid owner_role(void);

/* Arguments of SQL-callable functions: NULL (or the fallback) for SQL NULL. */
#define ARG_TEXT(n)           (PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n)))
#define ARG_UUID(n)           (PG_ARGISNULL(n) ? NULL : PG_GETARG_UUID_P(n))
#define ARG_JSON(n)           (PG_ARGISNULL(n) ? NULL : PG_GETARG_JSONB_P(n))
#define ARG_INT(n, fallback)  (PG_ARGISNULL(n) ? (fallback) : PG_GETARG_INT64(n))
#define ARG_INT4(n, fallback) (PG_ARGISNULL(n) ? (fallback) : PG_GETARG_INT32(n))
#define ARG_BOOL(n, fallback) (PG_ARGISNULL(n) ? (fallback) : PG_GETARG_BOOL(n))
#define ARG_TIME(n)           (PG_ARGISNULL(n) ? (TimestampTz) 0 : PG_GETARG_TIMESTAMPTZ(n))

/*
 * Declares and exports a SQL-callable function.  PG_FUNCTION_INFO_V1 exports
 * the function itself only since PostgreSQL 16.
 */
#define SQL_FUNCTION(name)                            \
	extern JANUA_EXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name);                        \
	Datum name(PG_FUNCTION_ARGS)

/* An array of texts, NULL for NULL. */
extern Arg arg_text_array(const char *const *values, int count);

/*
 * Runs work(context) in a subtransaction.  On an ERROR its changes are undone,
 * *sqlstate and *message tell what it was, and the result is false; only a
 * cancel or the end of the process passes through.
 */
extern bool guarded(void (*work)(void *context), void *context, char **sqlstate, char **message);

/* The same for what a person will read: the hint follows the message, in brackets. */
extern bool guarded_with_hint(void (*work)(void *context), void *context, char **sqlstate,
							  char **message);

/*
 * Is it about the moment and not about the row: a lock, a deadlock, a full
 * disk?  Then the same work goes through later.
 */
extern bool sqlstate_passes(const char *sqlstate);

/* An array of ids for "= ANY ($1)". */
extern ArrayType *uuid_array(pg_uuid_t *const *ids, int count);
static inline Arg
arg_uuids(pg_uuid_t *const *ids, int count)
{
	return arg_datum(PointerGetDatum(uuid_array(ids, count)), false);
}

extern char *uuid_text(const pg_uuid_t *value);
extern pg_uuid_t *uuid_parse(const char *text); /* NULL when it is NULL or no uuid */
extern bool uuid_equal(const pg_uuid_t *a, const pg_uuid_t *b);
extern pg_uuid_t *new_id(void);

#endif /* JANUA_DB_H */
