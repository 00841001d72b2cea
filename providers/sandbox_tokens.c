/*-------------------------------------------------------------------------
 *
 * sandbox_tokens.c
 *	  The payment methods that the sandbox knows: published test tokens of the
 *	  providers, and what becomes of them.
 *
 * Data only, and the questions that the other files of the sandbox ask of it.
 * Like at the real provider, a card that declines every charge cannot be
 * attached: attaching is declined with the code that a charge would have.
 * pm_card_chargeCustomerFail is the one that attaches and declines later.
 * Tokens whose name speaks of refunds and disputes pay first; their sequel
 * says what comes after.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include "lib/stringinfo.h"

#define CARD(name, brand, last4, behaviour, code)                       \
	{                                                                   \
		name, "card", brand, last4, behaviour, code, SANDBOX_STAYS_PAID \
	}
#define CARD_THEN(name, last4, sequel)                          \
	{                                                           \
		name, "card", "visa", last4, SANDBOX_PAYS, NULL, sequel \
	}
#define BANK(name, last4, behaviour, code, sequel)                                  \
	{                                                                               \
		name, "us_bank_account", "STRIPE TEST BANK", last4, behaviour, code, sequel \
	}
#define SEPA(name, last4, behaviour, code, sequel)               \
	{                                                            \
		name, "sepa_debit", NULL, last4, behaviour, code, sequel \
	}
#define REFERENCE(type)                                                                     \
	{                                                                                       \
		type, type, NULL, NULL, SANDBOX_DECLINES, "customer_has_to_pay", SANDBOX_STAYS_PAID \
	}

static const SandboxToken tokens[] = {
	CARD("pm_card_visa", "visa", "4242", SANDBOX_PAYS, NULL),
	CARD("pm_card_mastercard", "mastercard", "4444", SANDBOX_PAYS, NULL),
	CARD("pm_card_amex", "amex", "0005", SANDBOX_PAYS, NULL),
	CARD("tok_test_visa_4242", "visa", "4242", SANDBOX_PAYS, NULL),
	CARD("tok_test_mastercard_4444", "mastercard", "4444", SANDBOX_PAYS, NULL),
	CARD("tok_test_amex_0005", "amex", "0005", SANDBOX_PAYS, NULL),

	CARD("pm_card_chargeDeclined", "visa", "0002", SANDBOX_NOT_ATTACHED, "card_declined"),
	CARD("pm_card_visa_chargeDeclined", "visa", "0002", SANDBOX_NOT_ATTACHED, "card_declined"),
	CARD("tok_test_card_declined", "visa", "0002", SANDBOX_NOT_ATTACHED, "card_declined"),
	CARD("pm_card_visa_chargeDeclinedInsufficientFunds", "visa", "9995", SANDBOX_NOT_ATTACHED,
		 "insufficient_funds"),
	CARD("tok_test_insufficient_funds", "visa", "9995", SANDBOX_NOT_ATTACHED, "insufficient_funds"),
	CARD("pm_card_visa_chargeDeclinedLostCard", "visa", "9987", SANDBOX_NOT_ATTACHED, "lost_card"),
	CARD("pm_card_visa_chargeDeclinedStolenCard", "visa", "9979", SANDBOX_NOT_ATTACHED,
		 "stolen_card"),
	CARD("pm_card_chargeDeclinedExpiredCard", "visa", "0069", SANDBOX_NOT_ATTACHED, "expired_card"),
	CARD("pm_card_chargeDeclinedIncorrectCvc", "visa", "0127", SANDBOX_NOT_ATTACHED,
		 "incorrect_cvc"),
	CARD("pm_card_chargeDeclinedProcessingError", "visa", "0119", SANDBOX_NOT_ATTACHED,
		 "processing_error"),

	CARD("pm_card_chargeCustomerFail", "visa", "0341", SANDBOX_DECLINES, "card_declined"),
	CARD("pm_card_authenticationRequired", "visa", "3184", SANDBOX_AUTHENTICATES,
		 "authentication_required"),
	CARD("pm_card_authenticationRequiredOnSetup", "visa", "3155", SANDBOX_AUTHENTICATES_ONCE,
		 "authentication_required"),
	CARD_THEN("pm_card_createDispute", "0259", SANDBOX_IS_DISPUTED),
	CARD_THEN("pm_card_createDisputeInquiry", "1976", SANDBOX_IS_INQUIRED),
	CARD_THEN("pm_card_pendingRefund", "7726", SANDBOX_REFUNDS_PEND),
	CARD_THEN("pm_card_refundFail", "5126", SANDBOX_REFUNDS_FAIL),
	CARD_THEN("tok_test_msi_error", "4242", SANDBOX_REFUSES_INSTALMENTS),

	BANK("pm_usBankAccount_success", "6789", SANDBOX_SETTLES, NULL, SANDBOX_STAYS_PAID),
	BANK("pm_usBankAccount_insufficientFunds", "2227", SANDBOX_BOUNCES, "insufficient_funds",
		 SANDBOX_STAYS_PAID),
	BANK("pm_usBankAccount_accountClosed", "1113", SANDBOX_BOUNCES, "account_closed",
		 SANDBOX_STAYS_PAID),
	BANK("pm_usBankAccount_dispute", "5559", SANDBOX_SETTLES, NULL, SANDBOX_IS_DISPUTED),
	BANK("pm_usBankAccount_processing", "0009", SANDBOX_KEEPS_PROCESSING, NULL, SANDBOX_STAYS_PAID),

	SEPA("pm_success_de", "3000", SANDBOX_SETTLES, NULL, SANDBOX_STAYS_PAID),
	SEPA("pm_failed_de", "3001", SANDBOX_BOUNCES, "generic_could_not_process", SANDBOX_STAYS_PAID),
	SEPA("pm_disputed_de", "3002", SANDBOX_SETTLES, NULL, SANDBOX_IS_DISPUTED),
};

/* What the customer pays to by himself; nobody can charge it. */
static const SandboxToken reference_tokens[] = {
	REFERENCE("oxxo"),
	REFERENCE("spei"),
	REFERENCE("cash_recurrent"),
	REFERENCE("spei_recurrent"),
};

/* Declines after which the same method is not tried again. */
static const char *const final_codes[] = {
	"stolen_card",
	"lost_card",
	"expired_card",
	"incorrect_number",
	"account_closed",
	"debit_not_authorized",
	"authentication_required",
};

static const SandboxToken *
find_token(const SandboxToken *list, size_t count, const char *name)
{
	for (size_t i = 0; name != NULL && i < count; i++)
	{
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	}
	return NULL;
}

const SandboxToken *
sandbox_token(const char *name)
{
	return find_token(tokens, lengthof(tokens), name);
}

const SandboxToken *
sandbox_reference_token(const char *type)
{
	return find_token(reference_tokens, lengthof(reference_tokens), type);
}

SandboxChargeOutcome
sandbox_token_outcome(const SandboxToken *token, bool authenticated, bool off_session)
{
	switch (token->behaviour)
	{
		case SANDBOX_PAYS:
			return SANDBOX_CHARGE_SUCCEEDED;
		case SANDBOX_AUTHENTICATES_ONCE:
			if (authenticated)
				return SANDBOX_CHARGE_SUCCEEDED;
			/* fall through */
		case SANDBOX_AUTHENTICATES:
			return off_session ? SANDBOX_CHARGE_DECLINED : SANDBOX_CHARGE_NEEDS_ACTION;
		case SANDBOX_SETTLES:
		case SANDBOX_BOUNCES:
		case SANDBOX_KEEPS_PROCESSING:
			return SANDBOX_CHARGE_PROCESSING;
		case SANDBOX_NOT_ATTACHED:
		case SANDBOX_DECLINES:
			break;
	}
	return SANDBOX_CHARGE_DECLINED;
}

const char *
sandbox_token_hint(void)
{
	StringInfoData hint;

	initStringInfo(&hint);
	appendStringInfoString(&hint, "The sandbox takes the published test tokens: ");
	for (size_t i = 0; i < lengthof(tokens); i++)
		appendStringInfo(&hint, "%s%s", i == 0 ? "" : ", ", tokens[i].name);
	appendStringInfoChar(&hint, '.');
	return hint.data;
}

/* Bank debits take days; the clock of the test has to be moved that far. */
int64
sandbox_settlement_delay(const SandboxToken *token)
{
	if (strcmp(token->type, "us_bank_account") == 0)
		return 4 * PERIOD_SECONDS_PER_DAY;
	if (strcmp(token->type, "sepa_debit") == 0)
		return 5 * PERIOD_SECONDS_PER_DAY;
	return 0;
}

bool
sandbox_decline_is_final(const char *code)
{
	for (size_t i = 0; code != NULL && i < lengthof(final_codes); i++)
	{
		if (strcmp(final_codes[i], code) == 0)
			return true;
	}
	return false;
}
