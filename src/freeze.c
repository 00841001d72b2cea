/*-------------------------------------------------------------------------
 *
 * freeze.c
 *	  Requests and answers as text, to be sealed into the outbox.
 *
 * A request is frozen before it is sent, so that the same bytes go out when
 * it is sent again under the same key.  An answer is frozen when it cannot be
 * applied at once.  Both are a list of fields, each with its length in front.
 *
 *-------------------------------------------------------------------------
 */
#include "freeze.h"

#include "keys.h"
#include "lib/stringinfo.h"

#define REQUEST_COLUMN "outbox.request"
#define ANSWER_COLUMN  "outbox.answer"
#define ABSENT         "-"

static void
put_field(StringInfo out, const char *bytes, size_t length)
{
	if (bytes == NULL)
	{
		appendStringInfoString(out, ABSENT "\n");
		return;
	}
	appendStringInfo(out, "%zu\n", length);
	appendBinaryStringInfo(out, bytes, (int) length);
}

static void
put_text(StringInfo out, const char *text)
{
	put_field(out, text, text == NULL ? 0 : strlen(text));
}

static void
put_number(StringInfo out, int64 number)
{
	put_text(out, psprintf(INT64_FORMAT, number));
}

/* The seal has proven that the bytes are ours: a wrong length cannot happen. */
static char *
take_field(char **at, size_t *length)
{
	char *end;
	char *field;

	*length = 0;
	if (strncmp(*at, ABSENT "\n", 2) == 0)
	{
		*at += 2;
		return NULL;
	}
	*length = strtoul(*at, &end, 10);
	Assert(*end == '\n');
	field = palloc(*length + 1);
	memcpy(field, end + 1, *length);
	field[*length] = '\0';
	*at = end + 1 + *length;
	return field;
}

static char *
take_text(char **at)
{
	size_t length;

	return take_field(at, &length);
}

static int64
take_number(char **at)
{
	return strtoll(take_text(at), NULL, 10);
}

bytea *
freeze_request(const pg_uuid_t *id, const ProviderRequest *request)
{
	StringInfoData out;
	ListCell *cell;

	initStringInfo(&out);
	put_text(&out, request->method);
	put_text(&out, request->path);
	put_number(&out, request->timeout_ms);
	put_number(&out, list_length(request->headers));
	foreach (cell, request->headers)
		put_text(&out, lfirst(cell));
	put_field(&out, request->body, request->body_length);
	return seal(REQUEST_COLUMN, id, out.data, out.len);
}

void
thaw_request(const pg_uuid_t *id, const bytea *frozen, ProviderRequest *request)
{
	size_t length;
	char *at = unseal(REQUEST_COLUMN, id, frozen, &length);
	int64 headers;

	request->method = take_text(&at);
	request->path = take_text(&at);
	request->timeout_ms = (int) take_number(&at);
	headers = take_number(&at);
	request->headers = NIL;
	for (int64 i = 0; i < headers; i++)
		request->headers = lappend(request->headers, take_text(&at));
	request->body = take_field(&at, &request->body_length);
}

bytea *
freeze_answer(const pg_uuid_t *id, const HttpResponse *response)
{
	StringInfoData out;

	initStringInfo(&out);
	put_number(&out, response->transport);
	put_number(&out, response->status);
	put_number(&out, response->sent_at);
	put_number(&out, response->received_at);
	put_text(&out, response->headers);
	put_field(&out, response->body, response->body_length);
	return seal(ANSWER_COLUMN, id, out.data, out.len);
}

void
thaw_answer(const pg_uuid_t *id, const bytea *frozen, HttpResponse *response)
{
	size_t length;
	char *at = unseal(ANSWER_COLUMN, id, frozen, &length);

	memset(response, 0, sizeof(*response));
	response->transport = (HttpTransport) take_number(&at);
	response->status = (int) take_number(&at);
	response->sent_at = take_number(&at);
	response->received_at = take_number(&at);
	response->headers = take_text(&at);
	response->body = take_field(&at, &response->body_length);
	if (response->headers == NULL)
		response->headers = "";
}
