/*-------------------------------------------------------------------------
 *
 * sandbox_vouchers.c
 *	  Payments that are made elsewhere: OXXO and SPEI in the sandbox.
 *
 * The buyer gets a number: a reference of 14 digits to be read out at the till,
 * or a CLABE of 18 digits, the last of which controls the others.  Called by
 * sandbox_payments.c to give one out, by sandbox_clock.c and sandbox_buyer.c
 * when somebody pays to it.
 *
 * What the buyer will do stands in the payment's metadata, under "sandbox":
 * wishes with commas between them.  pay_after:P2D (which is the default) pays
 * that long after the beginning, late:P1D that long after the number has
 * expired, expire never; under:500 and over:500 pay so many minor units less
 * and more than the amount.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include "common/hashfn.h"

#define DEFAULT_PAY_AFTER   (2 * PERIOD_SECONDS_PER_DAY)
#define DEFAULT_VALIDITY    (3 * PERIOD_SECONDS_PER_DAY)
#define MAX_WISH_SECONDS    (3650 * PERIOD_SECONDS_PER_DAY)
#define MAX_WISH_DIFFERENCE INT64CONST(1000000000000)

/* Bank 646 (STP) and its branch 180: what the CLABEs of Conekta begin with. */
#define CLABE_PREFIX     "646180"
#define CLABE_ACCOUNT    11 /* digits */
#define REFERENCE_PREFIX "93"
#define REFERENCE_REST   12

/* ------------------------------------------------------------------------
 * Wishes
 * ------------------------------------------------------------------------
 */

/* Digits up to something else; false when there are none, or too many. */
static bool
read_number(const char **text, int64 *number)
{
	const char *from = *text;

	*number = 0;
	while (**text >= '0' && **text <= '9' && *text - from < 13)
		*number = *number * 10 + (*(*text)++ - '0');
	return *text > from && !(**text >= '0' && **text <= '9');
}

static int64
unit_seconds(char unit, bool of_day)
{
	switch (unit)
	{
		case 'W':
			return of_day ? 0 : 7 * PERIOD_SECONDS_PER_DAY;
		case 'D':
			return of_day ? 0 : PERIOD_SECONDS_PER_DAY;
		case 'H':
			return of_day ? 3600 : 0;
		case 'M': /* of a day: minutes; months have no fixed length */
			return of_day ? 60 : 0;
		case 'S':
			return of_day ? 1 : 0;
		default:
			return 0;
	}
}

/* A duration of ISO 8601 in weeks, days, hours, minutes and seconds, of the whole text. */
static bool
read_duration(const char *text, int64 *seconds)
{
	bool of_day = false;
	bool any = false;

	*seconds = 0;
	if (*text++ != 'P')
		return false;
	while (*text != '\0')
	{
		int64 number;
		int64 unit;

		if (*text == 'T' && !of_day)
		{
			of_day = true;
			any = false;
			text++;
			continue;
		}
		if (!read_number(&text, &number))
			return false;
		unit = unit_seconds(*text, of_day);
		if (unit == 0 || number > MAX_WISH_SECONDS / unit)
			return false;
		*seconds += number * unit;
		any = true;
		text++;
	}
	return any && *seconds <= MAX_WISH_SECONDS;
}

static bool
read_difference(const char *text, int64 *difference)
{
	return read_number(&text, difference) && *text == '\0' && *difference >= 1 &&
		   *difference <= MAX_WISH_DIFFERENCE;
}

static bool
read_one_wish(const char *word, SandboxWish *wish)
{
	int64 value;

	if (strcmp(word, "expire") == 0)
		wish->expires = true;
	else if (strncmp(word, "pay_after:", 10) == 0 && read_duration(word + 10, &value))
		wish->pay_after = value;
	else if (strncmp(word, "late:", 5) == 0 && read_duration(word + 5, &value) && value > 0)
		wish->late = value;
	else if (strncmp(word, "under:", 6) == 0 && read_difference(word + 6, &value))
		wish->difference = -value;
	else if (strncmp(word, "over:", 5) == 0 && read_difference(word + 5, &value))
		wish->difference = value;
	else
		return false;
	return true;
}

bool
sandbox_wish_read(const char *text, SandboxWish *wish)
{
	char *words;
	char *rest = NULL;

	memset(wish, 0, sizeof(*wish));
	wish->pay_after = DEFAULT_PAY_AFTER;
	if (text == NULL)
		return true;
	words = pstrdup(text);
	for (char *word = strtok_r(words, ", ", &rest); word != NULL;
		 word = strtok_r(NULL, ", ", &rest))
	{
		if (!read_one_wish(word, wish))
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------------
 * Numbers
 * ------------------------------------------------------------------------
 */

bool
sandbox_is_voucher(const char *kind)
{
	return kind != NULL && sandbox_reference_token(kind) != NULL;
}

/* So many digits that look like chance and are always the same for the id. */
static const char *
digits_of(const char *id, int count)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) id, (int) strlen(id), 0);
	uint64 limit = 1;

	for (int i = 0; i < count; i++)
		limit *= 10;
	return psprintf("%0*llu", count, (unsigned long long) (hash % limit));
}

/* Weights 3, 7, 1, each product modulo 10: the rule of the Mexican banks. */
static char
clabe_control_digit(const char *first17)
{
	static const int weights[] = {3, 7, 1};
	int sum = 0;

	for (int i = 0; i < 17; i++)
		sum += (first17[i] - '0') * weights[i % 3] % 10;
	return (char) ('0' + (10 - sum % 10) % 10);
}

const char *
sandbox_voucher_number(const char *kind, const char *id)
{
	const char *clabe;

	if (strncmp(kind, "spei", 4) != 0)
		return psprintf("%s%s", REFERENCE_PREFIX, digits_of(id, REFERENCE_REST));
	clabe = psprintf("%s%s", CLABE_PREFIX, digits_of(id, CLABE_ACCOUNT));
	return psprintf("%s%c", clabe, clabe_control_digit(clabe));
}

/* ------------------------------------------------------------------------
 * Payments
 * ------------------------------------------------------------------------
 */

void
sandbox_voucher_issue(Sandbox *sandbox, SandboxPayment *payment, int64 expires_at,
					  const char *wish_text)
{
	SandboxWish wish;

	(void) sandbox_wish_read(wish_text, &wish);
	payment->charge = sandbox_new_id(&sandbox->state, "ch");
	payment->number = sandbox_voucher_number(payment->kind, payment->charge);
	payment->expires_at = expires_at > sandbox->now ? expires_at : sandbox->now + DEFAULT_VALIDITY;
	payment->pay_amount = Max(payment->amount + wish.difference, 1);
	payment->pay_at = wish.expires     ? 0
					  : wish.late != 0 ? payment->expires_at + wish.late
									   : sandbox->now + wish.pay_after;
	payment->error_code = NULL;
	payment->decline_code = NULL;
	payment->status = SANDBOX_PAYMENT_REQUIRES_ACTION;
	sandbox_payment_event(sandbox, "payment_intent.requires_action", payment);
	sandbox_session_follow_payment(sandbox, payment);
}

/* Money that comes late counts like any other. */
void
sandbox_voucher_pay(Sandbox *sandbox, SandboxPayment *payment, int64 amount)
{
	payment->pay_at = 0;
	sandbox_payment_receive(sandbox, payment, amount);
}

/* Nobody has asked for this payment: it has no reference of ours. */
void
sandbox_number_pay(Sandbox *sandbox, const SandboxMethod *method, int64 amount)
{
	SandboxPayment *payment = sandbox_payment_new(sandbox, NULL, amount, "MXN");

	payment->kind = method->token->type;
	payment->token = method->token;
	payment->method = method->id;
	payment->charge = sandbox_new_id(&sandbox->state, "ch");
	sandbox_payment_receive(sandbox, payment, amount);
}
