/*-------------------------------------------------------------------------
 *
 * json.c
 *	  Reading and building jsonb without ceremony.
 *
 * Everything that comes from outside as JSON (answers, webhooks, arguments)
 * passes json_parse() once and is jsonb from then on; everybody else reads it
 * by path.  Nothing here touches a table or needs a transaction, so the worker
 * may call it between its transactions.
 *
 * json_parse() must not raise an ERROR for any sequence of bytes, because an
 * ERROR in the worker's loop costs all calls in flight.  What is cheap to see
 * is asked first, softly: valid UTF-8, not too deep.  Then jsonb_in() parses,
 * and its complaints are caught: it holds no resource, so nothing but the
 * error state has to be cleaned up after it.  (Parsing once more before, only
 * to be told softly, would cost every good body a sixth of its time.)
 *
 *-------------------------------------------------------------------------
 */
#include "json.h"

#include "common/int.h"
#include "mb/pg_wchar.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/*
 * Deeper than any provider nests (about 10) and shallow enough for the
 * recursive parser under the smallest max_stack_depth that it is ever run with.
 */
#define MAX_DEPTH 512

/* Above the limits of http.c and of handle_webhook; keeps lengths in an int. */
#define MAX_BYTES (64 * 1024 * 1024)

#define ESCAPE_PREFIX       "\\u"
#define ESCAPED_REPLACEMENT "\\ufffd"
#define ESCAPE_LENGTH       6

/* ------------------------------------------------------------------------
 * Parsing
 * ------------------------------------------------------------------------
 */

/* Bytes that are '{' or '['; they differ from each other in one bit. */
static size_t
count_opening_brackets(const char *bytes, size_t length)
{
	size_t count = 0;

	for (size_t i = 0; i < length; i++)
		count += (bytes[i] & 0xdf) == '[';
	return count;
}

/*
 * Follows the brackets outside of strings; need not notice bad JSON.  Most
 * bodies have fewer brackets than levels are allowed, and counting is quicker.
 */
static bool
nested_too_deep(const char *bytes, size_t length)
{
	const char *end = bytes + length;
	int depth = 0;

	if (count_opening_brackets(bytes, length) <= MAX_DEPTH)
		return false;

	for (const char *p = bytes; p < end; p++)
	{
		switch (*p)
		{
			case '"':
				while (++p < end && *p != '"')
				{
					if (*p == '\\')
						p++;
				}
				break;
			case '{':
			case '[':
				if (++depth > MAX_DEPTH)
					return true;
				break;
			case '}':
			case ']':
				depth--;
				break;
		}
	}
	return false;
}

/* The four hexadecimal digits of an escape; -1 when they are none. */
static int
escaped_unit(const char *escape)
{
	int unit = 0;

	if (escape[0] != '\\' || escape[1] != 'u')
		return -1;
	for (int i = 2; i < ESCAPE_LENGTH; i++)
	{
		static const char digits[] = "0123456789abcdef";
		const char *digit = escape[i] == '\0'
								? NULL
								: strchr(digits, pg_ascii_tolower((unsigned char) escape[i]));

		if (digit == NULL)
			return -1;
		unit = unit * 16 + (int) (digit - digits);
	}
	return unit;
}

#define IS_HIGH_SURROGATE(unit) ((unit) >= 0xd800 && (unit) <= 0xdbff)
#define IS_LOW_SURROGATE(unit)  ((unit) >= 0xdc00 && (unit) <= 0xdfff)

/*
 * jsonb cannot hold a NUL, providers may send one in a name; nor half a pair of
 * surrogates, which is what JavaScript leaves of a name that it cut in the
 * middle of an emoji.  The escape is replaced where it really is one:
 * "\\u0000" with two backslashes is a backslash followed by text.  Both escapes
 * are six bytes, so the text is changed in place.
 */
static void
replace_unstorable_escapes(char *text)
{
	char *at = text;

	while ((at = strstr(at, ESCAPE_PREFIX)) != NULL)
	{
		int backslashes = 1;
		int unit = escaped_unit(at);

		while (at - backslashes >= text && at[-backslashes] == '\\')
			backslashes++;
		if (unit < 0 || backslashes % 2 == 0)
			at += strlen(ESCAPE_PREFIX);
		else if (IS_HIGH_SURROGATE(unit) && IS_LOW_SURROGATE(escaped_unit(at + ESCAPE_LENGTH)))
			at += 2 * ESCAPE_LENGTH;
		else
		{
			if (unit == 0 || IS_HIGH_SURROGATE(unit) || IS_LOW_SURROGATE(unit))
				memcpy(at, ESCAPED_REPLACEMENT, ESCAPE_LENGTH);
			at += ESCAPE_LENGTH;
		}
	}
}

/* What jsonb_in() may say about a text; NULL for what is no complaint about it. */
static const char *
reason_of_error(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_INVALID_TEXT_REPRESENTATION:
			return "it is not JSON";
		case ERRCODE_UNTRANSLATABLE_CHARACTER:
			return "an escaped character cannot be stored";
		case ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE:
			return "a number is out of range";
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_STATEMENT_TOO_COMPLEX:
			return "it is too large or nested too deep";
		default:
			return NULL;
	}
}

static Jsonb *
parse_text(char *text, const char **reason)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb *volatile json = NULL;

	*reason = NULL;
	PG_TRY();
	{
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		*reason = reason_of_error(geterrcode());
		if (*reason == NULL)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return json;
}

Jsonb *
json_parse(const char *bytes, size_t length, const char **reason)
{
	char *text;
	Jsonb *json;

	if (GetDatabaseEncoding() != PG_UTF8)
	{
		*reason = "the encoding of the database is not UTF8";
		return NULL;
	}
	if (length > MAX_BYTES)
	{
		*reason = "it is too large";
		return NULL;
	}
	if (!pg_verify_mbstr(PG_UTF8, bytes, (int) length, true))
	{
		*reason = "it is not UTF-8";
		return NULL;
	}
	if (nested_too_deep(bytes, length))
	{
		*reason = "it is nested too deep";
		return NULL;
	}

	text = pnstrdup(bytes, length);
	replace_unstorable_escapes(text);
	json = parse_text(text, reason);
	pfree(text);
	return json;
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

/* One step of a path: the member or element that key names. */
static bool
step_into(JsonbContainer *container, const char *key, int key_length, JsonbValue *found)
{
	JsonbValue *element;
	uint32 index = 0;

	if (JsonContainerIsObject(container))
		return getKeyJsonValueFromContainer(container, key, key_length, found) != NULL;

	if (!JsonContainerIsArray(container) || JsonContainerIsScalar(container) || key_length > 8)
		return false;
	for (int i = 0; i < key_length; i++)
	{
		if (key[i] < '0' || key[i] > '9')
			return false;
		index = index * 10 + (uint32) (key[i] - '0');
	}
	element = getIthJsonbValueFromContainer(container, index);
	if (element == NULL)
		return false;
	*found = *element;
	return true;
}

/*
 * The value at path; false when there is none.  An empty path is the root.  A
 * NULL has nothing at any path: it is what json_part() said of a member that is
 * no object, and nobody has to look before he asks on.
 */
static bool
find(const Jsonb *json, const char *path, JsonbValue *found)
{
	Jsonb *root = unconstify(Jsonb *, json);

	if (root == NULL)
		return false;
	if (JB_ROOT_IS_SCALAR(root))
		return *path == '\0' && JsonbExtractScalar(&root->root, found);

	JsonbToJsonbValue(root, found);
	while (*path != '\0')
	{
		size_t key_length = strcspn(path, ".");

		if (found->type != jbvBinary ||
			!step_into(found->val.binary.data, path, (int) key_length, found))
			return false;
		path += key_length;
		if (*path == '.')
			path++;
	}
	return true;
}

char *
json_scalar_text(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

char *
json_text(const Jsonb *json, const char *path)
{
	JsonbValue value;

	return find(json, path, &value) ? json_scalar_text(&value) : NULL;
}

char *
json_string_at(const Jsonb *json, const char *path)
{
	JsonbValue value;

	return find(json, path, &value) && value.type == jbvString ? json_scalar_text(&value) : NULL;
}

static int
compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

/*
 * Compared before it is cast, because a cast raises errors; and not by way of
 * its text, of which "1e131071" has 131,072 digits in 8 bytes.
 */
bool
json_int(const Jsonb *json, const char *path, int64 *value)
{
	JsonbValue number;
	Numeric numeric;
	int64 rounded;

	if (!find(json, path, &number) || number.type != jbvNumeric)
		return false;

	numeric = number.val.numeric;
	if (compare(numeric, int64_to_numeric(PG_INT64_MAX)) > 0 ||
		compare(numeric, int64_to_numeric(PG_INT64_MIN)) < 0)
		return false;
	rounded = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(numeric)));
	if (compare(numeric, int64_to_numeric(rounded)) != 0)
		return false;
	*value = rounded;
	return true;
}

/* An optional sign, digits, and after a point nothing but zeros. */
static bool
whole_of_text(const char *text, int64 *value)
{
	const char *digits = text + (*text == '-' ? 1 : 0);
	size_t whole = strspn(digits, "0123456789");
	const char *rest = digits + whole;

	if (whole == 0)
		return false;
	if (*rest == '.')
	{
		size_t zeros = strspn(rest + 1, "0");

		if (zeros == 0)
			return false;
		rest += 1 + zeros;
	}
	if (*rest != '\0')
		return false;
	errno = 0;
	*value = strtoll(text, NULL, 10);
	return errno == 0;
}

bool
json_whole(const Jsonb *json, const char *path, int64 *value)
{
	const char *text = json_string_at(json, path);
	int64 whole;

	if (text == NULL)
		return json_int(json, path, value);
	if (!whole_of_text(text, &whole))
		return false;
	*value = whole;
	return true;
}

bool
json_bool(const Jsonb *json, const char *path, bool fallback)
{
	JsonbValue value;

	if (!find(json, path, &value) || value.type != jbvBool)
		return fallback;
	return value.val.boolean;
}

Jsonb *
json_part(const Jsonb *json, const char *path)
{
	JsonbValue value;

	if (!find(json, path, &value) || value.type != jbvBinary)
		return NULL;
	return JsonbValueToJsonb(&value);
}

bool
json_has(const Jsonb *json, const char *path)
{
	JsonbValue value;

	return find(json, path, &value);
}

int
json_length(const Jsonb *json, const char *path)
{
	JsonbValue value;

	if (!find(json, path, &value) || value.type != jbvBinary ||
		!JsonContainerIsArray(value.val.binary.data))
		return 0;
	return (int) JsonContainerSize(value.val.binary.data);
}

/* Seconds of 2000 in year 10000, where the four digits of RFC 3339 end. */
#define SECONDS_AFTER_9999 ((int64) (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) * SECS_PER_DAY)

TimestampTz
json_unix_time(const Jsonb *json, const char *path)
{
	const int64 epoch_distance = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	int64 seconds;
	int64 microseconds;

	if (!json_int(json, path, &seconds) || pg_sub_s64_overflow(seconds, epoch_distance, &seconds) ||
		seconds >= SECONDS_AFTER_9999 ||
		pg_mul_s64_overflow(seconds, USECS_PER_SEC, &microseconds) ||
		!IS_VALID_TIMESTAMP(microseconds))
		return 0;
	return microseconds;
}

/* Exactly count digits; the text goes on behind them. */
static bool
take_digits(const char **text, int count, int *value)
{
	*value = 0;
	for (int i = 0; i < count; i++, (*text)++)
	{
		if (**text < '0' || **text > '9')
			return false;
		*value = *value * 10 + (**text - '0');
	}
	return true;
}

static bool
take_character(const char **text, const char *allowed)
{
	if (**text == '\0' || strchr(allowed, **text) == NULL)
		return false;
	(*text)++;
	return true;
}

/* ".25" as microseconds; nothing is 0, a point without digits is wrong. */
static bool
take_fraction(const char **text, int *microseconds)
{
	int unit = USECS_PER_SEC / 10;

	*microseconds = 0;
	if (**text != '.')
		return true;
	(*text)++;
	if (**text < '0' || **text > '9')
		return false;
	for (; **text >= '0' && **text <= '9'; (*text)++, unit /= 10)
		*microseconds += (**text - '0') * unit;
	return true;
}

/* "Z" or "+01:00", as seconds east of Greenwich, to the end of the text. */
static bool
take_zone(const char *text, int *seconds)
{
	bool west = *text == '-';
	int hours;
	int minutes;

	*seconds = 0;
	if ((*text == 'Z' || *text == 'z') && text[1] == '\0')
		return true;
	if (!take_character(&text, "+-") || !take_digits(&text, 2, &hours) ||
		!take_character(&text, ":") || !take_digits(&text, 2, &minutes) || *text != '\0' ||
		hours > 23 || minutes > 59)
		return false;
	*seconds = (hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE) * (west ? -1 : 1);
	return true;
}

/* A leap second is the second after it, as in PostgreSQL. */
static bool
read_rfc3339(const char *text, TimestampTz *time)
{
	int year, month, day, hour, minute, second, microseconds, zone;
	int64 seconds;

	if (!take_digits(&text, 4, &year) || !take_character(&text, "-") ||
		!take_digits(&text, 2, &month) || !take_character(&text, "-") ||
		!take_digits(&text, 2, &day) || !take_character(&text, "Tt ") ||
		!take_digits(&text, 2, &hour) || !take_character(&text, ":") ||
		!take_digits(&text, 2, &minute) || !take_character(&text, ":") ||
		!take_digits(&text, 2, &second) || !take_fraction(&text, &microseconds) ||
		!take_zone(text, &zone))
		return false;
	if (year < 1 || month < 1 || month > MONTHS_PER_YEAR || day < 1 ||
		day > day_tab[isleap(year)][month - 1] || hour > 23 || minute > 59 || second > 60)
		return false;
	seconds = (int64) (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * SECS_PER_DAY +
			  hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE + second - zone;
	*time = seconds * USECS_PER_SEC + microseconds;
	return IS_VALID_TIMESTAMP(*time);
}

TimestampTz
json_rfc3339_time(const Jsonb *json, const char *path)
{
	JsonbValue value;
	TimestampTz time;

	if (!find(json, path, &value) || value.type != jbvString ||
		!read_rfc3339(json_scalar_text(&value), &time))
		return 0;
	return time;
}

char *
rfc3339_text(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t fraction;

	if (timestamp2tm(time, NULL, &tm, &fraction, NULL, NULL) != 0)
		elog(ERROR, "timestamp out of range");
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour,
					tm.tm_min, tm.tm_sec);
}

/* Keys come first, one behind the other; nothing is copied to look at them. */
bool
json_next_named(const Jsonb *object, const char *name, int *position, JsonbValue *value)
{
	JsonbContainer *container = &unconstify(Jsonb *, object)->root;
	int count = (int) JsonContainerSize(container);
	const char *keys = (const char *) &container->children[2 * count];
	int name_length = (int) strlen(name);

	while (*position < count)
	{
		int i = (*position)++;
		int length = (int) getJsonbLength(container, i);
		const char *key;

		if (length != name_length)
			continue;
		key = keys + getJsonbOffset(container, i);
		if (pg_strncasecmp(key, name, (size_t) length) == 0 &&
			getKeyJsonValueFromContainer(container, key, length, value) != NULL)
			return true;
	}
	return false;
}

void
json_visit(const Jsonb *json, JsonVisitor visitor, void *context)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue value;
	char *key = NULL;

	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
		return;

	iterator = JsonbIteratorInit(&unconstify(Jsonb *, json)->root);
	(void) JsonbIteratorNext(&iterator, &value, true);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			visitor(key, &value, context);
	}
}

char *
json_string(const Jsonb *json)
{
	return JsonbToCString(NULL, &unconstify(Jsonb *, json)->root, VARSIZE(json));
}

/* ------------------------------------------------------------------------
 * Building
 *
 * Keys and values are copied, because jsonb is put together only at the end
 * and a caller's buffer may be gone by then.
 * ------------------------------------------------------------------------
 */
static void
push_text(JsonBuilder *builder, JsonbIteratorToken token, const char *text)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.len = (int) strlen(text);
	value.val.string.val = pstrdup(text);
	pushJsonbValue(&builder->state, token, &value);
}

/* pushJsonbValue() takes containers apart but keeps no bare scalar of a root. */
static void
push_json(JsonBuilder *builder, JsonbIteratorToken token, const Jsonb *json)
{
	Jsonb *copy = palloc(VARSIZE(json));
	JsonbValue value;

	memcpy(copy, json, VARSIZE(json));
	if (!find(copy, "", &value))
		elog(ERROR, "jsonb without a root");
	pushJsonbValue(&builder->state, token, &value);
}

void
json_open(JsonBuilder *builder)
{
	builder->state = NULL;
	pushJsonbValue(&builder->state, WJB_BEGIN_OBJECT, NULL);
}

void
json_add_text(JsonBuilder *builder, const char *key, const char *value)
{
	if (value == NULL)
		return;
	push_text(builder, WJB_KEY, key);
	push_text(builder, WJB_VALUE, value);
}

void
json_add_int(JsonBuilder *builder, const char *key, int64 value)
{
	JsonbValue number;

	number.type = jbvNumeric;
	number.val.numeric = int64_to_numeric(value);
	push_text(builder, WJB_KEY, key);
	pushJsonbValue(&builder->state, WJB_VALUE, &number);
}

void
json_add_bool(JsonBuilder *builder, const char *key, bool value)
{
	JsonbValue boolean;

	boolean.type = jbvBool;
	boolean.val.boolean = value;
	push_text(builder, WJB_KEY, key);
	pushJsonbValue(&builder->state, WJB_VALUE, &boolean);
}

void
json_add_null(JsonBuilder *builder, const char *key)
{
	JsonbValue null;

	null.type = jbvNull;
	push_text(builder, WJB_KEY, key);
	pushJsonbValue(&builder->state, WJB_VALUE, &null);
}

void
json_add_json(JsonBuilder *builder, const char *key, const Jsonb *value)
{
	if (value == NULL)
		return;
	push_text(builder, WJB_KEY, key);
	push_json(builder, WJB_VALUE, value);
}

void
json_add_time(JsonBuilder *builder, const char *key, TimestampTz value)
{
	if (value != 0)
		json_add_int(builder, key, timestamptz_to_time_t(value));
}

void
json_copy(JsonBuilder *builder, const Jsonb *from, const char *const *names)
{
	for (int i = 0; names[i] != NULL; i++)
	{
		JsonbValue value;

		if (from == NULL || !find(from, names[i], &value))
			continue;
		push_text(builder, WJB_KEY, names[i]);
		if (value.type == jbvBinary)
			push_json(builder, WJB_VALUE, JsonbValueToJsonb(&value));
		else
			pushJsonbValue(&builder->state, WJB_VALUE, &value);
	}
}

void
json_open_object(JsonBuilder *builder, const char *key)
{
	push_text(builder, WJB_KEY, key);
	pushJsonbValue(&builder->state, WJB_BEGIN_OBJECT, NULL);
}

void
json_close_object(JsonBuilder *builder)
{
	pushJsonbValue(&builder->state, WJB_END_OBJECT, NULL);
}

void
json_open_array(JsonBuilder *builder, const char *key)
{
	push_text(builder, WJB_KEY, key);
	pushJsonbValue(&builder->state, WJB_BEGIN_ARRAY, NULL);
}

void
json_append_text(JsonBuilder *builder, const char *value)
{
	if (value != NULL)
		push_text(builder, WJB_ELEM, value);
}

void
json_append_int(JsonBuilder *builder, int64 value)
{
	JsonbValue number;

	number.type = jbvNumeric;
	number.val.numeric = int64_to_numeric(value);
	pushJsonbValue(&builder->state, WJB_ELEM, &number);
}

void
json_append_null(JsonBuilder *builder)
{
	JsonbValue null;

	null.type = jbvNull;
	pushJsonbValue(&builder->state, WJB_ELEM, &null);
}

void
json_append_json(JsonBuilder *builder, const Jsonb *value)
{
	if (value != NULL)
		push_json(builder, WJB_ELEM, value);
}

void
json_close_array(JsonBuilder *builder)
{
	pushJsonbValue(&builder->state, WJB_END_ARRAY, NULL);
}

Jsonb *
json_close(JsonBuilder *builder)
{
	JsonbValue *object = pushJsonbValue(&builder->state, WJB_END_OBJECT, NULL);

	builder->state = NULL;
	return JsonbValueToJsonb(object);
}

Jsonb *
json_empty(void)
{
	JsonBuilder builder;

	json_open(&builder);
	return json_close(&builder);
}
