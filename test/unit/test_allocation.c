/*
 * test_allocation.c
 *		Discount, tax and credit, against amounts computed by hand: the sum, its
 *		one rounding, and the largest remainders.
 */
#include "allocation.h"

#include "unit.h"

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))
#define MOST_LINES   4

static MoneyFraction
fraction(const char *text)
{
	MoneyFraction made = {0};

	if (text != NULL && money_fraction_parse(text, strlen(text), &made) != MONEY_OK)
		abort();
	return made;
}

/* An invoice of a few lines with its scratch memory. */
typedef struct Invoice
{
	AllocatedLine lines[MOST_LINES];
	TaxRate rates[2];
	int64_t scratch[2 * MOST_LINES];
	Allocation allocation;
} Invoice;

static void
open_invoice(Invoice *invoice, int lines, int rates)
{
	invoice->allocation = (Allocation){
		.lines = invoice->lines,
		.line_count = lines,
		.rates = invoice->rates,
		.rate_count = rates,
		.scratch = invoice->scratch,
		.scratch_count = 2 * lines,
	};
}

/* ---- discounts ---- */

/* percent NULL: a coupon of an amount; a line of 0 ends the lines */
static const struct
{
	const char *percent;
	int64_t amount;
	int64_t lines[MOST_LINES];
	int64_t wanted[MOST_LINES];
	const char *name;
} discounts[] = {
	{"10", 0, {1000}, {100}, "10 % of 10.00"},
	{"10", 0, {1000, 500}, {100, 50}, "10 % of two lines"},
	/* 100 = 33.3 + 33.3 + 33.4 */
	{"10", 0, {333, 333, 334}, {33, 33, 34}, "the largest remainder gets the cent"},
	{"50", 0, {1}, {1}, "half a cent rounds up"},
	{"49.999999999999", 0, {1}, {0}, "less than half a cent is none"},
	{"100", 0, {700, 299}, {700, 299}, "100 % is all"},
	{"33.333", 0, {100}, {33}, "a percentage with decimals"},
	/* 250 = 249.875 + 0.125 */
	{"12.5", 0, {1999, 1}, {250, 0}, "12.5 % of a large and a small line"},
	{"10", 0, {980}, {98}, "10 % of 980 yen"},
	{"10", 0, {12345}, {1235}, "10 % of 12.345 dinars: 1.2345 rounds up"},
	{"0.000000000001", 0, {1000}, {0}, "the smallest percentage"},
	{NULL, 500, {2000}, {500}, "5.00 off"},
	{NULL, 500, {300, 100}, {300, 100}, "5.00 off 4.00 are 4.00"},
	/* 33.33 each */
	{NULL, 100, {100, 100, 100}, {34, 33, 33}, "of equal remainders the first gets the cent"},
	/* 66.67 + 33.33 */
	{NULL, 100, {200, 100}, {67, 33}, "an amount in proportion"},
	{NULL, 1, {1, 1}, {1, 0}, "one cent off two lines"},
	{NULL, 0, {1000}, {0}, "nothing off"},
	{"10", 0, {1000, -400}, {100, 0}, "a credit takes no part"},
	{NULL, 5000, {1000, -400}, {1000, 0}, "and is not discounted away"},
	{"10", 0, {-400}, {0}, "only a credit"},
	{NULL, INT64_MAX, {INT64_MAX}, {INT64_MAX}, "the largest discount"},
	{"50", 0, {INT64_MAX}, {INT64_C(4611686018427387904)}, "half of the largest line"},
};

static int
count_lines(const int64_t lines[MOST_LINES])
{
	int count = 0;

	while (count < MOST_LINES && lines[count] != 0)
		count++;
	return count;
}

static void
test_discounts(void)
{
	for (int i = 0; i < COUNT(discounts); i++)
	{
		Invoice invoice = {0};
		Coupon coupon = {discounts[i].percent != NULL ? COUPON_PERCENT : COUPON_AMOUNT,
						 fraction(discounts[i].percent), discounts[i].amount};
		int count = count_lines(discounts[i].lines);
		int64_t taken = -1;
		int64_t sum = 0;
		bool same;

		open_invoice(&invoice, count, 0);
		for (int line = 0; line < count; line++)
			invoice.lines[line] = (AllocatedLine){
				.amount = discounts[i].lines[line], .takes_part = true, .tax_rate = NO_TAX_RATE};
		same = allocate_discount(&invoice.allocation, &coupon, &taken) == ALLOCATION_OK;
		for (int line = 0; line < count; line++)
		{
			same = same && invoice.lines[line].discount == discounts[i].wanted[line];
			sum += invoice.lines[line].discount;
		}
		ok(same && sum == taken, discounts[i].name);
	}
}

/* 29.00 of which a maximum leaves 10.00, beside a line of 10.00. */
static void
test_discount_below_maximum(void)
{
	Invoice invoice = {0};
	Coupon half = {COUPON_PERCENT, fraction("50"), 0};
	Coupon amount = {COUPON_AMOUNT, {0}, 5000};
	int64_t taken[2] = {0};

	open_invoice(&invoice, 3, 0);
	invoice.lines[0] = (AllocatedLine){.amount = 1000, .takes_part = true, .tax_rate = NO_TAX_RATE};
	invoice.lines[1] = (AllocatedLine){
		.amount = 2900, .cut = 1900, .takes_part = true, .tax_rate = NO_TAX_RATE};
	invoice.lines[2] = (AllocatedLine){.amount = -1900, .tax_rate = NO_TAX_RATE};
	ok(allocate_discount(&invoice.allocation, &half, &taken[0]) == ALLOCATION_OK &&
		   taken[0] == 1000 && invoice.lines[0].discount == 500 &&
		   invoice.lines[1].discount == 500 && invoice.lines[2].discount == 0,
	   "half of what a maximum leaves, not of what it cuts");
	ok(allocate_discount(&invoice.allocation, &amount, &taken[1]) == ALLOCATION_OK &&
		   taken[1] == 1000 && invoice.lines[1].discount == 1000,
	   "and never more than that");
}

static void
test_several_coupons(void)
{
	Invoice invoice = {0};
	Coupon half = {COUPON_PERCENT, fraction("50"), 0};
	Coupon amount = {COUPON_AMOUNT, {0}, 400};
	int64_t taken[3] = {0};

	open_invoice(&invoice, 2, 0);
	invoice.lines[0] = (AllocatedLine){.amount = 1000, .takes_part = true, .tax_rate = NO_TAX_RATE};
	invoice.lines[1] = (AllocatedLine){.amount = 1000, .tax_rate = NO_TAX_RATE};
	ok(allocate_discount(&invoice.allocation, &half, &taken[0]) == ALLOCATION_OK &&
		   allocate_discount(&invoice.allocation, &half, &taken[1]) == ALLOCATION_OK &&
		   taken[0] == 500 && taken[1] == 250,
	   "the second coupon takes half of what is left");
	ok(allocate_discount(&invoice.allocation, &amount, &taken[2]) == ALLOCATION_OK &&
		   taken[2] == 250,
	   "the third no more than that");
	ok(invoice.lines[0].discount == 1000 && invoice.lines[1].discount == 0,
	   "a line that takes no part keeps its amount");
}

/* ---- tax ---- */

static const struct
{
	const char *percent;
	TaxBehavior behavior;
	int64_t lines[MOST_LINES];
	int64_t wanted[MOST_LINES];
	int64_t taxable;
	int64_t tax;
	const char *name;
} taxes[] = {
	{"16", TAX_EXCLUSIVE, {1000}, {160}, 1000, 160, "16 % on 10.00"},
	/* 160 = 53.28 + 53.28 + 53.44 */
	{"16", TAX_EXCLUSIVE, {333, 333, 334}, {53, 53, 54}, 1000, 160, "spread over three lines"},
	/* 15.84; line by line it would be 3 * 5 */
	{"16", TAX_EXCLUSIVE, {33, 33, 33}, {6, 5, 5}, 99, 16, "rounded once, not line by line"},
	{"8.875", TAX_EXCLUSIVE, {10000}, {888}, 10000, 888, "8.875 % on 100.00: half a cent"},
	{"7.7", TAX_EXCLUSIVE, {1299}, {100}, 1299, 100, "7.7 % on 12.99: 1.00023"},
	{"10", TAX_EXCLUSIVE, {5}, {1}, 5, 1, "half a cent rounds up"},
	{"10", TAX_EXCLUSIVE, {-5}, {-1}, -5, -1, "half a cent of a credit rounds down"},
	{"10", TAX_EXCLUSIVE, {4}, {0}, 4, 0, "less than half a cent is none"},
	{"16", TAX_EXCLUSIVE, {1000, -400}, {160, -64}, 600, 96, "a credit has negative tax"},
	{"16", TAX_EXCLUSIVE, {1000, -1000}, {0, 0}, 0, 0, "lines that cancel out have none"},
	{"0", TAX_EXCLUSIVE, {1000, 500}, {0, 0}, 1500, 0, "no tax at 0 %"},
	{"19", TAX_EXCLUSIVE, {-1000, 2000}, {-190, 380}, 1000, 190, "a credit in front"},
	{"10", TAX_EXCLUSIVE, {980}, {98}, 980, 98, "consumption tax on 980 yen"},
	{"5", TAX_EXCLUSIVE, {12345}, {617}, 12345, 617, "5 % on 12.345 dinars: 0.61725"},
	{"1000", TAX_EXCLUSIVE, {100}, {1000}, 100, 1000, "the highest rate"},
	{"16", TAX_INCLUSIVE, {1160}, {160}, 1000, 160, "16 % inside 11.60"},
	{"16", TAX_INCLUSIVE, {116, 116}, {16, 16}, 200, 32, "inside two lines"},
	/* 1000 * 19 / 119 = 159.66 */
	{"19", TAX_INCLUSIVE, {1000}, {160}, 840, 160, "19 % inside 10.00"},
	/* 999 * 19 / 119 = 159.504; 160 spread over 666 and 333: 106.67 + 53.33 */
	{"19", TAX_INCLUSIVE, {666, 333}, {107, 53}, 839, 160, "19 % inside 9.99"},
	/* 10000 * 8.875 / 108.875 = 815.155 */
	{"8.875", TAX_INCLUSIVE, {10000}, {815}, 9185, 815, "8.875 % inside 100.00"},
	{"100", TAX_INCLUSIVE, {1}, {1}, 0, 1, "half a cent inside of one"},
	{"16", TAX_INCLUSIVE, {-1160}, {-160}, -1000, -160, "inside a credit"},
	{"16",
	 TAX_EXCLUSIVE,
	 {INT64_C(5000000000000000000)},
	 {INT64_C(800000000000000000)},
	 INT64_C(5000000000000000000),
	 INT64_C(800000000000000000),
	 "16 % on five quintillions"},
};

static void
test_taxes(void)
{
	for (int i = 0; i < COUNT(taxes); i++)
	{
		Invoice invoice = {0};
		int count = count_lines(taxes[i].lines);
		bool same;

		open_invoice(&invoice, count, 1);
		invoice.rates[0] = (TaxRate){fraction(taxes[i].percent), taxes[i].behavior, -1, -1};
		for (int line = 0; line < count; line++)
			invoice.lines[line] = (AllocatedLine){.amount = taxes[i].lines[line], .tax = -7};
		same = allocate_tax(&invoice.allocation) == ALLOCATION_OK &&
			   invoice.rates[0].taxable == taxes[i].taxable && invoice.rates[0].tax == taxes[i].tax;
		for (int line = 0; line < count; line++)
			same = same && invoice.lines[line].tax == taxes[i].wanted[line];
		if (!ok(same, taxes[i].name))
			printf("# tax %lld of %lld\n", (long long) invoice.rates[0].tax,
				   (long long) invoice.rates[0].taxable);
	}
}

/* Two rates, a line without tax, and a credit with the tax that it was billed with. */
static void
test_invoice(void)
{
	Invoice invoice = {0};
	AllocationTotals totals = {0};
	Coupon tenth = {COUPON_PERCENT, fraction("10"), 0};
	int64_t taken = 0;

	open_invoice(&invoice, 4, 2);
	invoice.rates[0] = (TaxRate){.percent = fraction("16"), .behavior = TAX_EXCLUSIVE};
	invoice.rates[1] = (TaxRate){.percent = fraction("8"), .behavior = TAX_EXCLUSIVE};
	invoice.lines[0] = (AllocatedLine){.amount = 4900, .takes_part = true, .tax_rate = 0};
	invoice.lines[1] = (AllocatedLine){.amount = 1250, .takes_part = true, .tax_rate = 1};
	invoice.lines[2] = (AllocatedLine){.amount = 300, .tax_rate = NO_TAX_RATE, .tax = 99};
	invoice.lines[3] = (AllocatedLine){
		.amount = -1440, .tax_rate = 0, .has_own_tax = true, .tax = -230};

	/* 6150 * 10 % = 615 = 490 + 125; 4410 * 16 % = 705.6; 1125 * 8 % = 90 */
	ok(allocate_discount(&invoice.allocation, &tenth, &taken) == ALLOCATION_OK && taken == 615 &&
		   invoice.lines[0].discount == 490 && invoice.lines[1].discount == 125,
	   "the discount comes first");
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_OK && invoice.lines[0].tax == 706 &&
		   invoice.lines[1].tax == 90 && invoice.lines[2].tax == 0 && invoice.lines[3].tax == -230,
	   "then tax on what is left, each line by its rate, a credit with its own");
	ok(invoice.rates[0].taxable == 2970 && invoice.rates[0].tax == 476 &&
		   invoice.rates[1].taxable == 1125 && invoice.rates[1].tax == 90,
	   "the rates add up to what is printed below the lines");
	ok(allocation_totals(&invoice.allocation, &totals) == ALLOCATION_OK &&
		   totals.subtotal == 5010 && totals.discount == 615 && totals.tax == 566 &&
		   totals.added_tax == 566 && totals.total == 4961,
	   "50.10 - 6.15 + 5.66 is 49.61");

	invoice.rates[0].behavior = TAX_INCLUSIVE;
	/* 4410 * 16 / 116 = 608.28, inside; only the 90 are added */
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_OK && invoice.lines[0].tax == 608 &&
		   allocation_totals(&invoice.allocation, &totals) == ALLOCATION_OK && totals.tax == 468 &&
		   totals.added_tax == 90 && totals.total == 4485,
	   "tax that is inside is not added");
}

/* ---- credit ---- */

static const struct
{
	int64_t total;
	int64_t credits[3];
	int64_t balance;
	int64_t used[3];
	Settlement wanted; /* credit used, balance used, balance after, due */
	const char *name;
} settlements[] = {
	{1000, {0}, 0, {0}, {0, 0, 0, 1000}, "all is due"},
	{0, {500}, 300, {0}, {0, 0, 300, 0}, "nothing is due, nothing is used"},
	{1000, {300, 400, 500}, 0, {300, 400, 300}, {1000, 0, 0, 0}, "credits in the order given"},
	{1000, {300}, 200, {300}, {300, 200, 0, 500}, "prepaid credit before balance"},
	{1000, {0}, 1500, {0}, {0, 1000, 500, 0}, "a balance above the total"},
	{1000, {0}, -50, {0}, {0, -50, 0, 1050}, "what was too small becomes due"},
	{-400, {500}, 0, {0}, {0, -400, 400, 0}, "a negative total becomes balance"},
	{-400, {0}, -150, {0}, {0, -400, 250, 0}, "after what the customer owes"},
	{-100, {0}, -150, {0}, {0, -150, 0, 50}, "and what is still owed is due"},
	{-100, {0}, 250, {0}, {0, -100, 350, 0}, "balances add up"},
	{0, {500}, -30, {0}, {0, -30, 0, 30}, "prepaid credit pays invoices, not balances"},
	{INT64_MAX, {INT64_MAX, 1}, 7, {INT64_MAX, 0}, {INT64_MAX, 0, 7, 0}, "the largest total"},
};

static void
test_settlements(void)
{
	for (int i = 0; i < COUNT(settlements); i++)
	{
		PrepaidCredit credits[3] = {{0}};
		const Settlement *wanted = &settlements[i].wanted;
		Settlement got = {0};
		bool same;

		for (int credit = 0; credit < 3; credit++)
			credits[credit].available = settlements[i].credits[credit];
		same = allocation_settle(settlements[i].total, credits, 3, settlements[i].balance, &got) ==
				   ALLOCATION_OK &&
			   got.credit_used == wanted->credit_used && got.balance_used == wanted->balance_used &&
			   got.balance_after == wanted->balance_after && got.due == wanted->due;
		for (int credit = 0; credit < 3; credit++)
			same = same && credits[credit].used == settlements[i].used[credit];
		ok(same, settlements[i].name);
	}
}

/* ---- what is refused ---- */

static void
test_refusals(void)
{
	Invoice invoice = {0};
	AllocationTotals totals;
	Settlement settlement = {.due = 42};
	PrepaidCredit negative = {-1, 0};
	Coupon bad[] = {{COUPON_PERCENT, {0}, 0},
					{COUPON_PERCENT, fraction("100.1"), 0},
					{COUPON_PERCENT, fraction("-1"), 0},
					{COUPON_AMOUNT, {0}, -1},
					{0, {0}, 1}};
	Coupon good = {COUPON_AMOUNT, {0}, 1};
	int64_t taken;
	bool refused = true;

	open_invoice(&invoice, 2, 1);
	invoice.lines[0] = (AllocatedLine){.amount = INT64_MAX, .takes_part = true};
	invoice.lines[1] = (AllocatedLine){.amount = INT64_MAX, .takes_part = true};
	for (int i = 0; i < COUNT(bad); i++)
		refused = refused &&
				  allocate_discount(&invoice.allocation, &bad[i], &taken) == ALLOCATION_BAD_COUPON;
	ok(refused, "coupons of 0 %, 100.1 %, -1 %, -0.01, and of no kind");
	ok(allocate_discount(&invoice.allocation, &good, &taken) == ALLOCATION_OVERFLOW,
	   "lines that add up to more than an amount");

	invoice.rates[0] = (TaxRate){fraction("-0.1"), TAX_EXCLUSIVE, 0, 0};
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_BAD_RATE, "a negative rate");
	invoice.rates[0] = (TaxRate){fraction("1000.1"), TAX_EXCLUSIVE, 0, 0};
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_BAD_RATE, "a rate above 1000 %");
	invoice.rates[0] = (TaxRate){fraction("16"), 0, 0, 0};
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_BAD_RATE, "neither added nor inside");
	invoice.rates[0] = (TaxRate){fraction("16"), TAX_EXCLUSIVE, 0, 0};
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_OVERFLOW, "a sum that overflows");
	ok(allocation_totals(&invoice.allocation, &totals) == ALLOCATION_OVERFLOW, "and a total");
	invoice.lines[1].tax_rate = 1;
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_BAD_LINE, "a rate that is not there");
	invoice.lines[1].tax_rate = -2;
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_BAD_LINE, "and a negative one");
	invoice.lines[1].tax_rate = 0;
	invoice.allocation.scratch_count = 3;
	ok(allocate_tax(&invoice.allocation) == ALLOCATION_NO_ROOM &&
		   allocate_discount(&invoice.allocation, &good, &taken) == ALLOCATION_NO_ROOM,
	   "too little scratch memory");

	ok(allocation_settle(1, &negative, 1, 0, &settlement) == ALLOCATION_BAD_CREDIT,
	   "a negative credit");
	ok(allocation_settle(INT64_MAX, NULL, 0, -1, &settlement) == ALLOCATION_OVERFLOW &&
		   allocation_settle(-1, NULL, 0, INT64_MAX, &settlement) == ALLOCATION_OVERFLOW,
	   "a due amount and a balance that overflow");
	ok(settlement.due == 42, "a refusal leaves the settlement alone");
}

int
main(void)
{
	test_discounts();
	test_discount_below_maximum();
	test_several_coupons();
	test_taxes();
	test_invoice();
	test_settlements();
	test_refusals();
	return done_testing();
}
