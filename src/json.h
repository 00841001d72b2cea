/*-------------------------------------------------------------------------
 *
 * json.h
 *	  Reading and building jsonb without ceremony.
 *
 * PostgreSQL has the parser; this is only the short way to say "the text at
 * data.object.id" and "an object with these members".  Paths are keys joined
 * by dots, array elements by their number ("items.data.0.id").  Reading from NULL
 * (a part that was not there) finds nothing.  Values are palloc'd in the current
 * memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_JSON_H
#define JANUA_JSON_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/*
 * Parses bytes from outside.  Returns NULL and a reason (a constant or
 * palloc'd text without any of the input's content) when they are not UTF-8,
 * not JSON, nested too deep or hold a number out of range; never raises an
 * ERROR for bad input.  An escaped NUL (\u0000) and half a pair of escaped
 * surrogates, which jsonb refuses, are read as U+FFFD.  Duplicate keys: the last one wins, as in jsonb.
 */
extern Jsonb *json_parse(const char *bytes, size_t length, const char **reason);

/* Text at path; numbers and booleans as their text; NULL when absent or null. */
extern char *json_text(const Jsonb *json, const char *path);

/* String at path; NULL when absent or anything else. */
extern char *json_string_at(const Jsonb *json, const char *path);

/* Integer at path: false when absent, null, fractional or out of int64. */
extern bool json_int(const Jsonb *json, const char *path, int64 *value);

/* The same, of what a caller wrote: also a string of digits, as drivers send what must not become a float. */
extern bool json_whole(const Jsonb *json, const char *path, int64 *value);

/* Boolean at path, fallback when absent or not a boolean. */
extern bool json_bool(const Jsonb *json, const char *path, bool fallback);

/* Object or array at path; NULL when absent or a scalar. */
extern Jsonb *json_part(const Jsonb *json, const char *path);

/* Is there a value (JSON null counts) at path? */
extern bool json_has(const Jsonb *json, const char *path);

/* Number of elements of the array at path ("" = the root); 0 when it is none. */
extern int json_length(const Jsonb *json, const char *path);

/*
 * Unix seconds at path as timestamp; 0 (DT "absent" here) when absent or after
 * the year 9999: then they are milliseconds, which would be newer than all news
 * to come.
 */
extern TimestampTz json_unix_time(const Jsonb *json, const char *path);

/*
 * RFC 3339 time at path ("2026-11-22T18:50:15.25Z", "...+01:00") as timestamp,
 * finer than microseconds cut off; 0 when absent or anything else.
 */
extern TimestampTz json_rfc3339_time(const Jsonb *json, const char *path);

/* A timestamp as RFC 3339 in whole seconds UTC, palloc'd. */
extern char *rfc3339_text(TimestampTz time);

/*
 * The next member whose name is this one in any case of ASCII letters, in the
 * order of jsonb; *position begins with 0.  The value points into the object.
 */
extern bool json_next_named(const Jsonb *object, const char *name, int *position,
							JsonbValue *value);

/* Visits the members of the object, in the order of jsonb; nothing for other values. */
typedef void (*JsonVisitor)(const char *key, const JsonbValue *value, void *context);
extern void json_visit(const Jsonb *json, JsonVisitor visitor, void *context);

/* The text of a scalar as handed to a JsonVisitor; NULL for null and containers. */
extern char *json_scalar_text(const JsonbValue *value);

/* Jsonb as text. */
extern char *json_string(const Jsonb *json);

/*
 * Building: json_open(&b); json_add_text(&b, "id", id); ... json_close(&b).
 * A NULL or absent value is left out; json_add_null says null.
 */
typedef struct JsonBuilder
{
	JsonbParseState *state;
} JsonBuilder;

extern void json_open(JsonBuilder *builder);
extern void json_add_text(JsonBuilder *builder, const char *key, const char *value);
extern void json_add_int(JsonBuilder *builder, const char *key, int64 value);
extern void json_add_bool(JsonBuilder *builder, const char *key, bool value);
extern void json_add_null(JsonBuilder *builder, const char *key);
extern void json_add_json(JsonBuilder *builder, const char *key, const Jsonb *value);
extern void json_add_time(JsonBuilder *builder, const char *key,
						  TimestampTz value); /* unix seconds, absent when 0 */
/* The members of an object that have one of these names (NULL-terminated), as they are; "from" must live on. */
extern void json_copy(JsonBuilder *builder, const Jsonb *from, const char *const *names);
extern void json_open_object(JsonBuilder *builder, const char *key);
extern void json_close_object(JsonBuilder *builder);
extern void json_open_array(JsonBuilder *builder, const char *key);
extern void json_append_text(JsonBuilder *builder, const char *value);
extern void json_append_int(JsonBuilder *builder, int64 value);
extern void json_append_null(JsonBuilder *builder);
extern void json_append_json(JsonBuilder *builder, const Jsonb *value);
extern void json_close_array(JsonBuilder *builder);
extern Jsonb *json_close(JsonBuilder *builder);

/* {} */
extern Jsonb *json_empty(void);

#endif /* JANUA_JSON_H */
