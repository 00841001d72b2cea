/*
 * fuzz_events.c
 *		Arbitrary bytes as headers and body of a webhook, inside a backend.
 *
 * What reads events works on jsonb and in memory contexts, so this target is a
 * module that a backend loads: the function fuzz_events() hands the backend
 * over to libFuzzer, with the arguments of a fuzzing program, and never
 * returns.  test/fuzz/in_backend makes the server and calls it.
 *
 * The input is cut at its first zero byte into headers (JSON) and body.  Each
 * provider is asked for the signature, the identity and the reading of it, as
 * src/webhooks.c does it.  The body and its jsonb end where a page ends that
 * nobody may touch, so that a read past them is seen without the address
 * sanitizer, which the server's programs do not start under (they hang in the
 * first call of gettext).  Beside that it is a failure when anything raises an ERROR (bad input is told by results there, never by errors), when a
 * stranger's signature is accepted, and when a snapshot has a text that is not
 * UTF-8, a time that is none, or JSON that cannot be walked.
 */
#include "provider.h"

#include <sys/mman.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "json.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "webhook_headers.h"

#define NOW 1700000000

extern int LLVMFuzzerRunDriver(int *argc, char ***argv,
							   int (*run)(const uint8_t *data, size_t size));

static const char *const providers[] = {"stripe", "conekta", "polar"};

/* Nobody who makes up inputs knows these. */
static const char *const secrets[] = {
	"whsec_4ef1c7b2a09d5e836f7a1c4d9b0e2f53",
	"-----BEGIN PUBLIC KEY-----\n"
	"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7MGxamT8VhwomgxouT7+\n"
	"AlYki+arWSlj/8Vq4t4clzAN9Td0RA/infoRkETNoe20Rr2sxzas8jVOXgrULXbI\n"
	"mIyPEvG8HK7R0LHTHCN1CwmMBw3+P047z4bosdJkB0ueD+JaGKUuVy98rxvMRhRo\n"
	"1pIAY0dT2SUgdtoNOh/kAb5trzGTHZ0My/6oUcxaVJ3hmlyz3LL3ok0+O3ye+K8t\n"
	"C0X7MN91MHPtFb8GtI5KjFElzbWganUqz51l2ZZi3pBdS0T3nGX1xwEiCHd+8O36\n"
	"6HADwiJFCrlAKV8odYf+yTB6xl3pkNilP8WuSEbrMra5j3mq7/iFHJcW6nPUT9yg\n"
	"aQIDAQAB\n"
	"-----END PUBLIC KEY-----\n",
	"polar_whs_h1f0c2b7d9e4a6835c7b1d0f9e2a4c6b8d",
};

/* ------------------------------------------------------------------------
 * What was read is touched
 * ------------------------------------------------------------------------
 */
static void
finding(const char *what)
{
	write_stderr("FINDING: %s\n", what);
	abort();
}

static void
touch_text(const char *text)
{
	if (text != NULL && !pg_verify_mbstr(PG_UTF8, text, (int) strlen(text), true))
		finding("a text that is not UTF-8");
}

static void
touch_time(TimestampTz time)
{
	if (!IS_VALID_TIMESTAMP(time))
		finding("a time that is none");
}

static void
touch_json(const Jsonb *json)
{
	if (json != NULL)
		touch_text(json_string(json));
}

#define TOUCH_TEXTS(...)                                               \
	do                                                                 \
	{                                                                  \
		const char *const texts[] = {__VA_ARGS__};                     \
                                                                       \
		for (size_t touched = 0; touched < lengthof(texts); touched++) \
			touch_text(texts[touched]);                                \
	} while (0)

#define TOUCH_TIMES(...)                                               \
	do                                                                 \
	{                                                                  \
		const TimestampTz times[] = {__VA_ARGS__};                     \
                                                                       \
		for (size_t touched = 0; touched < lengthof(times); touched++) \
			touch_time(times[touched]);                                \
	} while (0)

static void
touch_subscription(const SubscriptionSnapshot *s)
{
	TOUCH_TEXTS(s->customer, s->price, s->item, s->status, s->provider_status, s->currency,
				s->pending_price, s->payment_method, s->client_secret);
	TOUCH_TIMES(s->current_period_start, s->current_period_end, s->trial_start, s->trial_end,
				s->cancel_at, s->canceled_at, s->ended_at, s->resumes_at);
}

static void
touch_invoice(const InvoiceSnapshot *s)
{
	TOUCH_TEXTS(s->customer, s->subscription, s->number, s->status, s->currency, s->billing_reason,
				s->payment_intent, s->hosted_url, s->pdf_url);
	TOUCH_TIMES(s->period_start, s->period_end, s->due_at, s->paid_at, s->next_attempt_at,
				s->created_at);
}

static void
touch_payment_intent(const PaymentIntentSnapshot *s)
{
	TOUCH_TEXTS(s->customer, s->status, s->provider_status, s->currency, s->method,
				s->payment_method, s->charge, s->client_secret, s->error_code, s->decline_code,
				s->cancellation_reason, s->invoice, s->subscription, s->checkout_session,
				s->receipt_url);
	touch_json(s->next_action);
	TOUCH_TIMES(s->expires_at, s->paid_at, s->created_at);
}

static void
touch_checkout_session(const CheckoutSessionSnapshot *s)
{
	TOUCH_TEXTS(s->kind, s->status, s->provider_status, s->payment_status, s->url, s->client_secret,
				s->customer, s->payment_intent, s->subscription, s->setup_intent, s->invoice,
				s->currency);
	touch_time(s->expires_at);
}

static void
touch_payment_method(const PaymentMethodSnapshot *s)
{
	TOUCH_TEXTS(s->customer, s->type, s->brand, s->last4, s->wallet);
	touch_json(s->reference);
}

static void
touch_setup_intent(const SetupIntentSnapshot *s)
{
	TOUCH_TEXTS(s->customer, s->status, s->provider_status, s->payment_method, s->client_secret,
				s->error_code);
	touch_json(s->next_action);
}

static void
touch_refund(const RefundSnapshot *s)
{
	TOUCH_TEXTS(s->payment_intent, s->charge, s->status, s->currency, s->reason, s->error_code,
				s->dispute);
	touch_time(s->created_at);
}

static void
touch_dispute(const DisputeSnapshot *s)
{
	TOUCH_TEXTS(s->payment_intent, s->charge, s->status, s->provider_status, s->currency,
				s->reason);
	TOUCH_TIMES(s->evidence_due_by, s->created_at);
}

static void
touch_snapshot(const ProviderSnapshot *snapshot)
{
	if (snapshot->provider_id == NULL || *snapshot->provider_id == '\0')
		finding("a snapshot of nothing");
	TOUCH_TEXTS(snapshot->provider_id, snapshot->reference);
	touch_time(snapshot->as_of);
	switch (snapshot->type)
	{
		case BILLING_CUSTOMER:
			TOUCH_TEXTS(snapshot->customer.email, snapshot->customer.name, snapshot->customer.phone,
						snapshot->customer.default_payment_method);
			break;
		case BILLING_PAYMENT_METHOD:
			touch_payment_method(&snapshot->payment_method);
			break;
		case BILLING_SUBSCRIPTION:
			touch_subscription(&snapshot->subscription);
			break;
		case BILLING_INVOICE:
			touch_invoice(&snapshot->invoice);
			break;
		case BILLING_SETUP_INTENT:
			touch_setup_intent(&snapshot->setup_intent);
			break;
		case BILLING_PAYMENT_INTENT:
			touch_payment_intent(&snapshot->payment_intent);
			break;
		case BILLING_REFUND:
			touch_refund(&snapshot->refund);
			break;
		case BILLING_DISPUTE:
			touch_dispute(&snapshot->dispute);
			break;
		case BILLING_CHECKOUT_SESSION:
			touch_checkout_session(&snapshot->checkout_session);
			break;
		case BILLING_METER:
			TOUCH_TEXTS(snapshot->meter.event_name, snapshot->meter.aggregation,
						snapshot->meter.error_code);
			TOUCH_TIMES(snapshot->meter.errors_at);
			break;
		case BILLING_PRODUCT:
		case BILLING_PRICE:
		case BILLING_PORTAL_SESSION:
		case BILLING_WEBHOOK_ENDPOINT:
			break;
		case BILLING_USAGE:
		case BILLING_OBJECT_COUNT:
			finding("a snapshot of no kind");
	}
}

/* ------------------------------------------------------------------------
 * One input
 * ------------------------------------------------------------------------
 */
typedef struct Input
{
	WebhookHeaders headers;
	const char *body;
	size_t length;
} Input;

/* Memory that ends where a page begins that nobody may touch. */
typedef struct Fenced
{
	char *end;
	size_t size;
} Fenced;

#define FENCED_SIZE (8 * 1024 * 1024)
#define FENCE_SIZE  (64 * 1024)

static Fenced fenced_body;
static Fenced fenced_json;

static void
fence(Fenced *fenced)
{
	char *start = mmap(NULL, FENCED_SIZE + FENCE_SIZE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED || mprotect(start + FENCED_SIZE, FENCE_SIZE, PROT_NONE) != 0)
		elog(ERROR, "could not fence memory: %m");
	*fenced = (Fenced){start + FENCED_SIZE, FENCED_SIZE};
}

/* A copy right before the fence; what does not fit stays where it is. */
static const void *
put_before(const Fenced *fenced, const void *bytes, size_t size, size_t alignment)
{
	size_t taken = (size + alignment - 1) / alignment * alignment;

	if (taken > fenced->size)
		return bytes;
	return memcpy(fenced->end - taken, bytes, size);
}

static void
must_refuse(const Provider *module, const Input *input)
{
	WebhookTolerance tolerance = {.past = 300, .future = 300};
	SignatureSecret strange[lengthof(secrets)];
	SignatureResult result;

	for (size_t i = 0; i < lengthof(secrets); i++)
		strange[i] = (SignatureSecret){secrets[i], strlen(secrets[i])};
	result = module->verify(input->body, input->length, &input->headers, strange, lengthof(strange),
							NOW, tolerance, NULL);
	if (result == SIGNATURE_OK || result == SIGNATURE_TOO_OLD || result == SIGNATURE_TOO_NEW)
		finding("a signature that nobody made is accepted");
}

static void
read_body(const Provider *module, const Jsonb *payload, const WebhookHeaders *headers)
{
	EventIdentity identity;
	EventReading reading;
	ListCell *cell;

	if (!module->identify_event(payload, headers, &identity))
		return;
	if (identity.id == NULL || *identity.id == '\0' || identity.type == NULL)
		finding("an event without a name");
	TOUCH_TEXTS(identity.id, identity.type, identity.sub_account);
	touch_time(identity.time);
	module->read_event(payload, &reading);
	touch_text(reading.ignored);
	foreach (cell, reading.snapshots)
		touch_snapshot(lfirst(cell));
}

static void
run_input(const Input *input)
{
	const char *reason;
	Jsonb *payload = json_parse(input->body, input->length, &reason);

	if ((payload == NULL) != (reason != NULL))
		finding("a body is neither read nor refused");
	if (payload != NULL)
		payload = unconstify(void *,
							 put_before(&fenced_json, payload, VARSIZE(payload), sizeof(uint32)));
	for (size_t i = 0; i < lengthof(providers); i++)
	{
		const Provider *module = provider_find(providers[i]);

		must_refuse(module, input);
		if (payload != NULL)
			read_body(module, payload, &input->headers);
	}
}

/* What is no object of headers stands for none but the name of the event. */
static WebhookHeaders
headers_from(const char *text, size_t length)
{
	const char *reason;
	Jsonb *json = json_parse(text, length, &reason);

	return json != NULL && JB_ROOT_IS_OBJECT(json) ? webhook_headers_of(json)
												   : webhook_headers_kept("evt_1");
}

static void
report(void)
{
	ErrorData *error = CopyErrorData();

	write_stderr("FINDING: an ERROR: %s: %s\n", unpack_sql_state(error->sqlerrcode),
				 error->message);
	abort();
}

static int
run_one(const uint8_t *data, size_t size)
{
	/* not of a size that PostgreSQL keeps for the next one: what is freed is freed */
	MemoryContext memory = AllocSetContextCreate(TopMemoryContext, "fuzz", 0, 16 * 1024,
												 ALLOCSET_DEFAULT_MAXSIZE);
	MemoryContext before = MemoryContextSwitchTo(memory);
	const uint8_t *cut = size == 0 ? NULL : memchr(data, 0, size);
	size_t header_length = cut == NULL ? 0 : (size_t) (cut - data);
	size_t start = cut == NULL ? 0 : header_length + 1;
	Input input = {.length = size - start};

	input.body = put_before(&fenced_body, data + start, input.length, 1);
	PG_TRY();
	{
		input.headers = headers_from((const char *) data, header_length);
		run_input(&input);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		report();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);
	MemoryContextDelete(memory);
	return 0;
}

PGDLLEXPORT Datum fuzz_events(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(fuzz_events);

/* fuzz_events(arguments text[]): the arguments of a libFuzzer program. */
Datum
fuzz_events(PG_FUNCTION_ARGS)
{
	Datum *words;
	int count;
	char **arguments;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &words, NULL,
					  &count);
	arguments = palloc0(sizeof(char *) * (size_t) (count + 2));
	arguments[0] = pstrdup("fuzz_events");
	for (int i = 0; i < count; i++)
		arguments[i + 1] = TextDatumGetCString(words[i]);
	count++;
	fence(&fenced_body);
	fence(&fenced_json);
	PG_RETURN_INT32(LLVMFuzzerRunDriver(&count, &arguments, run_one));
}
