/*
 * test_proration.c
 *		Parts of periods and credits, against amounts computed by hand: prices
 *		are chosen so that a day or an hour costs a round amount.
 */
/* timegm() is not C11 */
#define _DEFAULT_SOURCE

#include "proration.h"

#include "unit.h"
#include "zones.h"

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))

static MoneyFraction
fraction(const char *text)
{
	MoneyFraction made = {0};

	if (money_fraction_parse(text, strlen(text), &made) != MONEY_OK)
		abort();
	return made;
}

typedef struct Clock
{
	int year, month, day, hour, minute;
} Clock;

static int64_t
at(Clock clock)
{
	return utc(clock.year, clock.month, clock.day, clock.hour, clock.minute);
}

/* What is left of a period from a moment on; all clocks in UTC. */
static const struct
{
	ProrationUnit unit;
	const LocalZone *zone;
	Clock start;
	Clock end;
	Clock moment;
	const char *price;
	int64_t wanted;
	const char *name;
} parts[] = {
	/* a day of January costs 100 */
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 2, 1},
	 {2026, 1, 16},
	 "3100",
	 1600,
	 "16 of 31 days"},
	{PRORATE_BY_DAY,
	 NULL,
	 {2026, 1, 1},
	 {2026, 2, 1},
	 {2026, 1, 16},
	 "3100",
	 1600,
	 "16 of 31 days, by day"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 4, 1},
	 {2026, 5, 1},
	 {2026, 4, 16, 12},
	 "3000",
	 1450,
	 "14 days and a half of 30"},
	{PRORATE_BY_DAY,
	 NULL,
	 {2026, 4, 1},
	 {2026, 5, 1},
	 {2026, 4, 16, 12},
	 "3000",
	 1500,
	 "the day of the change belongs to the new plan"},
	{PRORATE_BY_DAY,
	 NULL,
	 {2026, 4, 1},
	 {2026, 5, 1},
	 {2026, 4, 16, 23, 59},
	 "3000",
	 1500,
	 "to its last minute"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2024, 2, 1},
	 {2024, 3, 1},
	 {2024, 2, 15},
	 "2900",
	 1500,
	 "15 of 29 days of a leap year's February"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2027, 1, 1},
	 {2026, 7, 1},
	 "36500",
	 18400,
	 "184 of 365 days"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 2, 1},
	 {2026, 1, 11},
	 "1000",
	 677,
	 "21/31 of 10.00: 677.42"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 2, 1},
	 {2026, 1, 2},
	 "1000",
	 968,
	 "30/31 of 10.00: 967.74"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 1, 3},
	 {2026, 1, 2},
	 "1001",
	 501,
	 "half a cent rounds up"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 1, 3},
	 {2026, 1, 2},
	 "1000.5",
	 500,
	 "a fraction of a cent is not rounded before: 500.25"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 1, 3},
	 {2026, 1, 2},
	 "1000.999999999999",
	 500,
	 "just less than half a cent"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 2, 1},
	 {2026, 1, 1},
	 "3100",
	 3100,
	 "all is left at the start"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 2, 1},
	 {2025, 6, 1},
	 "3100",
	 3100,
	 "and no more before it"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 2, 1},
	 {2026, 2, 1},
	 "3100",
	 0,
	 "nothing is left at the end"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2026, 2, 1},
	 {2026, 9, 1},
	 "3100",
	 0,
	 "and nothing after it"},
	{PRORATE_BY_SECOND, NULL, {2026, 1, 1}, {2026, 2, 1}, {2026, 1, 16}, "0", 0, "free is free"},
	{PRORATE_BY_DAY,
	 NULL,
	 {2026, 1, 15, 10},
	 {2026, 2, 15, 10},
	 {2026, 1, 15, 18},
	 "3100",
	 3100,
	 "the first day counts as a whole one"},
	{PRORATE_BY_DAY,
	 NULL,
	 {2026, 1, 15, 10},
	 {2026, 2, 15, 10},
	 {2026, 1, 31, 10},
	 "3100",
	 1500,
	 "15 midnights are left"},
	{PRORATE_BY_DAY,
	 NULL,
	 {2026, 1, 15, 10},
	 {2026, 2, 15, 10},
	 {2026, 2, 15, 8},
	 "3100",
	 0,
	 "the last day belongs to the next period"},
	/* March has 743 hours in New York, and 573 from 03:00 of the 8th on */
	{PRORATE_BY_SECOND,
	 &new_york,
	 {2026, 3, 1, 5},
	 {2026, 4, 1, 4},
	 {2026, 3, 8, 7},
	 "74300",
	 57300,
	 "New York: March has an hour less"},
	{PRORATE_BY_DAY,
	 &new_york,
	 {2026, 3, 1, 5},
	 {2026, 4, 1, 4},
	 {2026, 3, 8, 7},
	 "3100",
	 2400,
	 "New York: but as many days"},
	{PRORATE_BY_DAY,
	 &new_york,
	 {2026, 3, 1, 5},
	 {2026, 4, 1, 4},
	 {2026, 3, 9, 3, 59},
	 "3100",
	 2400,
	 "New York: 23:59 of the 8th is the 9th in UTC"},
	{PRORATE_BY_DAY,
	 &new_york,
	 {2026, 3, 1, 5},
	 {2026, 4, 1, 4},
	 {2026, 3, 9, 4},
	 "3100",
	 2300,
	 "New York: and a minute later the 9th"},
	{PRORATE_BY_DAY,
	 &apia,
	 {2011, 12, 1, 10},
	 {2011, 12, 31, 10},
	 {2011, 12, 30, 10},
	 "3100",
	 100,
	 "Apia: the last day of a December that has the date 31 but not 30"},
	{PRORATE_BY_SECOND,
	 NULL,
	 {2026, 1, 1},
	 {2027, 1, 1},
	 {2026, 7, 1},
	 "9223372036854775807",
	 INT64_C(4649590287071996571),
	 "184/365 of the largest price"},
};

static void
test_parts(void)
{
	for (int i = 0; i < COUNT(parts); i++)
	{
		Proration how = {parts[i].unit, parts[i].zone};
		Period whole = {at(parts[i].start), at(parts[i].end)};
		int64_t got = -1;
		ProrationStatus status = proration_debit(&how, fraction(parts[i].price), &whole,
												 at(parts[i].moment), INT64_MIN, &got);

		if (!ok(status == PRORATION_OK && got == parts[i].wanted, parts[i].name))
			printf("# status %d, got %lld\n", (int) status, (long long) got);
	}
}

static const Proration by_second = {PRORATE_BY_SECOND, NULL};
static const Proration by_day = {PRORATE_BY_DAY, NULL};

static Period
january(void)
{
	return (Period){utc(2026, 1, 1, 0, 0), utc(2026, 2, 1, 0, 0)};
}

static Period
january_days(int from, int to)
{
	return (Period){utc(2026, 1, from, 0, 0), utc(2026, 1, to, 0, 0)};
}

static void
test_pieces(void)
{
	Period whole = january();
	Period first = january_days(1, 11);
	Period second = january_days(11, 21);
	Period third = january_days(21, 32);
	int64_t got[3] = {0};
	ProrationShare share = {0};

	ok(proration_amount(&by_second, fraction("3100"), &whole, &second, &got[0]) == PRORATION_OK &&
		   got[0] == 1000,
	   "ten days out of the middle");
	/* 1000 - 677.42 ... 354.84 ... 0: 1000 - 677, 677 - 355, 355 */
	ok(proration_amount(&by_second, fraction("1000"), &whole, &first, &got[0]) == PRORATION_OK &&
		   proration_amount(&by_second, fraction("1000"), &whole, &second, &got[1]) ==
			   PRORATION_OK &&
		   proration_amount(&by_second, fraction("1000"), &whole, &third, &got[2]) ==
			   PRORATION_OK &&
		   got[0] == 323 && got[1] == 322 && got[2] == 355,
	   "three pieces are 323 + 322 + 355");
	ok(proration_debit(&by_second, fraction("3100"), &whole, utc(2026, 1, 10, 0, 0),
					   utc(2026, 1, 16, 0, 0), &got[0]) == PRORATION_OK &&
		   got[0] == 1600,
	   "the rest of a trial costs nothing");
	ok(proration_debit(&by_second, fraction("3100"), &whole, utc(2026, 1, 10, 0, 0),
					   utc(2026, 3, 1, 0, 0), &got[0]) == PRORATION_OK &&
		   got[0] == 0,
	   "nor does a period that is all trial");
	ok(proration_debit(&by_second, fraction("3100"), &whole, utc(2026, 1, 16, 0, 0),
					   utc(2026, 1, 10, 0, 0), &got[0]) == PRORATION_OK &&
		   got[0] == 1600,
	   "a trial that is over changes nothing");
	ok(proration_left(&by_second, &whole, utc(2026, 1, 31, 23, 59), &share) == PRORATION_OK &&
		   share.part == 60 && share.whole == 2678400,
	   "a minute of January in seconds");
	ok(proration_left(&by_day, &whole, utc(2026, 1, 31, 23, 59), &share) == PRORATION_OK &&
		   share.part == 1 && share.whole == 31,
	   "and in days");
}

/* ---- credits ---- */

/* January at 31.00, given back from the 16th on unless told otherwise. */
static const struct
{
	int day;         /* of January, on which it ends */
	BilledLine line; /* whole and billed are January */
	ProrationCredit wanted;
	const char *name;
} credits[] = {
	/* 496 * 1600 / 3100 = 256 */
	{16,
	 {.tax = 496, .tax_is_added = true, .paid = 3596},
	 {1600, 256, 1856, 0},
	 "the price of what is left, with its tax"},
	{1,
	 {.tax = 496, .tax_is_added = true, .paid = 3596},
	 {3100, 496, 3596, 0},
	 "all of it at the start"},
	{32, {.tax = 496, .tax_is_added = true, .paid = 3596}, {0, 0, 0, 0}, "nothing at the end"},
	/* 1600 - 310 * 1600 / 3100; 446 * 1440 / 2790 = 230.19 */
	{16,
	 {.discount = 310, .tax = 446, .tax_is_added = true, .paid = 3236},
	 {1440, 230, 1670, 0},
	 "after a discount of 10 %"},
	{1,
	 {.discount = 310, .tax = 446, .tax_is_added = true, .paid = 3236},
	 {2790, 446, 3236, 0},
	 "all of it after the discount"},
	{16, {.discount = 3100, .tax_is_added = true}, {0, 0, 0, 0}, "of a discount of 100 % nothing"},
	/* 428 * 1600 / 3100 = 220.90 */
	{16, {.tax = 428, .paid = 3100}, {1379, 221, 1600, 0}, "tax that is inside"},
	{16,
	 {.tax = 496, .tax_is_added = true, .paid = 0},
	 {0, 0, 0, 1856},
	 "what was not paid is not given back"},
	{16,
	 {.tax = 496, .tax_is_added = true, .paid = 928},
	 {800, 128, 928, 928},
	 "what was paid in part, up to that"},
	/* 256 * 596 / 1856 = 82.21 */
	{16,
	 {.tax = 496, .tax_is_added = true, .paid = 3596, .credited = 3000},
	 {514, 82, 596, 1260},
	 "what was given back before counts"},
	{16,
	 {.tax = 496, .tax_is_added = true, .paid = 3596, .credited = 3596},
	 {0, 0, 0, 1856},
	 "what was given back is not given back again"},
	{16,
	 {.tax = 496, .tax_is_added = true, .paid = 100, .credited = 300},
	 {0, 0, 0, 1856},
	 "also when more was given back"},
	{16, {.paid = 3100}, {1600, 0, 1600, 0}, "without tax"},
	{16, {.paid = 1600}, {1600, 0, 1600, 0}, "just what was paid"},
};

static bool
same_credit(const ProrationCredit *got, const ProrationCredit *wanted)
{
	return got->net == wanted->net && got->tax == wanted->tax && got->total == wanted->total &&
		   got->not_covered == wanted->not_covered;
}

static void
test_credits(void)
{
	for (int i = 0; i < COUNT(credits); i++)
	{
		BilledLine line = credits[i].line;
		ProrationCredit got = {-1, -1, -1, -1};

		line.price = fraction("3100");
		line.whole = january();
		line.billed = january();
		if (!ok(proration_credit(&by_second, &line, utc(2026, 1, credits[i].day, 0, 0), &got) ==
						PRORATION_OK &&
					same_credit(&got, &credits[i].wanted),
				credits[i].name))
			printf("# got %lld + %lld = %lld, %lld not covered\n", (long long) got.net,
				   (long long) got.tax, (long long) got.total, (long long) got.not_covered);
	}
}

static void
test_lines_of_a_part(void)
{
	BilledLine line = {.price = fraction("3100"),
					   .whole = january(),
					   .billed = january_days(16, 32),
					   .paid = 1600};
	ProrationCredit got = {0};

	ok(proration_credit(&by_second, &line, utc(2026, 1, 10, 0, 0), &got) == PRORATION_OK &&
		   got.total == 1600,
	   "a change within the trial gives back what was paid for after it");
	ok(proration_credit(&by_second, &line, utc(2026, 1, 22, 0, 0), &got) == PRORATION_OK &&
		   got.total == 1000,
	   "a change after it the days that are left");
	line.discount = 160;
	line.paid = 0;
	ok(proration_credit(&by_second, &line, utc(2026, 1, 22, 0, 0), &got) == PRORATION_OK &&
		   got.total == 0 && got.unused == 1000 && got.billed == 1600,
	   "and tells what they cost before discount, whatever was paid");
	line.discount = 0;
	line.price = fraction("0");
	line.paid = 0;
	ok(proration_credit(&by_second, &line, utc(2026, 1, 22, 0, 0), &got) == PRORATION_OK &&
		   got.total == 0 && got.not_covered == 0,
	   "a free line gives nothing back");

	/* 3 less 2, and 2 less 1 of them are left: all that was charged, so all of its tax */
	line = (BilledLine){.price = fraction("3"),
						.whole = january(),
						.billed = january(),
						.discount = 2,
						.tax = 100,
						.tax_is_added = true,
						.paid = 101};
	ok(proration_credit(&by_second, &line, utc(2026, 1, 16, 0, 0), &got) == PRORATION_OK &&
		   got.net == 1 && got.tax == 100,
	   "tax goes back with what was charged, not with the price before discount");
}

/* 999 less 100 with 171 of tax, unless told otherwise. */
static const struct
{
	CorrectedLine line;
	ProrationCredit wanted;
	const char *name;
} corrections[] = {
	/* 100 * 333 / 999 = 33.33; 171 * 300 / 899 = 57.06 */
	{{.paid = 1070, .taken = 333}, {300, 57, 357, 0}, "a third of a line of usage"},
	/* 666 less 67 is 599 in all, 171 * 599 / 899 = 113.94 */
	{{.paid = 1070, .gone = 357, .given = 357, .given_tax = 57, .taken = 666},
	 {299, 57, 356, 0},
	 "two thirds, less what was given before"},
	{{.paid = 1070, .gone = 713, .given = 713, .given_tax = 114, .taken = 999},
	 {300, 57, 357, 0},
	 "the last of it has what is left"},
	{{.paid = 1070, .taken = 999}, {899, 171, 1070, 0}, "all at once"},
	{{.paid = 0, .taken = 333}, {0, 0, 0, 357}, "what was not paid is not given back"},
	{{.paid = 0, .taken = 666}, {0, 0, 0, 713}, "and what is missing is told of all of them"},
	/* 57 * 100 / 357 = 15.97 */
	{{.paid = 1070, .gone = 970, .taken = 333}, {84, 16, 100, 257}, "up to what is left of it"},
	{{.paid = 1070, .gone = 357, .given = 357, .given_tax = 57, .taken = 333},
	 {0, 0, 0, 0},
	 "nothing twice"},
};

static void
test_corrections(void)
{
	CorrectedLine line;
	ProrationCredit got;

	for (int i = 0; i < COUNT(corrections); i++)
	{
		line = corrections[i].line;
		got = (ProrationCredit){-1, -1, -1, -1};
		line.amount = 999;
		line.discount = 100;
		line.tax = 171;
		line.tax_is_added = true;
		ok(correction_credit(&line, &got) == PRORATION_OK &&
			   same_credit(&got, &corrections[i].wanted),
		   corrections[i].name);
	}
	/* 119 with 19 inside: 19 * 40 / 119 = 6.39 */
	line = (CorrectedLine){.amount = 119, .tax = 19, .paid = 119, .taken = 40};
	ok(correction_credit(&line, &got) == PRORATION_OK && got.total == 40 && got.tax == 6,
	   "tax that is inside goes back inside");
	line.taken = 120;
	ok(correction_credit(&line, &got) == PRORATION_BAD_AMOUNT && got.total == 40,
	   "no more is taken than there is");
}

/* From 10.00 to 25.00 and back, with 16 % on both, at 13:07 of the 9th. */
static void
test_undo(void)
{
	int64_t moment = utc(2026, 1, 9, 13, 7);
	Period whole = january();
	BilledLine old = {.price = fraction("1000"),
					  .whole = whole,
					  .billed = whole,
					  .tax = 160,
					  .tax_is_added = true,
					  .paid = 1160};
	BilledLine changed = {.price = fraction("2500"),
						  .whole = whole,
						  .billed = {moment, whole.end},
						  .tax_is_added = true};
	ProrationCredit out = {0};
	ProrationCredit back = {0};
	int64_t debit = 0;
	int64_t again = 0;

	ok(proration_credit(&by_second, &old, moment, &out) == PRORATION_OK &&
		   proration_debit(&by_second, changed.price, &whole, moment, INT64_MIN, &debit) ==
			   PRORATION_OK,
	   "the change: a credit and a debit");
	/* 1939980 of 2678400 seconds: 724.31 and 1810.76; 160 * 724 / 1000 = 115.84 */
	ok(out.net == 724 && out.tax == 116 && debit == 1811, "7.24 with 1.16 back, 18.11 to pay");
	changed.tax = 290;
	changed.paid = 2101;
	ok(proration_credit(&by_second, &changed, moment, &back) == PRORATION_OK && back.net == 1811 &&
		   back.tax == 290 && back.total == 2101 &&
		   proration_debit(&by_second, old.price, &whole, moment, INT64_MIN, &again) ==
			   PRORATION_OK &&
		   again == out.net,
	   "the way back: the same two the other way round");
}

/* ---- what is refused ---- */

static void
test_refusals(void)
{
	Period whole = january();
	Period empty = {whole.start, whole.start};
	Period outside = {whole.start, whole.end + 1};
	Period backward = {whole.end, whole.start};
	Period hour = {whole.start, whole.start + 3600};
	Period endless = {whole.start, INT64_MAX};
	BilledLine line = {.price = fraction("100"), .whole = whole, .billed = whole, .paid = 100};
	BilledLine bad = line;
	Proration neither = {0, NULL};
	int64_t got = 42;
	ProrationCredit credit = {.total = 42};

	ok(proration_debit(&by_second, fraction("1"), &empty, 0, 0, &got) == PRORATION_BAD_PERIOD,
	   "a period of no length");
	ok(proration_debit(&by_second, fraction("1"), &endless, 0, 0, &got) == PRORATION_BAD_PERIOD,
	   "a period without end");
	ok(proration_debit(&by_day, fraction("1"), &hour, 0, 0, &got) == PRORATION_BAD_PERIOD,
	   "a period of no day");
	ok(proration_amount(&by_second, fraction("1"), &whole, &outside, &got) == PRORATION_BAD_PERIOD,
	   "a part that is not inside");
	ok(proration_amount(&by_second, fraction("1"), &whole, &backward, &got) == PRORATION_BAD_PERIOD,
	   "a part that goes backward");
	ok(proration_debit(&by_second, fraction("-1"), &whole, 0, 0, &got) == PRORATION_BAD_AMOUNT,
	   "a negative price");
	ok(proration_debit(&neither, fraction("1"), &whole, 0, 0, &got) == PRORATION_BAD_UNIT,
	   "neither by second nor by day");
	ok(proration_debit(&by_second, fraction("9223372036854775808"), &whole, 0, 0, &got) ==
		   PRORATION_OVERFLOW,
	   "a price that is no amount");

	bad.discount = 101;
	ok(proration_credit(&by_second, &bad, 0, &credit) == PRORATION_BAD_AMOUNT,
	   "a discount above the price");
	bad = line;
	bad.tax = 101;
	ok(proration_credit(&by_second, &bad, 0, &credit) == PRORATION_BAD_AMOUNT,
	   "more tax inside than there is");
	bad = line;
	bad.paid = -1;
	ok(proration_credit(&by_second, &bad, 0, &credit) == PRORATION_BAD_AMOUNT,
	   "a negative payment");
	bad = line;
	bad.billed = outside;
	ok(proration_credit(&by_second, &bad, 0, &credit) == PRORATION_BAD_PERIOD,
	   "a line beyond its period");
	ok(got == 42 && credit.total == 42, "a refusal leaves its output alone");
}

int
main(void)
{
	test_parts();
	test_pieces();
	test_credits();
	test_corrections();
	test_lines_of_a_part();
	test_undo();
	test_refusals();
	return done_testing();
}
