/*-------------------------------------------------------------------------
 *
 * common.c
 *	  What the rooms of several providers need: reading JSON, writing paths,
 *	  telling answers apart.
 *
 *-------------------------------------------------------------------------
 */
#include "common.h"

#include "lib/stringinfo.h"
#include "utils/formatting.h"

#include "json.h"

bool
same_text(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

bool
is_one_of(const char *word, const char *const *words)
{
	for (; word != NULL && *words != NULL; words++)
	{
		if (strcmp(word, *words) == 0)
			return true;
	}
	return false;
}

char *
text_or_none_at(const Jsonb *object, const char *path)
{
	char *text = json_text(object, path);

	return text == NULL && json_has(object, path) ? pstrdup("") : text;
}

char *
currency_at(const Jsonb *object, const char *path)
{
	char *currency = json_text(object, path);

	return currency == NULL ? NULL : asc_toupper(currency, strlen(currency));
}

int64
amount_at(const Jsonb *object, const char *path)
{
	int64 amount;

	return json_int(object, path, &amount) ? amount : NO_AMOUNT;
}

int
small_int_at(const Jsonb *object, const char *path)
{
	int64 value;

	if (!json_int(object, path, &value) || value < 0 || value > PG_INT32_MAX)
		return 0;
	return (int) value;
}

char *
path_part(const char *id, const char *argument)
{
	StringInfoData out;

	if (id == NULL || *id == '\0')
		elog(ERROR, "argument \"%s\" is missing", argument);
	initStringInfo(&out);
	http_escape(&out, id, strlen(id));
	return out.data;
}

const char *
http_transport_word(HttpTransport transport)
{
	switch (transport)
	{
		case HTTP_ANSWERED:
			return "answered";
		case HTTP_NOT_SENT:
			return "not_sent";
		case HTTP_NO_ANSWER:
			return "no_answer";
		case HTTP_TOO_LARGE:
			return "too_large";
		case HTTP_MALFORMED:
			return "malformed";
	}
	return NULL;
}

bool
answer_is_success(const HttpResponse *response)
{
	return response->transport == HTTP_ANSWERED && response->status >= 200 &&
		   response->status < 300;
}

void
result_set_error(CallResult *result, Outcome outcome, const char *type, const char *code)
{
	result->outcome = outcome;
	result->error_type = type;
	result->error_code = code;
}

bool
event_type_is(const char *type, const char *pattern)
{
	size_t length = strlen(pattern);

	return length > 0 && pattern[length - 1] == '*' ? strncmp(type, pattern, length - 1) == 0
													: strcmp(type, pattern) == 0;
}
