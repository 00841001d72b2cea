/*-------------------------------------------------------------------------
 *
 * invoice_checkout.c
 *	  Pages of the provider on which one of our own invoices is paid.
 *
 * A page is a checkout session (checkout.c) of exactly what is due, whose
 * payment carries the invoice: what comes of it is booked as any other payment
 * (collection_money.c).  As long as it can be paid it is the one attempt in
 * flight (payments.c), and each page ends, so that it holds nothing else for
 * ever.  It is closed when the invoice is not to be paid any more, or not by
 * that amount (checkout_closing.c); who was faster has a balance.
 *
 * Called by callers, and by collection for invoices that are sent.
 *
 *-------------------------------------------------------------------------
 */
#include "collection.h"

#include "utils/fmgroids.h"

#include "check.h"
#include "checkout.h"
#include "errors.h"
#include "payments.h"
#include "printing.h"
#include "routing.h"

/* An open page is shown again while somebody still has the time to pay on it. */
#define TIME_TO_PAY     (INT64CONST(600) * USECS_PER_SEC)
#define DEFAULT_SECONDS (23.0 * SECS_PER_HOUR)

/* ---- what is paid ---- */

QUERY(locale_of, "SELECT locale FROM billing.customers WHERE id = $1", UUIDOID);

/* One line, named as the invoice is, in the language of the page. */
static Jsonb *
line_of(const OwnInvoice *invoice, const char *locale)
{
	JsonBuilder lines;
	JsonBuilder line;

	if (locale == NULL && RUN(locale_of, arg_uuid(invoice->customer_id)) > 0)
		locale = row_text(0, 1);
	json_open(&line);
	json_add_text(
		&line, "name",
		invoice->number == NULL
			? invoice->title
			: psprintf("%s %s", label_in(print_language(locale), LABEL_INVOICE), invoice->number));
	json_add_int(&line, "amount", invoice->remaining);
	json_add_text(&line, "currency", invoice->currency);
	json_open(&lines);
	json_open_array(&lines, "lines");
	json_append_json(&lines, json_close(&line));
	json_close_array(&lines);
	return json_part(json_close(&lines), "lines");
}

/* Some providers decide by themselves when a page ends. */
static bool
takes_an_end(const Account *account, TimestampTz end)
{
	JsonBuilder b;
	const char *alternative;

	json_open(&b);
	json_add_text(&b, "mode", "payment");
	json_add_time(&b, "expires_at", end);
	return account_supports(account, OPERATION_CHECKOUT_SESSION_CREATE, json_close(&b),
							&alternative) == SUPPORTED;
}

static void
set_end(CheckoutTerms *terms, const OwnInvoice *invoice, const Account *account)
{
	if (terms->expires_at != 0)
		return;
	terms->ends_about = invoice->now +
						(TimestampTz) (setting_seconds("invoice_page_lifetime", DEFAULT_SECONDS) *
									   USECS_PER_SEC);
	if (takes_an_end(account, terms->ends_about))
		terms->expires_at = terms->ends_about;
}

static Account *
account_for(const OwnInvoice *invoice, const Customer *customer, const char *provider,
			const char *account)
{
	bool another = provider != NULL && strcmp(provider, invoice->provider) != 0;

	if (account == NULL && !another)
		account = invoice->account;
	return route_account(&(RouteTerms){.provider = another ? provider : invoice->provider,
									   .account = account,
									   .currency = invoice->currency,
									   .amount = invoice->remaining,
									   .operation = OPERATION_CHECKOUT_SESSION_CREATE,
									   .customer = customer});
}

/* ---- pages that are there already ---- */

QUERY(
	pages_of,
	"SELECT c.id, c.provider = $2 AND c.account = $3 AND (c.line_items #>> '{0,amount}')::bigint = $4, c.success_url, c.cancel_url, "
	"c.expires_at FROM billing.checkout_sessions AS c WHERE c.invoice_id = $1 AND c.status IN ('pending', 'open') "
	"AND c.expires_at > $5 ORDER BY c.created_at DESC, c.id DESC",
	UUIDOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID);

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Nothing is asked for but a page as it is there. */
static bool
is_plain(const CheckoutTerms *terms)
{
	return terms->methods == NULL && terms->installments == NULL && terms->locale == NULL &&
		   terms->expires_at == 0;
}

/*
 * The page that can be shown once more; NULL: there is none, and whatever else
 * is open is being closed.  JB010 where the provider closes none.
 */
static pg_uuid_t *
page_to_show(const OwnInvoice *invoice, const CheckoutTerms *terms, const Account *account)
{
	Rows rows;

	RUN(pages_of, arg_uuid(invoice->id), arg_text(account->provider), arg_text(account->account),
		arg_int(invoice->remaining), arg_time(invoice->now));
	rows = rows_keep();
	for (int64 i = 0; i < rows_count(rows); i++)
	{
		pg_uuid_t *id = rows_uuid(rows, i, 1);
		TimestampTz end = rows_time(rows, i, 5);
		bool same = rows_bool(rows, i, 2) && is_plain(terms) &&
					same_text(rows_text(rows, i, 3), checkout_url(terms->success_url, id)) &&
					same_text(rows_text(rows, i, 4), checkout_url(terms->cancel_url, id)) &&
					!outbox_under_way(id, OPERATION_CHECKOUT_SESSION_EXPIRE);

		if (same && end > invoice->now + TIME_TO_PAY)
			return id;
		if (checkout_close(id))
			continue;
		if (same)
			return id;
		ereport(ERROR, (errcode(ERRCODE_JB_DUPLICATE_PAYMENT),
						errmsg("invoice \"%s\" is being paid already", uuid_text(invoice->id)),
						errdetail("It can be paid on the page of checkout session %s until %s.",
								  uuid_text(id), timestamptz_to_str(end)),
						errhint("%s closes no page before its time: show that one, or wait.",
								account->provider)));
	}
	return NULL;
}

/* ---- a page ---- */

static pg_uuid_t *
page_create(const OwnInvoice *invoice, CheckoutTerms *terms, const char *provider,
			const char *account_name)
{
	Customer *customer = customer_load(invoice->customer_id, true);
	Account *account;
	pg_uuid_t *id;

	if (customer->deleted)
		unknown_object("customer", uuid_text(customer->id), NULL);
	account = account_for(invoice, customer, provider, account_name);
	payment_refuse_other_seller(invoice->id, account->provider);
	payment_refuse_beside_page(invoice->id);
	id = page_to_show(invoice, terms, account);
	if (id != NULL)
		return id;
	terms->mode = "payment";
	terms->currency = invoice->currency;
	terms->line_items = line_of(invoice, terms->locale);
	if (terms->metadata == NULL)
		terms->metadata = invoice->metadata;
	terms->invoice_id = invoice->id;
	set_end(terms, invoice, account);
	return checkout_session_create(terms, customer, account);
}

#define NO_TERMS                                                                        \
	.quantity = NOT_NAMED, .trial_days = NOT_NAMED, .allow_promotion_codes = NOT_NAMED, \
	.collect_tax_id = NOT_NAMED, .automatic_tax = NOT_NAMED, .max_payments = NOT_NAMED

#define ARG_ARRAY(n) (PG_ARGISNULL(n) ? NULL : PG_GETARG_ARRAYTYPE_P(n))
#define ARRAY_TEXT(n) \
	(PG_ARGISNULL(n) ? NULL : OidOutputFunctionCall(F_ARRAY_OUT, PG_GETARG_DATUM(n)))

SQL_FUNCTION(billing_create_invoice_checkout)
{
	pg_uuid_t *invoice_id = ARG_UUID(0);
	CheckoutTerms terms = {
		NO_TERMS,
		.success_url = ARG_TEXT(1),
		.cancel_url = ARG_TEXT(2),
		.methods = ARG_ARRAY(3),
		.installments = ARG_ARRAY(4),
		.locale = ARG_TEXT(5),
		.expires_at = ARG_TIME(6),
		.metadata = ARG_JSON(7),
	};
	char *provider = ARG_TEXT(8);
	char *account = ARG_TEXT(9);
	char *key = ARG_TEXT(10);
	KeyedArgument arguments[] = {
		{"invoice_id", invoice_id == NULL ? NULL : uuid_text(invoice_id)},
		{"success_url", terms.success_url},
		{"cancel_url", terms.cancel_url},
		{"methods", ARRAY_TEXT(3)},
		{"installments", ARRAY_TEXT(4)},
		{"locale", terms.locale},
		{"expires_at", psprintf(INT64_FORMAT, terms.expires_at)},
		{"metadata", terms.metadata == NULL ? NULL : json_string(terms.metadata)},
		{"provider", provider},
		{"account", account},
	};
	OwnInvoice *invoice;
	pg_uuid_t *id;

	checkout_check_no_card(&terms);
	db_open();
	check_given("invoice_id", invoice_id != NULL);
	checkout_check_terms(&terms);
	invoice = own_invoice_load(invoice_id);
	id = invoice == NULL ? NULL
						 : idempotency_find("create_invoice_checkout", invoice->organization_id,
											key, arguments, lengthof(arguments));
	if (id == NULL)
	{
		invoice = own_invoice_only(
			invoice_id, "It was made by the provider, who collects it.",
			"billing.invoice_links() has the page on which it is paid there.");
		if (terms.success_url == NULL)
			terms.success_url = setting_text("invoice_success_url");
		if (terms.cancel_url == NULL)
			terms.cancel_url = setting_text("invoice_cancel_url");
		check_given("success_url", terms.success_url != NULL);
		id = page_create(invoice, &terms, provider, account);
		idempotency_store("create_invoice_checkout", invoice->organization_id, key, id);
	}
	PG_RETURN_DATUM(db_close_uuid(id));
}

/* ---- by itself, for what is sent ---- */

static void
make_page(void *context)
{
	CheckoutTerms terms = {NO_TERMS};

	terms.success_url = setting_text("invoice_success_url");
	terms.cancel_url = setting_text("invoice_cancel_url");
	(void) page_create(context, &terms, NULL, NULL);
}

QUERY(pages_wanted,
	  "SELECT FROM billing.settings WHERE name = 'hosted_invoice_page' AND value::boolean",
	  InvalidOid);
QUERY(
	note_error,
	"UPDATE billing.invoices SET error_code = $2, updated_at = now() WHERE id = $1 AND error_code IS NULL",
	UUIDOID, TEXTOID);

/* An invoice for which there can be no page is sent all the same. */
void
invoice_page_offer(const OwnInvoice *invoice)
{
	char *sqlstate;
	char *message;

	if (payment_in_flight(invoice->id, NULL) ||
		guarded(make_page, unconstify(OwnInvoice *, invoice), &sqlstate, &message))
		return;
	if (sqlstate_passes(sqlstate))
		ereport(ERROR, (errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3],
											  sqlstate[4])),
						errmsg_internal("%s", message)));
	ereport(LOG, (errmsg("invoice \"%s\" of billing has no page on which it is paid: %s",
						 uuid_text(invoice->id), message)));
	RUN(note_error, arg_uuid(invoice->id), arg_text(sqlstate));
}

void
invoice_page_by_itself(const OwnInvoice *invoice)
{
	if (RUN(pages_wanted, arg_null()) > 0)
		invoice_page_offer(invoice);
}
