/*
 * test_laws.c
 *		What must hold for every price, period and invoice, tried by chance from a
 *		printed seed: periods tile in every zone that changes its clocks, lines
 *		add up, a period that is cut costs what the whole costs, and what is
 *		undone nets to zero.
 *
 * The zones are those of the machine's tz database, read by libc: what a clock
 * shows is judged by localtime_r(), not by the code under test.
 */
/* setenv(), localtime_r() and tm_gmtoff are not C11 */
#define _DEFAULT_SOURCE

#include "allocation.h"
#include "period.h"
#include "proration.h"
#include "rating.h"

#include "unit.h"
#include "zones.h"

#define ZONE_LIST  "/usr/share/zoneinfo/zone1970.tab"
#define MOST_ZONES 400
#define YEARS      3

static char label[200];

/* From 0 to below the limit. */
static int64_t
chance(int64_t limit)
{
	return (int64_t) (random_bits() % (uint64_t) limit);
}

/* Small, ordinary and large in equal parts; up to so many bits. */
static int64_t
some_amount(int bits)
{
	return (int64_t) (random_bits() >> (64 - 1 - random_bits() % (unsigned) bits));
}

/* ---- zones of the machine ---- */

static int32_t
libc_offset(int64_t moment)
{
	time_t time = (time_t) moment;
	struct tm parts;

	localtime_r(&time, &parts);
	return (int32_t) parts.tm_gmtoff;
}

/* All changes of the zone in TZ between two moments, to the second. */
static void
read_changes(int64_t from, int64_t to, ZoneTable *table)
{
	int64_t step = 6 * 3600;

	memset(table, 0, sizeof(*table));
	table->count = 1;
	table->changes[0] = (ZoneChange){INT64_MIN, libc_offset(from)};
	for (int64_t moment = from; moment < to && table->count < ZONE_CHANGES; moment += step)
	{
		int64_t low = moment;
		int64_t high = moment + step;
		int32_t before = table->changes[table->count - 1].offset;

		if (libc_offset(high) == before)
			continue;
		while (high - low > 1)
		{
			int64_t middle = low + (high - low) / 2;

			if (libc_offset(middle) == before)
				low = middle;
			else
				high = middle;
		}
		table->changes[table->count++] = (ZoneChange){high, libc_offset(high)};
	}
}

/* Zones with the same clock in these years are one. */
static bool
is_known(const ZoneTable *tables, int count, const ZoneTable *table)
{
	for (int i = 0; i < count; i++)
	{
		if (memcmp(&tables[i], table, sizeof(*table)) == 0)
			return true;
	}
	return false;
}

/* Every zone whose clocks are changed between two moments. */
static int
read_zones(int64_t from, int64_t to, ZoneTable tables[MOST_ZONES])
{
	FILE *list = fopen(ZONE_LIST, "r");
	char line[500];
	char name[100];
	int count = 0;

	while (list != NULL && count < MOST_ZONES && fgets(line, sizeof(line), list) != NULL)
	{
		if (line[0] == '#' || sscanf(line, "%*s %*s %99s", name) != 1)
			continue;
		setenv("TZ", name, 1);
		tzset();
		read_changes(from, to, &tables[count]);
		if (tables[count].count > 1 && !is_known(tables, count, &tables[count]))
			count++;
	}
	if (list != NULL)
		fclose(list);
	setenv("TZ", "UTC", 1);
	tzset();
	return count;
}

/* ---- periods tile ---- */

/*
 * Of all moments at which the clock shows the reading, the last; false when it
 * never does.  Tries every offset that the zone has.
 */
static bool
last_moment(const ZoneTable *table, int64_t reading, int64_t *moment)
{
	bool found = false;

	for (int i = 0; i < table->count; i++)
	{
		int64_t tried = reading - table->changes[i].offset;

		if (table_offset(table, tried) == table->changes[i].offset && (!found || tried > *moment))
		{
			found = true;
			*moment = tried;
		}
	}
	return found;
}

typedef struct Tiling
{
	int64_t periods;
	int64_t wrong_clock; /* the boundary is not where the clock shows it */
	int64_t wrong_order; /* it lies before the one before */
	int64_t wrong_place; /* a moment of the period finds another one */
	int64_t empty;       /* of a day that was left out */
} Tiling;

/*
 * The boundary on the wall: the calendar of UTC, applied to what the clock shows
 * at the anchor.  Where the clock leaves that out, it shows something else.
 */
static bool
clock_is_right(const ZoneTable *table, const PeriodRule *rule, int64_t n, int64_t boundary)
{
	PeriodRule wall = *rule;
	int64_t reading;
	int64_t moment;

	if (n == 0)
		return boundary == rule->anchor;
	wall.anchor += table_offset(table, rule->anchor);
	if (!period_boundary(&wall, n, &reading))
		return false;
	return !last_moment(table, reading, &moment) || moment == boundary;
}

static void
check_period(const ZoneTable *table, const PeriodSchedule *schedule, int64_t n, Period period,
			 Tiling *tiling)
{
	BillingPeriod found;
	int64_t within;

	tiling->periods++;
	tiling->wrong_clock += !clock_is_right(table, &schedule->rule, n, period.start);
	tiling->wrong_order += period.end < period.start;
	tiling->empty += period.end == period.start;
	if (period.end <= period.start || n % 4 != 0)
		return;

	within = period.start + chance(period.end - period.start);
	tiling->wrong_place += period_of(schedule, within, &found) != PERIOD_OK || found.number != n ||
						   found.billed.start != period.start || found.billed.end != period.end;
	tiling->wrong_place += period_of(schedule, period.end - 1, &found) != PERIOD_OK ||
						   found.number != n;
	tiling->wrong_place += period_of(schedule, period.end, &found) != PERIOD_OK ||
						   found.number <= n || found.billed.start != period.end;
}

static void
tile(const ZoneTable *table, PeriodRule rule, Tiling *tiling)
{
	LocalZone zone = {table_offset, table};
	PeriodSchedule schedule = {rule, &zone, rule.anchor};
	int64_t end = rule.anchor + YEARS * 366 * SECONDS_PER_DAY;
	Period period = {rule.anchor, rule.anchor};

	for (int64_t n = 0; period.start < end; n++)
	{
		if (period_boundary_in(&rule, &zone, n + 1, &period.end) != PERIOD_OK)
		{
			tiling->wrong_clock++;
			return;
		}
		check_period(table, &schedule, n, period, tiling);
		period.start = period.end;
	}
}

/*
 * Anchors on each day of three years, at a second by chance and, every third day,
 * where clocks are changed.  Every interval; days and weeks, which make the most
 * periods, from every 64th and 16th anchor.
 */
static void
tile_zone(const ZoneTable *table, int64_t from, Tiling *tiling)
{
	for (int64_t day = 0; day < YEARS * 366; day++)
	{
		int64_t second = day % 3 == 0 ? 1800 * chance(8) : chance(SECONDS_PER_DAY);
		int64_t anchor = from + day * SECONDS_PER_DAY + second - table->changes[0].offset;
		int32_t several = (int32_t) chance(4) + 1;

		tile(table, (PeriodRule){anchor, PERIOD_MONTH, several == 4 ? 2 : 1}, tiling);
		tile(table, (PeriodRule){anchor, PERIOD_QUARTER, 1}, tiling);
		tile(table, (PeriodRule){anchor, PERIOD_YEAR, 1}, tiling);
		if (day % 16 == 0)
			tile(table, (PeriodRule){anchor, PERIOD_WEEK, several}, tiling);
		if (day % 64 == 0)
			tile(table, (PeriodRule){anchor, PERIOD_DAY, several == 3 ? 3 : 1}, tiling);
	}
}

static void
test_tiling(int year)
{
	static ZoneTable tables[MOST_ZONES];
	int64_t from = utc(year, 1, 1, 0, 0);
	int count = read_zones(from - 366 * SECONDS_PER_DAY,
						   from + (2 * YEARS + 2) * 366 * SECONDS_PER_DAY, tables);
	Tiling tiling = {0};

	for (int i = 0; i < count; i++)
		tile_zone(&tables[i], from, &tiling);
	snprintf(label, sizeof(label),
			 "from %d on: %lld periods of %d clocks (%lld of no length) touch, in order", year,
			 (long long) tiling.periods, count, (long long) tiling.empty);
	ok(count > 0 && tiling.wrong_order == 0, label);
	ok(tiling.wrong_clock == 0, "each begins when the clock shows it");
	ok(tiling.wrong_place == 0, "and each of their moments lies in one of them");
}

/* ---- rating ---- */

#define MOST_TIERS 6

static MoneyFraction
some_fraction(int bits)
{
	MoneyFraction made = {some_amount(bits)};

	/* as often with few decimals, or with many digits before the point */
	switch (random_bits() % 3)
	{
		case 0:
			made.scaled = made.scaled / 1000000000 * 1000000000;
			break;
		case 1:
			made.scaled *= 1000000;
			break;
		default:
			break;
	}
	return made;
}

static RatedPrice
some_price(PriceTier tiers[MOST_TIERS])
{
	RatedPrice price = {.model = (PriceModel) (PRICE_FLAT + chance(6)),
						.flat_fee = some_amount(30),
						.unit_price = some_fraction(50),
						.package_size = {some_fraction(45).scaled + 1},
						.percent = {chance(100000) * INT64_C(1000000000)},
						.tiers = tiers,
						.tier_count = (int) chance(MOST_TIERS) + 1};
	MoneyInt128 bound = 0;

	if (chance(3) == 0)
		price.free_units = some_fraction(50);
	if (chance(3) == 0)
		price.commitment = some_amount(30);
	if (price.model == PRICE_PERCENTAGE && chance(2) == 0)
	{
		price.has_minimum = true;
		price.has_maximum = true;
		price.minimum = some_amount(20);
		price.maximum = price.minimum + price.commitment + some_amount(20);
	}
	for (int i = 0; i < price.tier_count; i++)
	{
		bound += some_fraction(50).scaled + 1;
		tiers[i] = (PriceTier){.up_to = {bound},
							   .unbounded = i == price.tier_count - 1,
							   .unit_price = some_fraction(50),
							   .flat_fee = chance(2) * some_amount(20)};
	}
	return price;
}

static void
test_lines_add_up(void)
{
	int wrong_sum = 0;
	int wrong_sign = 0;
	int wrong_status = 0;
	int refused = 0;
	int fast = 0;

	for (int i = 0; i < 200000; i++)
	{
		PriceTier tiers[MOST_TIERS];
		RatedPrice price = some_price(tiers);
		RatedLine lines[RATING_LINES(MOST_TIERS)];
		MoneyFraction quantity = some_fraction(62);
		int64_t amount = 0;
		int64_t total = 0;
		int count = 0;

		RatingStatus status = price_prepare(&price);
		RatingStatus explained = status;

		if (status == RATING_OK)
		{
			status = price_amount(&price, quantity, &amount);
			explained = price_lines(&price, quantity, lines, RATING_LINES(price.tier_count), &count,
									&total);
		}
		refused += status != RATING_OK;
		wrong_status += explained != status || (status != RATING_OK && status != RATING_OVERFLOW);
		if (status != RATING_OK)
			continue;
		fast += price.fast && quantity.scaled <= UINT64_MAX;
		for (int line = 0; line < count; line++)
		{
			total -= lines[line].amount;
			wrong_sign += lines[line].amount < 0 && lines[line].kind != RATED_MAXIMUM;
		}
		/* lines are computed the exact way, most amounts the short way */
		wrong_sum += total != 0 || amount < price.commitment;
		for (int line = 0; line < count; line++)
			amount -= lines[line].amount;
		wrong_sum += amount != 0;
	}
	snprintf(label, sizeof(label), "lines of 200,000 prices add up (%d by the short way)", fast);
	ok(wrong_sum == 0 && fast > 10000, label);
	ok(wrong_sign == 0, "no line but one for a maximum is negative");
	ok(wrong_status == 0 && refused < 100000, "both ways agree on which amounts do not fit");
}

/* ---- proration ---- */

/* A price, a period of some zone, and how its parts are counted. */
typedef struct Situation
{
	Proration how;
	MoneyFraction price;
	Period whole;
} Situation;

static Situation
some_situation(void)
{
	static const LocalZone *const zones[] = {NULL,       &new_york, &berlin,   &beirut,
											 &lord_howe, &apia,     &kathmandu};
	PeriodInterval intervals[] = {PERIOD_WEEK, PERIOD_MONTH, PERIOD_QUARTER, PERIOD_YEAR};
	int64_t moment = utc(2011, 6, 1, 0, 0) + chance(16 * 366 * SECONDS_PER_DAY);
	PeriodRule rule = {moment, intervals[chance(4)], 1};
	Situation made = {.how = {chance(2) ? PRORATE_BY_SECOND : PRORATE_BY_DAY, zones[chance(7)]},
					  .price = some_fraction(60)};

	if (period_at_in(&rule, made.how.zone, moment, &made.whole) != PERIOD_OK)
		abort();
	return made;
}

static int64_t
moment_of(const Situation *situation)
{
	return situation->whole.start + chance(situation->whole.end - situation->whole.start + 1);
}

/* Cut at up to nine moments, the parts cost what the whole costs. */
static void
test_split(void)
{
	int wrong = 0;
	int negative = 0;

	for (int i = 0; i < 100000; i++)
	{
		Situation now = some_situation();
		Period part = {now.whole.start, now.whole.start};
		int cuts = (int) chance(10);
		int64_t sum = 0;
		int64_t amount = 0;
		int64_t rounded = 0;

		for (int cut = 0; cut <= cuts; cut++)
		{
			part.end = cut == cuts ? now.whole.end : moment_of(&now);
			if (part.end < part.start)
				part.end = part.start;
			wrong += proration_amount(&now.how, now.price, &now.whole, &part, &amount) !=
					 PRORATION_OK;
			negative += amount < 0;
			sum += amount;
			part.start = part.end;
		}
		wrong += money_round(now.price, &rounded) != MONEY_OK || sum != rounded;
	}
	ok(wrong == 0, "the parts of 100,000 periods cost what the wholes cost");
	ok(negative == 0, "and none costs less than nothing");
}

/* The line that a change bills from a moment on, with tax and perhaps a discount, paid. */
static BilledLine
bill(const Situation *now, MoneyFraction price, int64_t moment, bool discounted, int64_t *debit)
{
	BilledLine line = {.price = price,
					   .whole = now->whole,
					   .billed = {moment, now->whole.end},
					   .tax_is_added = chance(2) == 1};
	int64_t charged;

	if (proration_debit(&now->how, price, &now->whole, moment, INT64_MIN, debit) != PRORATION_OK)
		abort();
	line.discount = discounted ? chance(*debit + 1) : 0;
	charged = *debit - line.discount;
	line.tax = charged / 7;
	line.paid = charged + (line.tax_is_added ? line.tax : 0);
	return line;
}

/* Each change is to a plan of the same price: in the end it costs what it costs. */
static void
test_same_price(void)
{
	int wrong = 0;

	for (int i = 0; i < 50000; i++)
	{
		Situation now = some_situation();
		int64_t debit = 0;
		int64_t rounded = 0;
		int64_t moment = now.whole.start;
		BilledLine line = bill(&now, now.price, moment, false, &debit);
		int64_t sum = debit;

		for (int change = 0; change < 5; change++)
		{
			ProrationCredit credit = {0};

			line.tax = 0;
			line.paid = debit;
			moment += chance(now.whole.end - moment + 1);
			wrong += proration_credit(&now.how, &line, moment, &credit) != PRORATION_OK;
			line = bill(&now, now.price, moment, false, &debit);
			sum += debit - credit.total;
		}
		wrong += money_round(now.price, &rounded) != MONEY_OK || sum != rounded;
	}
	ok(wrong == 0, "50,000 chains of changes without a change of price cost the price");
}

/* A change and its undoing in the same instant: every amount comes back. */
static void
test_undo(void)
{
	int wrong = 0;

	for (int i = 0; i < 100000; i++)
	{
		Situation now = some_situation();
		int64_t moment = moment_of(&now);
		int64_t first = 0;
		int64_t debit = 0;
		int64_t again = 0;
		BilledLine old = bill(&now, now.price, now.whole.start, false, &first);
		BilledLine changed = bill(&now, some_fraction(60), moment, chance(2) == 0, &debit);
		ProrationCredit out = {0};
		ProrationCredit back = {0};

		wrong += proration_credit(&now.how, &old, moment, &out) != PRORATION_OK ||
				 proration_credit(&now.how, &changed, moment, &back) != PRORATION_OK ||
				 proration_debit(&now.how, old.price, &now.whole, moment, INT64_MIN, &again) !=
					 PRORATION_OK;
		wrong += back.total != changed.paid || back.tax != changed.tax || back.not_covered != 0;
		/* what the old plan gave back before discount and tax inside is due again */
		wrong += out.net + (old.tax_is_added ? 0 : out.tax) != again;
		wrong += out.total > old.paid;
	}
	ok(wrong == 0, "100,000 changes and their undoing net to zero");
}

/* ---- invoices ---- */

#define MOST_LINES 12

static void
test_invoices(void)
{
	int wrong_discount = 0;
	int wrong_tax = 0;
	int wrong_total = 0;
	int wrong_due = 0;

	for (int i = 0; i < 100000; i++)
	{
		AllocatedLine lines[MOST_LINES] = {{0}};
		TaxRate rates[2] = {{{chance(30000) * INT64_C(1000000000)}, TAX_EXCLUSIVE, 0, 0},
							{{chance(30000) * INT64_C(1000000000)}, TAX_INCLUSIVE, 0, 0}};
		int64_t scratch[2 * MOST_LINES];
		Allocation invoice = {lines,         (int) chance(MOST_LINES) + 1, rates, 2, scratch,
							  2 * MOST_LINES};
		PrepaidCredit credits[2] = {{some_amount(20), 0}, {some_amount(20), 0}};
		int64_t balance = some_amount(20) - some_amount(18);
		int64_t taken[2] = {0};
		int64_t discount = 0;
		int64_t tax[2] = {0};
		int64_t sum = 0;
		AllocationTotals totals = {0};
		Settlement settlement = {0};

		for (int line = 0; line < invoice.line_count; line++)
			lines[line] = (AllocatedLine){.amount = some_amount(40) - chance(2) * some_amount(30),
										  .takes_part = chance(4) != 0,
										  .tax_rate = (int) chance(3) - 1};
		for (int coupon = 0; coupon < 2; coupon++)
		{
			Coupon some = {chance(2) ? COUPON_PERCENT : COUPON_AMOUNT,
						   {(chance(100) + 1) * INT64_C(1000000000000)},
						   some_amount(40)};

			wrong_discount += allocate_discount(&invoice, &some, &taken[coupon]) != ALLOCATION_OK;
		}
		wrong_tax += allocate_tax(&invoice) != ALLOCATION_OK;
		for (int line = 0; line < invoice.line_count; line++)
		{
			discount += lines[line].discount;
			sum += lines[line].amount - lines[line].discount;
			wrong_discount += lines[line].discount < 0 ||
							  (lines[line].discount > 0 &&
							   lines[line].discount > lines[line].amount);
			if (lines[line].tax_rate != NO_TAX_RATE)
				tax[lines[line].tax_rate] += lines[line].tax;
			if (lines[line].tax_rate == 0)
				sum += lines[line].tax;
		}
		wrong_discount += discount != taken[0] + taken[1];
		wrong_tax += tax[0] != rates[0].tax || tax[1] != rates[1].tax;
		wrong_total += allocation_totals(&invoice, &totals) != ALLOCATION_OK ||
					   totals.total != sum || totals.discount != discount;
		wrong_due += allocation_settle(totals.total, credits, 2, balance, &settlement) !=
						 ALLOCATION_OK ||
					 settlement.due !=
						 totals.total - settlement.credit_used - settlement.balance_used ||
					 settlement.balance_after != balance - settlement.balance_used ||
					 settlement.due < 0 || settlement.balance_after < 0 ||
					 (settlement.due > 0 && settlement.balance_after > 0);
	}
	ok(wrong_discount == 0, "the discounts of 100,000 invoices add up, none above its line");
	ok(wrong_tax == 0, "the taxes of their lines add up to those of their rates");
	ok(wrong_total == 0, "the lines add up to the total");
	ok(wrong_due == 0, "total, credit and balance add up to what is due");
}

int
main(void)
{
	seed_random();
	test_tiling(2010);
	test_tiling(1972 + (int) chance(60));
	test_lines_add_up();
	test_split();
	test_same_price();
	test_undo();
	test_invoices();
	return done_testing();
}
