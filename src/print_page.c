/*-------------------------------------------------------------------------
 *
 * print_page.c
 *	  Text, amounts and dates of printed documents; the frame of the page.
 *
 * Whatever people wrote goes through put_text(); everything else is written by
 * this room itself.  Amounts are grouped by blanks that do not break, with a
 * point before the decimals, which no locale reads as another number; days are
 * written as in ISO 8601.
 *
 *-------------------------------------------------------------------------
 */
#include "printing.h"

#include "json.h"
#include "mb/pg_wchar.h"
#include "money.h"

/* A blank that does not break a line. */
#define GROUP "&#160;"

static const char style[] =
	"@page { margin: 18mm 16mm; }\n"
	"* { box-sizing: border-box; }\n"
	"body { margin: 2rem auto; max-width: 50rem; padding: 0 1rem; color: #1a1a1a; background: #fff;\n"
	"  font: 0.9rem/1.45 -apple-system, \"Segoe UI\", Roboto, \"Liberation Sans\", Arial, sans-serif; }\n"
	"h1 { font-size: 1.7rem; margin: 0 0 1rem; }\n"
	"h2 { font-size: 0.8rem; margin: 0 0 0.3rem; text-transform: uppercase; letter-spacing: 0.05em; "
	"color: #555; }\n"
	"p { margin: 0; }\n"
	".test { display: inline-block; margin: 0 0 0.7rem; padding: 0.1rem 0.6rem; border: 1px solid "
	"#a33; color: #a33; }\n"
	".facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.5rem; margin: 0 "
	"0 1.5rem; }\n"
	".facts dt { color: #555; }\n"
	".facts dd { margin: 0; }\n"
	".parties { display: flex; gap: 2rem; margin: 0 0 1.5rem; }\n"
	".parties section { flex: 1; min-width: 0; overflow-wrap: anywhere; }\n"
	".parties .name { font-weight: 600; }\n"
	"table { width: 100%; border-collapse: collapse; margin: 0 0 1.5rem; }\n"
	"caption { text-align: left; font-weight: 600; padding: 0 0 0.3rem; }\n"
	"thead { display: table-header-group; }\n"
	"tr { break-inside: avoid; page-break-inside: avoid; }\n"
	"th, td { padding: 0.35rem 0.5rem; text-align: left; vertical-align: top; border-bottom: 1px "
	"solid #ddd;\n"
	"  overflow-wrap: anywhere; }\n"
	"thead th { border-bottom: 2px solid #555; overflow-wrap: normal; }\n"
	"tbody th { font-weight: normal; }\n"
	"tbody th[scope=rowgroup] { padding-top: 0.9rem; font-weight: 600; break-after: avoid; }\n"
	".n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }\n"
	".d { white-space: nowrap; }\n"
	".sums { width: auto; min-width: 50%; margin-left: auto; break-inside: avoid; "
	"page-break-inside: avoid; }\n"
	".sums .strong th, .sums .strong td { font-weight: 700; border-top: 2px solid #555; }\n"
	".sums .inside th, .sums .inside td { color: #555; }\n"
	".memo { white-space: pre-line; overflow-wrap: anywhere; }\n"
	".block { margin: 0 0 1.5rem; break-inside: avoid; }\n"
	"footer { border-top: 1px solid #ddd; padding-top: 0.6rem; font-size: 0.75rem; color: #555; }\n"
	".mark { position: fixed; top: 40%; left: 0; right: 0; text-align: center; font-size: 6rem; "
	"font-weight: 700;\n"
	"  letter-spacing: 0.1em; text-transform: uppercase; color: rgba(160, 0, 0, 0.13); transform: "
	"rotate(-30deg);\n"
	"  pointer-events: none; }\n"
	"@media print { body { margin: 0; max-width: none; padding: 0; font-size: 9.5pt; } }\n";

/* ---- text ---- */

void
put_html(PrintPage *page, const char *html)
{
	appendStringInfoString(&page->html, html);
}

void
put_label(PrintPage *page, Label label)
{
	put_html(page, label_in(page->language, label));
}

/* XML holds no controls but these three, and neither U+FFFE nor U+FFFF. */
static bool
is_in_xml(const char *at, int length)
{
	unsigned char c = (unsigned char) *at;

	if (length == 1)
		return c >= 0x20 || c == '\t' || c == '\n' || c == '\r';
	return !(GetDatabaseEncoding() == PG_UTF8 && length == 3 &&
			 (memcmp(at, "\xEF\xBF\xBE", 3) == 0 || memcmp(at, "\xEF\xBF\xBF", 3) == 0));
}

static const char *
escape_of(char c)
{
	switch (c)
	{
		case '<':
			return "&lt;";
		case '>':
			return "&gt;";
		case '&':
			return "&amp;";
		case '"':
			return "&quot;";
		case '\'':
			return "&#39;";
		default:
			return NULL;
	}
}

void
put_text(PrintPage *page, const char *text)
{
	int length;

	for (const char *at = text; at != NULL && *at != '\0'; at += length)
	{
		const char *escape = escape_of(*at);

		length = pg_mblen(at);
		if (!is_in_xml(at, length))
			escape = "&#65533;";
		if (escape != NULL)
			put_html(page, escape);
		else
			appendBinaryStringInfo(&page->html, at, length);
	}
}

/* ---- numbers ---- */

/* "-1234567.5" with its whole digits in groups of three. */
static void
put_grouped(PrintPage *page, const char *number)
{
	size_t digits;

	if (*number == '-')
	{
		appendStringInfoChar(&page->html, '-');
		number++;
	}
	digits = strspn(number, "0123456789");
	for (size_t i = 0; i < digits; i++)
	{
		if (i > 0 && (digits - i) % 3 == 0)
			put_html(page, GROUP);
		appendStringInfoChar(&page->html, number[i]);
	}
	put_html(page, number + digits);
}

void
put_amount(PrintPage *page, int64 amount)
{
	char text[MONEY_TEXT_SIZE];

	if (money_format(amount, page->exponent, text) != MONEY_OK)
		elog(ERROR, "amount with %d decimals", page->exponent);
	put_grouped(page, text);
}

void
put_money(PrintPage *page, int64 amount)
{
	put_amount(page, amount);
	appendStringInfo(&page->html, GROUP "%s", page->currency);
}

static MoneyFraction
fraction_of_text(const char *number)
{
	MoneyFraction fraction;

	if (money_fraction_parse(number, strlen(number), &fraction) != MONEY_OK)
		elog(ERROR, "\"%s\" is no number with at most %d decimals", number,
			 MONEY_FRACTION_DECIMALS);
	return fraction;
}

void
put_quantity(PrintPage *page, const char *number)
{
	char text[MONEY_TEXT_SIZE];

	money_fraction_format(fraction_of_text(number), text);
	put_grouped(page, text);
}

/* As many decimals as the currency has at least: 29.00, 0.0125. */
void
put_unit_price(PrintPage *page, const char *minor_units)
{
	char text[MONEY_TEXT_SIZE];
	char *point;
	int missing;

	if (money_fraction_format_major(fraction_of_text(minor_units), page->exponent, text) !=
		MONEY_OK)
		elog(ERROR, "price of %s with %d decimals", minor_units, page->exponent);
	put_grouped(page, text);
	point = strchr(text, '.');
	missing = page->exponent - (point == NULL ? 0 : (int) strlen(point + 1));
	if (point == NULL && missing > 0)
		appendStringInfoChar(&page->html, '.');
	for (int i = 0; i < missing; i++)
		appendStringInfoChar(&page->html, '0');
}

/* ---- days ---- */

void
put_date(PrintPage *page, TimestampTz moment)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;

	if (timestamp2tm(moment, &offset, &tm, &fsec, NULL, page->zone) != 0)
		elog(ERROR, "moment out of range");
	appendStringInfo(&page->html, "<time datetime=\"%04d-%02d-%02d\">%04d-%02d-%02d</time>",
					 tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_year, tm.tm_mon, tm.tm_mday);
}

/* &#8211; is the dash between two values. */
void
put_period(PrintPage *page, TimestampTz start, TimestampTz end)
{
	if (start == 0 || end == 0)
		return;
	put_date(page, start);
	put_html(page, " &#8211; ");
	put_date(page, end > start ? end - 1 : end);
}

/* ---- the frame ---- */

void
page_open(PrintPage *page, const char *locale, const char *zone, const char *currency, int exponent)
{
	initStringInfo(&page->html);
	page->language = print_language(locale);
	page->currency = currency;
	page->exponent = exponent;
	page->zone = zone == NULL ? NULL : pg_tzset(zone);
	if (page->zone == NULL)
		page->zone = pg_tzset("UTC");
}

void
page_head(PrintPage *page, Label title, const char *number, Label mark, bool livemode)
{
	const char *language = print_language_code(page->language);

	appendStringInfo(&page->html,
					 "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"%s\" "
					 "xml:lang=\"%s\">\n<head>\n<meta charset=\"utf-8\" />\n"
					 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n"
					 "<title>",
					 language, language);
	put_label(page, title);
	appendStringInfoChar(&page->html, ' ');
	if (number != NULL)
		put_text(page, number);
	else
		put_label(page, LABEL_DRAFT);
	appendStringInfo(&page->html, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", style);
	if (mark != LABELS)
	{
		put_html(page, "<div class=\"mark\" aria-hidden=\"true\">");
		put_label(page, mark);
		put_html(page, "</div>\n");
	}
	put_html(page, "<main>\n<h1>");
	put_label(page, title);
	if (number != NULL)
	{
		appendStringInfoChar(&page->html, ' ');
		put_text(page, number);
	}
	put_html(page, "</h1>\n");
	if (!livemode)
	{
		put_html(page, "<p class=\"test\">");
		put_label(page, LABEL_TEST);
		put_html(page, "</p>\n");
	}
}

static void
put_paragraph(PrintPage *page, const char *class, const char *text)
{
	if (text == NULL || *text == '\0')
		return;
	appendStringInfo(&page->html, "<p class=\"%s\">", class);
	put_text(page, text);
	put_html(page, "</p>\n");
}

char *
page_close(PrintPage *page, const Jsonb *seller)
{
	put_html(page, "</main>\n<footer>\n");
	put_paragraph(page, "memo", json_text(seller, "footer"));
	put_html(page, "<p>");
	put_label(page, LABEL_NO_FISCAL_DOCUMENT);
	put_html(page, "</p>\n<p>");
	put_label(page, LABEL_ZONE);
	appendStringInfoChar(&page->html, ' ');
	put_text(page, pg_get_timezone_name(page->zone));
	put_html(page, ".</p>\n</footer>\n</body>\n</html>\n");
	return page->html.data;
}

void
put_fact_open(PrintPage *page, Label label)
{
	put_html(page, "<dt>");
	put_label(page, label);
	put_html(page, "</dt><dd>");
}

void
put_fact_close(PrintPage *page)
{
	put_html(page, "</dd>\n");
}

/* ---- parties ---- */

/* "10115 Berlin, BE": what of an address stands in one line. */
static char *
place_of(const Jsonb *address)
{
	char *code = json_text(address, "postal_code");
	char *city = json_text(address, "city");
	char *state = json_text(address, "state");
	StringInfoData line;

	initStringInfo(&line);
	if (code != NULL)
		appendStringInfoString(&line, code);
	if (city != NULL)
		appendStringInfo(&line, "%s%s", line.len > 0 ? " " : "", city);
	if (state != NULL)
		appendStringInfo(&line, "%s%s", line.len > 0 ? ", " : "", state);
	return line.data;
}

static void
put_tax_ids(PrintPage *page, const Jsonb *party)
{
	for (int i = 0; i < json_length(party, "tax_ids"); i++)
	{
		put_html(page, "<p class=\"tax-id\">");
		put_label(page, LABEL_TAX_ID);
		put_html(page, ": ");
		put_text(page, json_text(party, psprintf("tax_ids.%d.value", i)));
		put_html(page, "</p>\n");
	}
}

void
put_party(PrintPage *page, Label label, const Jsonb *party)
{
	Jsonb *address;
	char *country;

	if (party == NULL)
		return;
	address = json_part(party, "address");
	country = json_text(address, "country");
	appendStringInfo(&page->html, "<section class=\"%s\">\n<h2>",
					 label == LABEL_SELLER ? "seller" : "customer");
	put_label(page, label);
	put_html(page, "</h2>\n");
	put_paragraph(page, "name", json_text(party, "name"));
	put_paragraph(page, "line", json_text(address, "line1"));
	put_paragraph(page, "line", json_text(address, "line2"));
	put_paragraph(page, "line", place_of(address));
	put_paragraph(page, "line", country != NULL ? country : json_text(party, "country"));
	put_paragraph(page, "email", json_text(party, "email"));
	put_tax_ids(page, party);
	put_html(page, "</section>\n");
}

/* ---- tables ---- */

void
grid_open(PrintPage *page, Label caption, const Column *columns, int count)
{
	put_html(page, "<table>\n<caption>");
	put_label(page, caption);
	put_html(page, "</caption>\n<thead>\n<tr>");
	for (int i = 0; i < count; i++)
	{
		put_html(page,
				 columns[i].is_number ? "<th scope=\"col\" class=\"n\">" : "<th scope=\"col\">");
		put_label(page, columns[i].label);
		if (columns[i].in_currency)
			appendStringInfo(&page->html, " (%s)", page->currency);
		put_html(page, "</th>");
	}
	put_html(page, "</tr>\n</thead>\n");
}

/* Labels are in its first column. */
void
sums_open(PrintPage *page)
{
	put_html(page, "<table class=\"sums\">\n<caption>");
	put_label(page, LABEL_SUMMARY);
	put_html(page, "</caption>\n<tbody>\n");
}

void
grid_close(PrintPage *page)
{
	put_html(page, "</table>\n");
}

void
rows_open(PrintPage *page)
{
	put_html(page, "<tbody>\n");
}

void
rows_close(PrintPage *page)
{
	put_html(page, "</tbody>\n");
}

void
cell_open(PrintPage *page, bool is_number)
{
	put_html(page, is_number ? "<td class=\"n\">" : "<td>");
}

void
cell_close(PrintPage *page)
{
	put_html(page, "</td>");
}

void
put_sum(PrintPage *page, const char *style_name, Label label, const char *text, int64 amount)
{
	appendStringInfo(&page->html, "<tr class=\"%s\"><th scope=\"row\">", style_name);
	if (label != LABELS)
		put_label(page, label);
	if (label != LABELS && text != NULL)
		put_html(page, ": ");
	put_text(page, text);
	put_html(page, "</th><td class=\"n\">");
	put_money(page, amount);
	put_html(page, "</td></tr>\n");
}

/* Tax inside is told in the words, because it is in the sum already. */
static void
put_tax(PrintPage *page, Rows rows, int64 row)
{
	const char *name = rows_text(rows, row, 1);
	bool taxed = rows_bool(rows, row, 2);
	bool inside = taxed && rows_bool(rows, row, 4);

	put_html(page, inside ? "<tr class=\"tax inside\">" : "<tr class=\"tax\">");
	put_html(page, "<th scope=\"row\">");
	if (name != NULL)
		put_text(page, name);
	else
		put_label(page, LABEL_TAX);
	if (taxed && !rows_null(rows, row, 3))
	{
		appendStringInfoChar(&page->html, ' ');
		put_quantity(page, rows_text(rows, row, 3));
		put_html(page, GROUP "%");
	}
	put_html(page, " (");
	if (inside)
	{
		put_label(page, LABEL_INCLUDED);
		put_html(page, ", ");
	}
	put_label(page, LABEL_TAX_BASE);
	appendStringInfoChar(&page->html, ' ');
	put_money(page, rows_int(rows, row, 5));
	put_html(page, ")</th><td class=\"n\">");
	put_money(page, rows_int(rows, row, 6));
	put_html(page, "</td></tr>\n");
}

bool
put_taxes(PrintPage *page, Rows rows)
{
	bool reason = false;

	for (int64 row = 0; row < rows_count(rows); row++)
	{
		put_tax(page, rows, row);
		reason = reason || !rows_bool(rows, row, 2);
	}
	return reason;
}

void
put_exemption(PrintPage *page, const char *tax_exempt)
{
	bool reverse = tax_exempt != NULL && strcmp(tax_exempt, "reverse") == 0;

	if (!reverse && (tax_exempt == NULL || strcmp(tax_exempt, "exempt") != 0))
		return;
	put_html(page, "<p class=\"block exemption\">");
	put_label(page, reverse ? LABEL_REVERSE_CHARGE : LABEL_EXEMPT);
	put_html(page, "</p>\n");
}

void
put_memo(PrintPage *page, const char *memo)
{
	if (memo == NULL || *memo == '\0')
		return;
	put_html(page, "<section class=\"block\">\n<h2>");
	put_label(page, LABEL_NOTE);
	put_html(page, "</h2>\n<p class=\"memo\">");
	put_text(page, memo);
	put_html(page, "</p>\n</section>\n");
}
