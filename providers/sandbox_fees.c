/*-------------------------------------------------------------------------
 *
 * sandbox_fees.c
 *	  What the sandbox keeps of payments, refunds and disputes.
 *
 * Called where money moves: by sandbox_payments.c, sandbox_refunds.c and
 * sandbox_disputes.c; the option is checked when an account gets it.  A fee is
 * fixed when the money moves: another option counts from then on.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox_fees.h"

#define ALL_OF_IT      10000 /* basis points */
#define MAX_FEE        1000000000
#define HALF_UP(of, d) (((of) + (d) / 2) / (d))

/* ------------------------------------------------------------------------
 * The option
 * ------------------------------------------------------------------------
 */

typedef struct FeeMember
{
	const char *name;
	int64 least;
	int64 most;
} FeeMember;

static const FeeMember members[] = {
	{"basis_points", 0, ALL_OF_IT},
	{"fixed", 0, MAX_FEE},
	{"refund", -MAX_FEE, MAX_FEE},
	{"dispute", -MAX_FEE, MAX_FEE},
};

static bool
is_currency_code(const char *code)
{
	return code != NULL && strlen(code) == 3 && strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3;
}

/* Sets *context when a member of "fees" cannot be read. */
static void
check_member(const char *key, const JsonbValue *value, void *context)
{
	bool *wrong = context;
	const char *text = json_scalar_text(value);

	if (strcmp(key, "currency") == 0)
	{
		*wrong |= value->type != jbvString || !is_currency_code(text);
		return;
	}
	for (size_t i = 0; i < lengthof(members); i++)
	{
		char *end;
		int64 number;

		if (strcmp(key, members[i].name) != 0)
			continue;
		errno = 0;
		number = value->type == jbvNumeric ? strtoll(text, &end, 10) : 0;
		*wrong |= value->type != jbvNumeric || errno != 0 || *end != '\0' ||
				  number < members[i].least || number > members[i].most;
		return;
	}
	*wrong = true;
}

const char *
sandbox_check_options(const Jsonb *options)
{
	Jsonb *fees = json_part(options, "fees");
	bool wrong = false;

	if (fees == NULL && json_text(options, "fees") == NULL)
		return NULL; /* not there, or to be taken away */
	if (fees == NULL || !JB_ROOT_IS_OBJECT(fees))
		return "fees is an object";
	json_visit(fees, check_member, &wrong);
	if (wrong)
		return "fees has basis_points (0 to 10000), fixed, refund and dispute (whole minor units) "
			   "and currency, and nothing else";
	return NULL;
}

/* ------------------------------------------------------------------------
 * The fees
 * ------------------------------------------------------------------------
 */

static const char *
fee_currency(const Sandbox *sandbox, const char *currency)
{
	const char *own = json_text(sandbox->fees, "currency");

	return own != NULL ? own : currency;
}

void
sandbox_fee_of_payment(const Sandbox *sandbox, SandboxPayment *payment)
{
	int64 basis_points = 0;
	int64 fixed = 0;
	bool told;

	if (sandbox->fees == NULL)
		return;
	told = json_int(sandbox->fees, "basis_points", &basis_points);
	told |= json_int(sandbox->fees, "fixed", &fixed);
	if (!told)
		return;
	payment->fee.amount = fixed + HALF_UP(payment->amount_received * basis_points, ALL_OF_IT);
	payment->fee.currency = fee_currency(sandbox, payment->currency);
}

FeeSnapshot
sandbox_fee_of(const Sandbox *sandbox, const char *what, const char *currency)
{
	FeeSnapshot fee = {0, NULL};

	if (sandbox->fees != NULL && json_int(sandbox->fees, what, &fee.amount))
		fee.currency = fee_currency(sandbox, currency);
	return fee;
}
