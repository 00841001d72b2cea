/*-------------------------------------------------------------------------
 *
 * webhook_headers.c
 *	  The headers of a webhook, as the application passes them on.
 *
 * They come from outside and are read before any signature is checked, so
 * nothing in them may end in an ERROR but that they are no object.  What is no
 * text (null, an object, a list within a list) is as if it had not been sent.
 *
 *-------------------------------------------------------------------------
 */
#include "webhook_headers.h"

#include "json.h"
#include "lib/stringinfo.h"

/* "a,b" of ["a", "b"]; NULL when there is no text in it. */
static char *
joined(const Jsonb *list)
{
	StringInfoData text = {0};
	int count = json_length(list, "");

	for (int i = 0; i < count; i++)
	{
		char *value = json_text(list, psprintf("%d", i));

		if (value == NULL)
			continue;
		if (text.data == NULL)
			initStringInfo(&text);
		else
			appendStringInfoChar(&text, ',');
		appendStringInfoString(&text, value);
	}
	return text.data;
}

/* Names of headers have no case; a name that is sent twice is one list (RFC 9110, 5.3). */
static const char *
lookup_header(const char *name, void *context)
{
	char *text = NULL;
	int position = 0;
	JsonbValue value;

	while (text == NULL && json_next_named(context, name, &position, &value))
		text = value.type == jbvBinary ? joined(JsonbValueToJsonb(&value))
									   : json_scalar_text(&value);
	return text;
}

WebhookHeaders
webhook_headers_of(const Jsonb *headers)
{
	if (headers == NULL || !JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("headers is not an object"),
				 errhint("Pass the request's headers as {\"name\": \"value\"}.")));
	return (WebhookHeaders){lookup_header, unconstify(Jsonb *, headers)};
}

static const char *
kept_header(const char *name, void *context)
{
	return context;
}

WebhookHeaders
webhook_headers_kept(const char *event_id)
{
	return (WebhookHeaders){kept_header, unconstify(char *, event_id)};
}
