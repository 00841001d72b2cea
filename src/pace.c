/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  How fast, and whether at all, requests go to an account.
 *
 * Three things hold requests back, each account's its own:
 *
 * - a token bucket: what the provider takes in a second, by its module or by
 *   the account's option rate_per_second (0: not limited);
 * - a 429: the whole account pauses for as long as the provider asks;
 * - a circuit breaker: after several calls in a row without a usable answer
 *   (no connection, no answer, 5xx) nothing is sent for a while, then one
 *   request probes; an answer closes the circuit, another failure doubles the
 *   pause.
 *
 * Called by the delivery alone.  The state is the process's own, and a
 * session in run_worker() has its own bucket beside the worker's.  Only
 * transitions are written, to billing.provider_circuits: for people, and for
 * the process that comes next.
 *
 *-------------------------------------------------------------------------
 */
#include "pace.h"

#include "json.h"
#include "subjects.h"
#include "utils/memutils.h"

/*
 * The bucket holds a tenth of a second's requests and fills with nine tenths,
 * so that no second sees more than the limit.
 */
#define BUCKET_SHARE 0.1
#define UNLIMITED    INT_MAX

/* A 429 that does not say for how long. */
#define THROTTLE_PAUSE_SECONDS 1
/* Nobody pauses longer because of one header. */
#define THROTTLE_MAX_SECONDS      3600
#define CIRCUIT_PAUSE_MAX_SECONDS 600.0

typedef enum Circuit
{
	CIRCUIT_CLOSED,
	CIRCUIT_OPEN,
	CIRCUIT_HALF_OPEN /* one request is on its way to see */
} Circuit;

static const char *const circuit_names[] = {"closed", "open", "half_open"};

struct AccountPace
{
	pg_uuid_t id;
	TimestampTz changed_at; /* of the account, when this began */
	bool embedded;
	double rate; /* a second; 0: not limited */
	double tokens;
	TimestampTz filled_at;
	TimestampTz throttled_until;
	Circuit circuit;
	TimestampTz circuit_until;
	double circuit_pause; /* seconds, of the present opening */
	int failures;         /* in a row */
	int in_flight;
	bool noted; /* the table says the same */
};

/* List of AccountPace *, a few. */
static List *paces = NIL;
static MemoryContext pace_memory = NULL;

void
pace_open(void)
{
	ListCell *cell;

	if (pace_memory == NULL)
		/* lives as long as the process: a few bytes for each account */
		pace_memory = AllocSetContextCreate(TopMemoryContext, "billing pace", ALLOCSET_SMALL_SIZES);
	foreach (cell, paces)
	{
		AccountPace *pace = lfirst(cell);

		pace->in_flight = 0;
		/* nobody brings the answer of that probe any more */
		if (pace->circuit == CIRCUIT_HALF_OPEN)
			pace->circuit = CIRCUIT_OPEN;
	}
}

static double
rate_of(const Account *account)
{
	char *option = json_text(account->options, "rate_per_second");

	if (account->module->embedded != NULL)
		return 0;
	if (option != NULL)
		return strtod(option, NULL);
	return account->livemode ? account->module->pace.live : account->module->pace.test;
}

static double
bucket_size(const AccountPace *pace)
{
	return Max(1.0, pace->rate * BUCKET_SHARE);
}

static TimestampTz
after_seconds(double seconds)
{
	return GetCurrentTimestamp() + (int64) (seconds * USECS_PER_SEC);
}

QUERY(
	load_circuit,
	"SELECT state, until, pause_seconds, failures, throttled_until FROM billing.provider_circuits "
	"WHERE account_id = $1 AND noted_at > $2",
	UUIDOID, TIMESTAMPTZOID);

/* As another process left it, unless the account was configured since then. */
static void
start(AccountPace *pace, const Account *account)
{
	bool isnull;
	Datum seconds;

	pace->changed_at = account->updated_at;
	pace->embedded = account->module->embedded != NULL;
	pace->rate = rate_of(account);
	pace->tokens = bucket_size(pace);
	pace->filled_at = GetCurrentTimestamp();
	pace->throttled_until = 0;
	pace->circuit = CIRCUIT_CLOSED;
	pace->circuit_until = 0;
	pace->circuit_pause = 0;
	pace->failures = 0;
	pace->noted = true;
	if (pace->embedded)
		return;
	if (RUN(load_circuit, arg_uuid(account->id), arg_time(account->updated_at)) == 0)
		return;
	/* whoever probed is gone: the time of the next probe has come */
	if (strcmp(row_text(0, 1), circuit_names[CIRCUIT_CLOSED]) != 0)
		pace->circuit = CIRCUIT_OPEN;
	pace->circuit_until = row_time(0, 2);
	seconds = rows_datum(SPI_tuptable, 0, 3, &isnull);
	pace->circuit_pause = isnull ? 0 : DatumGetFloat8(seconds);
	pace->failures = row_int4(0, 4);
	pace->throttled_until = row_time(0, 5);
}

AccountPace *
pace_of(const Account *account)
{
	AccountPace *pace = NULL;
	MemoryContext old;
	ListCell *cell;

	foreach (cell, paces)
	{
		pace = lfirst(cell);
		if (uuid_equal(&pace->id, account->id))
		{
			if (pace->changed_at != account->updated_at)
				start(pace, account);
			return pace;
		}
	}
	old = MemoryContextSwitchTo(pace_memory);
	pace = palloc0(sizeof(AccountPace));
	pace->id = *account->id;
	paces = lappend(paces, pace);
	MemoryContextSwitchTo(old);
	start(pace, account);
	return pace;
}

/* ------------------------------------------------------------------------
 * Before sending
 * ------------------------------------------------------------------------
 */
static void
fill(AccountPace *pace)
{
	TimestampTz now = GetCurrentTimestamp();
	double seconds = (double) (now - pace->filled_at) / USECS_PER_SEC;

	pace->filled_at = now;
	if (seconds > 0)
		pace->tokens = Min(bucket_size(pace),
						   pace->tokens + seconds * pace->rate * (1 - BUCKET_SHARE));
}

/* The pause is over and nobody probes yet. */
static bool
may_probe(const AccountPace *pace)
{
	return pace->circuit == CIRCUIT_OPEN && pace->circuit_until <= GetCurrentTimestamp();
}

int
pace_allowance(AccountPace *pace)
{
	int allowed = UNLIMITED;

	if (pace->throttled_until > GetCurrentTimestamp())
		return 0;
	if (pace->rate > 0)
	{
		fill(pace);
		allowed = (int) pace->tokens;
	}
	if (pace->circuit == CIRCUIT_CLOSED)
		return allowed;
	return may_probe(pace) ? Min(allowed, 1) : 0;
}

/* Half a bucket at a time: a worker that wakes for every single token would do little else. */
static TimestampTz
filled_at(AccountPace *pace)
{
	double wanted = Max(1.0, bucket_size(pace) / 2);

	if (pace->rate <= 0)
		return 0;
	fill(pace);
	if (pace->tokens >= 1)
		return 0;
	return after_seconds((wanted - pace->tokens) / (pace->rate * (1 - BUCKET_SHARE)));
}

TimestampTz
pace_ready_at(AccountPace *pace)
{
	TimestampTz ready = Max(filled_at(pace), pace->throttled_until);

	if (pace->circuit == CIRCUIT_OPEN)
		ready = Max(ready, pace->circuit_until);
	return ready > GetCurrentTimestamp() ? ready : 0;
}

bool
pace_only_filling(AccountPace *pace)
{
	return pace->circuit == CIRCUIT_CLOSED && pace->throttled_until <= GetCurrentTimestamp() &&
		   filled_at(pace) != 0;
}

void
pace_sent(AccountPace *pace)
{
	pace->in_flight++;
	pace->tokens -= 1;
	if (may_probe(pace))
	{
		pace->circuit = CIRCUIT_HALF_OPEN;
		pace->noted = false;
	}
}

void
pace_released(AccountPace *pace)
{
	pace->in_flight--;
}

int
pace_in_flight(const AccountPace *pace)
{
	return pace->in_flight;
}

/* ------------------------------------------------------------------------
 * After the answer
 * ------------------------------------------------------------------------
 */
static void
open_circuit(AccountPace *pace)
{
	double first = setting_seconds("circuit_pause", 30);

	pace->circuit_pause = pace->circuit == CIRCUIT_HALF_OPEN ? pace->circuit_pause * 2 : first;
	pace->circuit_pause = Min(pace->circuit_pause, Max(first, CIRCUIT_PAUSE_MAX_SECONDS));
	pace->circuit = CIRCUIT_OPEN;
	pace->circuit_until = after_seconds(pace->circuit_pause);
	pace->noted = false;
}

/* Of several that were in flight together, the first one opens; the others say nothing new. */
static void
failed(AccountPace *pace)
{
	pace->failures++;
	if (pace->circuit == CIRCUIT_HALF_OPEN ||
		(pace->circuit == CIRCUIT_CLOSED && pace->failures >= setting_int("circuit_threshold", 5)))
		open_circuit(pace);
}

static void
answered(AccountPace *pace)
{
	pace->failures = 0;
	if (pace->circuit == CIRCUIT_CLOSED)
		return;
	pace->circuit = CIRCUIT_CLOSED;
	pace->circuit_until = 0;
	pace->noted = false;
}

static void
throttled(AccountPace *pace, int retry_after)
{
	int seconds = retry_after < 0 ? THROTTLE_PAUSE_SECONDS : Min(retry_after, THROTTLE_MAX_SECONDS);
	TimestampTz until = after_seconds(seconds);

	if (until <= pace->throttled_until)
		return;
	pace->throttled_until = until;
	pace->noted = false;
}

/* Bytes that are no HTTP, or too many of them, come from somebody who is there. */
void
pace_answered(AccountPace *pace, const HttpResponse *response)
{
	if (pace->embedded)
		return;
	if (response->transport == HTTP_NOT_SENT || response->transport == HTTP_NO_ANSWER ||
		response->status >= 500)
		failed(pace);
	else
		answered(pace);
	if (response->status == 429)
		throttled(pace, http_retry_after(response));
}

QUERY(note_circuit,
	  "INSERT INTO billing.provider_circuits AS c "
	  "(account_id, state, until, pause_seconds, failures, throttled_until, noted_at) "
	  "SELECT $1, $2, $3, $4, $5, $6, clock_timestamp() "
	  "WHERE EXISTS (SELECT FROM billing.provider_accounts WHERE id = $1) "
	  "ON CONFLICT (account_id) DO UPDATE SET state = excluded.state, until = excluded.until, "
	  "pause_seconds = excluded.pause_seconds, failures = excluded.failures, "
	  "throttled_until = excluded.throttled_until, noted_at = excluded.noted_at",
	  UUIDOID, TEXTOID, TIMESTAMPTZOID, FLOAT8OID, INT4OID, TIMESTAMPTZOID);

void
pace_note(void)
{
	ListCell *cell;

	foreach (cell, paces)
	{
		AccountPace *pace = lfirst(cell);

		if (pace->noted)
			continue;
		pace->noted = true;
		RUN(note_circuit, arg_uuid(&pace->id), arg_text(circuit_names[pace->circuit]),
			arg_time(pace->circuit == CIRCUIT_CLOSED ? 0 : pace->circuit_until),
			arg_datum(Float8GetDatum(pace->circuit_pause), pace->circuit == CIRCUIT_CLOSED),
			arg_int4(pace->failures), arg_time(pace->throttled_until));
	}
}
