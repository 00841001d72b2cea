/*-------------------------------------------------------------------------
 *
 * columns.h
 *	  Many rows for one query: an array per column, for unnest().
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_COLUMNS_H
#define JANUA_COLUMNS_H

#include "db.h"

typedef struct Column
{
	Datum *values;
	bool *nulls;
	Oid type;
	int16 length;
	bool by_value;
	char alignment;
} Column;

static inline Column
column_new(uint32 count, Oid type, int16 length, bool by_value, char alignment)
{
	return (Column){palloc(sizeof(Datum) * Max(count, 1)),
					palloc0(sizeof(bool) * Max(count, 1)),
					type,
					length,
					by_value,
					alignment};
}

#define COLUMN_TEXT(count)   column_new(count, TEXTOID, -1, false, TYPALIGN_INT)
#define COLUMN_TIME(count)   column_new(count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)
#define COLUMN_JSON(count)   column_new(count, JSONBOID, -1, false, TYPALIGN_INT)
#define COLUMN_BYTES(count)  column_new(count, BYTEAOID, -1, false, TYPALIGN_INT)
#define COLUMN_NUMBER(count) column_new(count, NUMERICOID, -1, false, TYPALIGN_INT)
#define COLUMN_INT(count)    column_new(count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)
#define COLUMN_UUID(count)   column_new(count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)
#define COLUMN_BOOL(count)   column_new(count, BOOLOID, 1, true, TYPALIGN_CHAR)

/* uuid, jsonb, bytea, numeric; SQL NULL for NULL. */
static inline void
column_pointer(Column *column, uint32 row, const void *value)
{
	column->nulls[row] = value == NULL;
	column->values[row] = PointerGetDatum(value);
}

/* SQL NULL for NULL. */
static inline void
column_text(Column *column, uint32 row, const char *value)
{
	column->nulls[row] = value == NULL;
	column->values[row] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

/* SQL NULL for 0. */
static inline void
column_time(Column *column, uint32 row, TimestampTz value)
{
	column->nulls[row] = value == 0;
	column->values[row] = TimestampTzGetDatum(value);
}

static inline void
column_int(Column *column, uint32 row, int64 value)
{
	column->values[row] = Int64GetDatum(value);
}

/* SQL NULL below 0. */
static inline void
column_count(Column *column, uint32 row, int64 value)
{
	column->nulls[row] = value < 0;
	column->values[row] = Int64GetDatum(value);
}

static inline void
column_bool(Column *column, uint32 row, bool value)
{
	column->values[row] = BoolGetDatum(value);
}

static inline Arg
column_arg(const Column *column, int count)
{
	int lower = 1;

	return arg_datum(PointerGetDatum(construct_md_array(column->values, column->nulls, 1, &count,
														&lower, column->type, column->length,
														column->by_value, column->alignment)),
					 false);
}

#endif /* JANUA_COLUMNS_H */
