/*
 * test_rating.c
 *		What quantities cost, against amounts that were computed beforehand with
 *		exact rationals from the definition of each model, and lines that a
 *		person added up.
 */
#include "rating.h"

#include "unit.h"

#define COUNT(table) ((int) (sizeof(table) / sizeof((table)[0])))
#define MOST_TIERS   8

/* up_to "" has no end; a table ends with a tier without price */
typedef struct TierText
{
	const char *up_to;
	const char *unit_price;
	int64_t flat_fee;
} TierText;

static const TierText simple[] = {{"100", "2", 0}, {"", "1", 0}, {0}};
static const TierText fees[] = {{"10", "5", 100}, {"20", "4", 50}, {"", "3", 25}, {0}};
static const TierText five[] = {{"1000", "1", 0},       {"10000", "0.8", 0}, {"100000", "0.5", 0},
								{"1000000", "0.25", 0}, {"", "0.1", 0},      {0}};
static const TierText halves[] = {{"1", "0.5", 0}, {"2", "0.5", 0}, {"3", "0.5", 0},
								  {"4", "0.5", 0}, {"", "0.5", 0},  {0}};
static const TierText fine[] = {
	{"0.5", "0.000000000001", 0}, {"1000000000", "0.333333333333", 0}, {"", "0.000001", 0}, {0}};
static const TierText one[] = {{"", "7", 10}, {0}};
static const TierText free_first[] = {{"1000", "0", 0}, {"", "0.02", 0}, {0}};
static const TierText typographic[] = {{"5", "700", 0}, {"10", "650", 0}, {"", "600", 0}, {0}};
static const TierText huge[] = {{"1000000000000", "1000000", 0}, {"", "999999", 1}, {0}};
static const TierText remainders[] = {{"0.5", "0.000000000001", 0}, {"", "0.999999999999", 0}, {0}};
static const TierText thirds[] = {
	{"1", "0.333333333333", 0}, {"2", "0.333333333333", 0}, {"", "0.333333333334", 0}, {0}};

typedef struct Case
{
	PriceModel model;
	const char *quantity;
	const char *unit_price;
	const char *package_size;
	const char *percent;
	const char *free_units;
	int64_t flat_fee;
	int64_t commitment;
	const int64_t *minimum;
	const int64_t *maximum;
	const TierText *tiers;
	int64_t wanted;
	const char *name;
} Case;

static const Case cases[] = {
	{PRICE_FLAT, "1", .flat_fee = INT64_C(4900), .wanted = INT64_C(4900), .name = "a flat fee"},
	{PRICE_FLAT, "0", .flat_fee = INT64_C(4900), .wanted = INT64_C(4900),
	 .name = "a flat fee for nothing used"},
	{PRICE_FLAT, "123456", .flat_fee = INT64_C(4900), .wanted = INT64_C(4900),
	 .name = "a flat fee for much"},
	{PRICE_FLAT, "1", .flat_fee = INT64_C(500), .wanted = INT64_C(500),
	 .name = "a flat fee in yen is whole yen"},
	{PRICE_PER_UNIT, "1", .unit_price = "199", .wanted = INT64_C(199), .name = "one unit"},
	{PRICE_PER_UNIT, "0", .unit_price = "199", .wanted = INT64_C(0), .name = "no unit"},
	{PRICE_PER_UNIT, "7", .unit_price = "1200", .wanted = INT64_C(8400), .name = "seven seats"},
	{PRICE_PER_UNIT, "0.5", .unit_price = "199", .wanted = INT64_C(100), .name = "half a unit"},
	{PRICE_PER_UNIT, "1", .unit_price = "0.5", .wanted = INT64_C(1),
	 .name = "half a cent rounds up"},
	{PRICE_PER_UNIT, "1", .unit_price = "0.499999999999", .wanted = INT64_C(0),
	 .name = "just less than half a cent is none"},
	{PRICE_PER_UNIT, "5", .unit_price = "0.5", .wanted = INT64_C(3),
	 .name = "two and a half cents round to three, not to even"},
	{PRICE_PER_UNIT, "5", .unit_price = "0.1", .wanted = INT64_C(1),
	 .name = "a tenth of a cent five times"},
	{PRICE_PER_UNIT, "4", .unit_price = "0.1", .wanted = INT64_C(0),
	 .name = "four times is less than a half"},
	{PRICE_PER_UNIT, "1000000000000", .unit_price = "0.000000000001", .wanted = INT64_C(1),
	 .name = "the finest price"},
	{PRICE_PER_UNIT, "500000000000", .unit_price = "0.000000000001", .wanted = INT64_C(1),
	 .name = "half of that rounds up"},
	{PRICE_PER_UNIT, "499999999999", .unit_price = "0.000000000001", .wanted = INT64_C(0),
	 .name = "one less does not"},
	{PRICE_PER_UNIT, "0.000000000001", .unit_price = "0.000000000001", .wanted = INT64_C(0),
	 .name = "the finest price of the finest quantity"},
	{PRICE_PER_UNIT, "3.000000000003", .unit_price = "0.166666666667", .wanted = INT64_C(1),
	 .name = "all decimals of both count"},
	{PRICE_PER_UNIT, "0.707106781186", .unit_price = "0.707106781187", .wanted = INT64_C(0),
	 .name = "a product of 24 decimals just below a half"},
	{PRICE_PER_UNIT, "3", .unit_price = "20000000.25", .wanted = INT64_C(60000001),
	 .name = "a price above 18 million"},
	{PRICE_PER_UNIT, "20000001", .unit_price = "0.25", .wanted = INT64_C(5000000),
	 .name = "a quantity above 18 million"},
	{PRICE_PER_UNIT, "1000000000", .unit_price = "0.02", .wanted = INT64_C(20000000),
	 .name = "a billion calls at 0.02 cents"},
	{PRICE_PER_UNIT, "1", .unit_price = "9223372036854775807",
	 .wanted = INT64_C(9223372036854775807), .name = "the largest amount"},
	{PRICE_PER_UNIT, "100", .unit_price = "5", .free_units = "100", .wanted = INT64_C(0),
	 .name = "free units cover it"},
	{PRICE_PER_UNIT, "101", .unit_price = "5", .free_units = "100", .wanted = INT64_C(5),
	 .name = "one above the free units"},
	{PRICE_PER_UNIT, "3", .unit_price = "5", .free_units = "100", .wanted = INT64_C(0),
	 .name = "below the free units"},
	{PRICE_PER_UNIT, "100.5", .unit_price = "5", .free_units = "100", .wanted = INT64_C(3),
	 .name = "a fraction above the free units"},
	{PRICE_GRADUATED, "0", .tiers = simple, .wanted = INT64_C(0),
	 .name = "graduated: 0 of 100 at 2, then 1"},
	{PRICE_GRADUATED, "1", .tiers = simple, .wanted = INT64_C(2),
	 .name = "graduated: 1 of 100 at 2, then 1"},
	{PRICE_GRADUATED, "99", .tiers = simple, .wanted = INT64_C(198),
	 .name = "graduated: 99 of 100 at 2, then 1"},
	{PRICE_GRADUATED, "100", .tiers = simple, .wanted = INT64_C(200),
	 .name = "graduated: 100 of 100 at 2, then 1"},
	{PRICE_GRADUATED, "100.000000000001", .tiers = simple, .wanted = INT64_C(200),
	 .name = "graduated: 100.000000000001 of 100 at 2, then 1"},
	{PRICE_GRADUATED, "101", .tiers = simple, .wanted = INT64_C(201),
	 .name = "graduated: 101 of 100 at 2, then 1"},
	{PRICE_GRADUATED, "150", .tiers = simple, .wanted = INT64_C(250),
	 .name = "graduated: 150 of 100 at 2, then 1"},
	{PRICE_GRADUATED, "1000", .tiers = simple, .wanted = INT64_C(1100),
	 .name = "graduated: 1000 of 100 at 2, then 1"},
	{PRICE_VOLUME, "0", .tiers = simple, .wanted = INT64_C(0),
	 .name = "volume: 0 of 100 at 2, then 1"},
	{PRICE_VOLUME, "100", .tiers = simple, .wanted = INT64_C(200),
	 .name = "volume: 100 of 100 at 2, then 1"},
	{PRICE_VOLUME, "101", .tiers = simple, .wanted = INT64_C(101),
	 .name = "volume: 101 of 100 at 2, then 1"},
	{PRICE_VOLUME, "150", .tiers = simple, .wanted = INT64_C(150),
	 .name = "volume: 150 of 100 at 2, then 1"},
	{PRICE_VOLUME, "1000", .tiers = simple, .wanted = INT64_C(1000),
	 .name = "volume: 1000 of 100 at 2, then 1"},
	{PRICE_GRADUATED, "0", .tiers = fees, .wanted = INT64_C(100), .name = "graduated with fees: 0"},
	{PRICE_GRADUATED, "1", .tiers = fees, .wanted = INT64_C(105), .name = "graduated with fees: 1"},
	{PRICE_GRADUATED, "10", .tiers = fees, .wanted = INT64_C(150),
	 .name = "graduated with fees: 10"},
	{PRICE_GRADUATED, "11", .tiers = fees, .wanted = INT64_C(204),
	 .name = "graduated with fees: 11"},
	{PRICE_GRADUATED, "20", .tiers = fees, .wanted = INT64_C(240),
	 .name = "graduated with fees: 20"},
	{PRICE_GRADUATED, "21", .tiers = fees, .wanted = INT64_C(268),
	 .name = "graduated with fees: 21"},
	{PRICE_GRADUATED, "30", .tiers = fees, .wanted = INT64_C(295),
	 .name = "graduated with fees: 30"},
	{PRICE_GRADUATED, "10.5", .tiers = fees, .wanted = INT64_C(202),
	 .name = "graduated with fees: 10.5"},
	{PRICE_GRADUATED, "20.25", .tiers = fees, .wanted = INT64_C(266),
	 .name = "graduated with fees: 20.25"},
	{PRICE_VOLUME, "0", .tiers = fees, .wanted = INT64_C(100), .name = "volume with fees: 0"},
	{PRICE_VOLUME, "1", .tiers = fees, .wanted = INT64_C(105), .name = "volume with fees: 1"},
	{PRICE_VOLUME, "10", .tiers = fees, .wanted = INT64_C(150), .name = "volume with fees: 10"},
	{PRICE_VOLUME, "11", .tiers = fees, .wanted = INT64_C(94), .name = "volume with fees: 11"},
	{PRICE_VOLUME, "20", .tiers = fees, .wanted = INT64_C(130), .name = "volume with fees: 20"},
	{PRICE_VOLUME, "21", .tiers = fees, .wanted = INT64_C(88), .name = "volume with fees: 21"},
	{PRICE_VOLUME, "30", .tiers = fees, .wanted = INT64_C(115), .name = "volume with fees: 30"},
	{PRICE_GRADUATED, "1000", .tiers = five, .wanted = INT64_C(1000), .name = "five tiers: 1000"},
	{PRICE_GRADUATED, "1001", .tiers = five, .wanted = INT64_C(1001), .name = "five tiers: 1001"},
	{PRICE_GRADUATED, "10000", .tiers = five, .wanted = INT64_C(8200), .name = "five tiers: 10000"},
	{PRICE_GRADUATED, "10001", .tiers = five, .wanted = INT64_C(8201), .name = "five tiers: 10001"},
	{PRICE_GRADUATED, "100000", .tiers = five, .wanted = INT64_C(53200),
	 .name = "five tiers: 100000"},
	{PRICE_GRADUATED, "1000000", .tiers = five, .wanted = INT64_C(278200),
	 .name = "five tiers: 1000000"},
	{PRICE_GRADUATED, "1000001", .tiers = five, .wanted = INT64_C(278200),
	 .name = "five tiers: 1000001"},
	{PRICE_GRADUATED, "50000000", .tiers = five, .wanted = INT64_C(5178200),
	 .name = "five tiers: 50000000"},
	{PRICE_GRADUATED, "999.5", .tiers = five, .wanted = INT64_C(1000), .name = "five tiers: 999.5"},
	{PRICE_VOLUME, "1000", .tiers = five, .wanted = INT64_C(1000),
	 .name = "five tiers by volume: 1000"},
	{PRICE_VOLUME, "1001", .tiers = five, .wanted = INT64_C(801),
	 .name = "five tiers by volume: 1001"},
	{PRICE_VOLUME, "100001", .tiers = five, .wanted = INT64_C(25000),
	 .name = "five tiers by volume: 100001"},
	{PRICE_VOLUME, "2000000", .tiers = five, .wanted = INT64_C(200000),
	 .name = "five tiers by volume: 2000000"},
	{PRICE_GRADUATED, "1", .tiers = halves, .wanted = INT64_C(1),
	 .name = "half a cent in each tier: 1 units"},
	{PRICE_GRADUATED, "2", .tiers = halves, .wanted = INT64_C(1),
	 .name = "half a cent in each tier: 2 units"},
	{PRICE_GRADUATED, "3", .tiers = halves, .wanted = INT64_C(2),
	 .name = "half a cent in each tier: 3 units"},
	{PRICE_GRADUATED, "4", .tiers = halves, .wanted = INT64_C(2),
	 .name = "half a cent in each tier: 4 units"},
	{PRICE_GRADUATED, "5", .tiers = halves, .wanted = INT64_C(3),
	 .name = "half a cent in each tier: 5 units"},
	{PRICE_GRADUATED, "4.5", .tiers = halves, .wanted = INT64_C(2),
	 .name = "half a cent in each tier: 4.5 units"},
	{PRICE_GRADUATED, "0.5", .tiers = fine, .wanted = INT64_C(0), .name = "fine prices: 0.5"},
	{PRICE_GRADUATED, "1.5", .tiers = fine, .wanted = INT64_C(0), .name = "fine prices: 1.5"},
	{PRICE_GRADUATED, "1000000000", .tiers = fine, .wanted = INT64_C(333333333),
	 .name = "fine prices: 1000000000"},
	{PRICE_GRADUATED, "1000000001", .tiers = fine, .wanted = INT64_C(333333333),
	 .name = "fine prices: 1000000001"},
	{PRICE_GRADUATED, "3000000000", .tiers = fine, .wanted = INT64_C(333335333),
	 .name = "fine prices: 3000000000"},
	{PRICE_VOLUME, "3000000000", .tiers = fine, .wanted = INT64_C(3000),
	 .name = "fine prices by volume"},
	{PRICE_GRADUATED, "3", .tiers = one, .wanted = INT64_C(31),
	 .name = "one tier is a unit price with a fee"},
	{PRICE_VOLUME, "3", .tiers = one, .wanted = INT64_C(31), .name = "and the same by volume"},
	{PRICE_GRADUATED, "1000", .tiers = free_first, .wanted = INT64_C(0),
	 .name = "a first tier that is free"},
	{PRICE_GRADUATED, "3500", .tiers = free_first, .wanted = INT64_C(50),
	 .name = "and what comes after it"},
	{PRICE_GRADUATED, "1025", .tiers = free_first, .wanted = INT64_C(1),
	 .name = "25 more make half a cent"},
	{PRICE_VOLUME, "5", .tiers = typographic, .wanted = INT64_C(3500),
	 .name = "published example, volume: 5 fonts"},
	{PRICE_VOLUME, "6", .tiers = typographic, .wanted = INT64_C(3900),
	 .name = "published example, volume: 6 fonts"},
	{PRICE_VOLUME, "20", .tiers = typographic, .wanted = INT64_C(12000),
	 .name = "published example, volume: 20 fonts"},
	{PRICE_VOLUME, "25", .tiers = typographic, .wanted = INT64_C(15000),
	 .name = "published example, volume: 25 fonts"},
	{PRICE_GRADUATED, "5", .tiers = typographic, .wanted = INT64_C(3500),
	 .name = "published example, graduated: 5 fonts"},
	{PRICE_GRADUATED, "6", .tiers = typographic, .wanted = INT64_C(4150),
	 .name = "published example, graduated: 6 fonts"},
	{PRICE_GRADUATED, "20", .tiers = typographic, .wanted = INT64_C(12750),
	 .name = "published example, graduated: 20 fonts"},
	{PRICE_GRADUATED, "25", .tiers = typographic, .wanted = INT64_C(15750),
	 .name = "published example, graduated: 25 fonts"},
	{PRICE_GRADUATED, "1000000000000", .tiers = huge, .wanted = INT64_C(1000000000000000000),
	 .name = "a trillion units at 10,000.00"},
	{PRICE_GRADUATED, "1000000000007", .tiers = huge, .wanted = INT64_C(1000000000006999994),
	 .name = "and a few more"},
	{PRICE_GRADUATED, "3", .tiers = thirds, .wanted = INT64_C(1), .name = "thirds add up exactly"},
	{PRICE_GRADUATED, "1.5", .tiers = thirds, .wanted = INT64_C(0),
	 .name = "and stay below a half with 1.5 units"},
	{PRICE_GRADUATED, "1", .tiers = remainders, .wanted = INT64_C(1),
	 .name = "what is cut off of two products can be a half"},
	{PRICE_GRADUATED, "160", .free_units = "50", .tiers = simple, .wanted = INT64_C(210),
	 .name = "tiers count after free units"},
	{PRICE_VOLUME, "150", .free_units = "50", .tiers = simple, .wanted = INT64_C(200),
	 .name = "volume after free units"},
	{PRICE_GRADUATED, "30", .free_units = "15", .tiers = fees, .wanted = INT64_C(220),
	 .name = "fees after free units"},
	{PRICE_PACKAGE, "0", .unit_price = "500", .package_size = "100", .wanted = INT64_C(0),
	 .name = "packages of 100: 0"},
	{PRICE_PACKAGE, "1", .unit_price = "500", .package_size = "100", .wanted = INT64_C(500),
	 .name = "packages of 100: 1"},
	{PRICE_PACKAGE, "99", .unit_price = "500", .package_size = "100", .wanted = INT64_C(500),
	 .name = "packages of 100: 99"},
	{PRICE_PACKAGE, "100", .unit_price = "500", .package_size = "100", .wanted = INT64_C(500),
	 .name = "packages of 100: 100"},
	{PRICE_PACKAGE, "101", .unit_price = "500", .package_size = "100", .wanted = INT64_C(1000),
	 .name = "packages of 100: 101"},
	{PRICE_PACKAGE, "200", .unit_price = "500", .package_size = "100", .wanted = INT64_C(1000),
	 .name = "packages of 100: 200"},
	{PRICE_PACKAGE, "200.5", .unit_price = "500", .package_size = "100", .wanted = INT64_C(1500),
	 .name = "packages of 100: 200.5"},
	{PRICE_PACKAGE, "250", .unit_price = "500", .package_size = "100", .wanted = INT64_C(1500),
	 .name = "packages of 100: 250"},
	{PRICE_PACKAGE, "1.2", .unit_price = "3", .package_size = "0.5", .wanted = INT64_C(9),
	 .name = "packages of a half"},
	{PRICE_PACKAGE, "1100", .unit_price = "500", .package_size = "1000", .free_units = "100",
	 .wanted = INT64_C(500), .name = "packages after free units"},
	{PRICE_PACKAGE, "1101", .unit_price = "500", .package_size = "1000", .free_units = "100",
	 .wanted = INT64_C(1000), .name = "a package begun after free units"},
	{PRICE_PACKAGE, "3000", .unit_price = "0.5", .package_size = "1000", .wanted = INT64_C(2),
	 .name = "packages at a fraction of a cent"},
	{PRICE_PERCENTAGE, "10000", .percent = "2.9", .wanted = INT64_C(290),
	 .name = "2.9 % of 100.00"},
	{PRICE_PERCENTAGE, "17", .percent = "2.9", .wanted = INT64_C(0),
	 .name = "2.9 % of 0.17 is half a cent less"},
	{PRICE_PERCENTAGE, "18", .percent = "2.9", .wanted = INT64_C(1), .name = "2.9 % of 0.18"},
	{PRICE_PERCENTAGE, "100", .percent = "0.5", .wanted = INT64_C(1),
	 .name = "half a percent of 1.00"},
	{PRICE_PERCENTAGE, "99", .percent = "0.5", .wanted = INT64_C(0),
	 .name = "half a percent of 0.99"},
	{PRICE_PERCENTAGE, "12345", .percent = "100", .wanted = INT64_C(12345), .name = "all of it"},
	{PRICE_PERCENTAGE, "12345", .percent = "0", .wanted = INT64_C(0), .name = "nothing of it"},
	{PRICE_PERCENTAGE, "0", .percent = "2.9", .wanted = INT64_C(0),
	 .name = "a percentage of nothing"},
	{PRICE_PERCENTAGE, "100", .percent = "2.9", .minimum = &(int64_t){50}, .wanted = INT64_C(50),
	 .name = "the minimum"},
	{PRICE_PERCENTAGE, "10000", .percent = "2.9", .minimum = &(int64_t){50}, .wanted = INT64_C(290),
	 .name = "above the minimum"},
	{PRICE_PERCENTAGE, "0", .percent = "2.9", .minimum = &(int64_t){50}, .wanted = INT64_C(0),
	 .name = "no minimum for nothing"},
	{PRICE_PERCENTAGE, "100", .percent = "2.9", .free_units = "100", .minimum = &(int64_t){50},
	 .wanted = INT64_C(0), .name = "no minimum within the free amount"},
	{PRICE_PERCENTAGE, "1000000", .percent = "2.9", .minimum = &(int64_t){50},
	 .maximum = &(int64_t){10000}, .wanted = INT64_C(10000), .name = "the maximum"},
	{PRICE_PERCENTAGE, "400000", .percent = "2.5", .maximum = &(int64_t){10000},
	 .wanted = INT64_C(10000), .name = "just the maximum"},
	{PRICE_PERCENTAGE, "400000", .percent = "2.5", .maximum = &(int64_t){0}, .wanted = INT64_C(0),
	 .name = "a maximum of 0"},
	{PRICE_PERCENTAGE, "15000", .percent = "10", .free_units = "5000", .wanted = INT64_C(1000),
	 .name = "a percentage above a free amount"},
	{PRICE_PERCENTAGE, "100000000000000", .percent = "0.000000000001", .wanted = INT64_C(1),
	 .name = "a percentage with 12 decimals"},
	{PRICE_PERCENTAGE, "50000000000000", .percent = "0.000000000001", .wanted = INT64_C(1),
	 .name = "and one that makes a half"},
	{PRICE_PER_UNIT, "0", .unit_price = "5", .commitment = INT64_C(1000), .wanted = INT64_C(1000),
	 .name = "commitment, nothing used"},
	{PRICE_PER_UNIT, "150", .unit_price = "5", .commitment = INT64_C(1000), .wanted = INT64_C(1000),
	 .name = "commitment, little used"},
	{PRICE_PER_UNIT, "200", .unit_price = "5", .commitment = INT64_C(1000), .wanted = INT64_C(1000),
	 .name = "commitment, just used"},
	{PRICE_PER_UNIT, "201", .unit_price = "5", .commitment = INT64_C(1000), .wanted = INT64_C(1005),
	 .name = "commitment, more used"},
	{PRICE_GRADUATED, "50", .commitment = INT64_C(5000), .tiers = simple, .wanted = INT64_C(5000),
	 .name = "commitment of tiers"},
	{PRICE_FLAT, "1", .flat_fee = INT64_C(300), .commitment = INT64_C(500), .wanted = INT64_C(500),
	 .name = "commitment of a flat fee"},
	{PRICE_PERCENTAGE, "0", .percent = "1", .commitment = INT64_C(200), .minimum = &(int64_t){50},
	 .wanted = INT64_C(200), .name = "commitment above a minimum"},
};

static MoneyFraction
fraction(const char *text)
{
	MoneyFraction made = {0};

	if (text != NULL && money_fraction_parse(text, strlen(text), &made) != MONEY_OK)
		abort();
	return made;
}

static RatedPrice
price_of(const Case *given, PriceTier tiers[MOST_TIERS])
{
	RatedPrice price = {.model = given->model,
						.flat_fee = given->flat_fee,
						.unit_price = fraction(given->unit_price),
						.package_size = fraction(given->package_size),
						.percent = fraction(given->percent),
						.free_units = fraction(given->free_units),
						.commitment = given->commitment,
						.has_minimum = given->minimum != NULL,
						.has_maximum = given->maximum != NULL,
						.minimum = given->minimum != NULL ? *given->minimum : 0,
						.maximum = given->maximum != NULL ? *given->maximum : 0,
						.tiers = tiers};

	for (const TierText *tier = given->tiers; tier != NULL && tier->up_to != NULL; tier++)
	{
		bool unbounded = tier->up_to[0] == '\0';

		tiers[price.tier_count++] = (PriceTier){.up_to = fraction(unbounded ? "0" : tier->up_to),
												.unbounded = unbounded,
												.unit_price = fraction(tier->unit_price),
												.flat_fee = tier->flat_fee};
	}
	return price;
}

static void
test_cases(void)
{
	int apart = 0;

	for (int i = 0; i < COUNT(cases); i++)
	{
		PriceTier tiers[MOST_TIERS];
		RatedPrice price = price_of(&cases[i], tiers);
		MoneyFraction quantity = fraction(cases[i].quantity);
		RatedLine lines[RATING_LINES(MOST_TIERS)];
		int64_t amount = -1;
		int64_t total = -1;
		int64_t sum = 0;
		int count = 0;
		RatingStatus status = price_prepare(&price);

		if (status == RATING_OK)
			status = price_amount(&price, quantity, &amount);
		if (!ok(status == RATING_OK && amount == cases[i].wanted, cases[i].name))
			printf("# status %d, got %lld, wanted %lld\n", (int) status, (long long) amount,
				   (long long) cases[i].wanted);

		status = price_lines(&price, quantity, lines, RATING_LINES(price.tier_count), &count,
							 &total);
		for (int line = 0; line < count; line++)
			sum += lines[line].amount;
		apart += status != RATING_OK || count < 1 || sum != amount || total != amount;
	}
	ok(apart == 0, "the lines of each of them add up to its amount");
}

/* ---- lines ---- */

typedef struct WantedLine
{
	RatedKind kind;
	int tier;
	const char *quantity;
	const char *unit_price;
	int64_t amount;
} WantedLine;

static const struct
{
	Case given;
	int count;
	WantedLine lines[8];
} explained[] = {
	/* 100 free; 100 + 10 * 5; 50 + 10 * 4; 25 + 3 * 3 */
	{{PRICE_GRADUATED, "123", .free_units = "100", .tiers = fees,
	  .name = "free units, fees and units of three tiers"},
	 7,
	 {{RATED_FREE, -1, "100", "0", 0},
	  {RATED_TIER_FEE, 0, "1", "100", 100},
	  {RATED_UNITS, 0, "10", "5", 50},
	  {RATED_TIER_FEE, 1, "1", "50", 50},
	  {RATED_UNITS, 1, "10", "4", 40},
	  {RATED_TIER_FEE, 2, "1", "25", 25},
	  {RATED_UNITS, 2, "3", "3", 9}}},
	/* 2.5 is 3; 1 + 1 + 1, and then nothing is left */
	{{PRICE_GRADUATED, "5", .tiers = halves, .name = "no line takes more than is left"},
	 5,
	 {{RATED_UNITS, 0, "1", "0.5", 1},
	  {RATED_UNITS, 1, "1", "0.5", 1},
	  {RATED_UNITS, 2, "1", "0.5", 1},
	  {RATED_UNITS, 3, "1", "0.5", 0},
	  {RATED_UNITS, 4, "1", "0.5", 0}}},
	/* 1/3 each is 1; each is 0 by itself, and the last takes the 1 */
	{{PRICE_GRADUATED, "3", .tiers = thirds, .name = "the last line takes what is left"},
	 3,
	 {{RATED_UNITS, 0, "1", "0.333333333333", 0},
	  {RATED_UNITS, 1, "1", "0.333333333333", 0},
	  {RATED_UNITS, 2, "1", "0.333333333334", 1}}},
	{{PRICE_GRADUATED, "0", .tiers = fees, .name = "a quantity of 0 is in the first tier"},
	 2,
	 {{RATED_TIER_FEE, 0, "1", "100", 100}, {RATED_UNITS, 0, "0", "5", 0}}},
	{{PRICE_VOLUME, "21", .tiers = fees, .name = "volume has one tier"},
	 2,
	 {{RATED_TIER_FEE, 2, "1", "25", 25}, {RATED_UNITS, 2, "21", "3", 63}}},
	{{PRICE_PACKAGE, "250", .unit_price = "500", .package_size = "100", .name = "packages"},
	 1,
	 {{RATED_PACKAGES, -1, "3", "500", 1500}}},
	{{PRICE_PERCENTAGE, "100", .percent = "2.9", .minimum = &(int64_t){50},
	  .name = "what is missing to the minimum"},
	 2,
	 {{RATED_PERCENT, -1, "100", "2.9", 3}, {RATED_MINIMUM, -1, "1", "47", 47}}},
	{{PRICE_PERCENTAGE, "1000000", .percent = "2.9", .maximum = &(int64_t){10000},
	  .name = "what is above the maximum"},
	 2,
	 {{RATED_PERCENT, -1, "1000000", "2.9", 29000}, {RATED_MAXIMUM, -1, "1", "-19000", -19000}}},
	{{PRICE_PER_UNIT, "150", .unit_price = "5", .commitment = 1000,
	  .name = "what is missing to the commitment"},
	 2,
	 {{RATED_UNITS, -1, "150", "5", 750}, {RATED_COMMITMENT, -1, "1", "250", 250}}},
	{{PRICE_FLAT, "12", .flat_fee = 4900, .name = "a flat fee is one line"},
	 1,
	 {{RATED_FLAT, -1, "1", "4900", 4900}}},
	{{PRICE_FLAT, "0", .name = "also where it is nothing"}, 1, {{RATED_FLAT, -1, "1", "0", 0}}},
	{{PRICE_PER_UNIT, "3", .unit_price = "5", .free_units = "10", .name = "all units are free"},
	 2,
	 {{RATED_FREE, -1, "3", "0", 0}, {RATED_UNITS, -1, "0", "5", 0}}},
};

static bool
same_line(const RatedLine *got, const WantedLine *wanted)
{
	return got->kind == wanted->kind && got->tier == wanted->tier &&
		   got->quantity.scaled == fraction(wanted->quantity).scaled &&
		   got->unit_price.scaled == fraction(wanted->unit_price).scaled &&
		   got->amount == wanted->amount;
}

static void
test_lines(void)
{
	for (int i = 0; i < COUNT(explained); i++)
	{
		PriceTier tiers[MOST_TIERS];
		RatedPrice price = price_of(&explained[i].given, tiers);
		RatedLine lines[RATING_LINES(MOST_TIERS)];
		int64_t amount = 0;
		int count = 0;
		bool same = price_prepare(&price) == RATING_OK &&
					price_lines(&price, fraction(explained[i].given.quantity), lines, COUNT(lines),
								&count, &amount) == RATING_OK &&
					count == explained[i].count;

		for (int line = 0; same && line < count; line++)
			same = same_line(&lines[line], &explained[i].lines[line]);
		ok(same, explained[i].given.name);
		ok(price_lines(&price, fraction(explained[i].given.quantity), lines, count - 1, &count,
					   &amount) == RATING_NO_ROOM,
		   "and there is no room for it in one line less");
	}
}

/* ---- what is refused ---- */

static const TierText unending[] = {{"", "1", 0}, {"", "1", 0}, {0}};
static const TierText ending[] = {{"10", "1", 0}, {0}};
static const TierText twice[] = {{"10", "1", 0}, {"10", "1", 0}, {"", "1", 0}, {0}};
static const TierText from_zero[] = {{"0", "1", 0}, {"", "1", 0}, {0}};
static const TierText descending[] = {{"10", "1", 0}, {"5", "1", 0}, {"", "1", 0}, {0}};
static const TierText negative_price[] = {{"10", "-1", 0}, {"", "1", 0}, {0}};
static const TierText negative_fee[] = {{"10", "1", -1}, {"", "1", 0}, {0}};
static const TierText large_fees[] = {{"1", "1", INT64_MAX}, {"", "1", 1}, {0}};
static const TierText large_tiers[] = {
	{"100000000000000000000", "1000000000000000000", 0}, {"", "1", 0}, {0}};

static const struct
{
	Case given;
	RatingStatus wanted;
} refused[] = {
	{{0, "1", .name = "a price without a model"}, RATING_BAD_MODEL},
	{{(PriceModel) 7, "1", .name = "a model that there is not"}, RATING_BAD_MODEL},
	{{PRICE_FLAT, "1", .flat_fee = -1, .name = "a negative flat fee"}, RATING_NEGATIVE_PRICE},
	{{PRICE_PER_UNIT, "1", .unit_price = "-0.1", .name = "a negative unit price"},
	 RATING_NEGATIVE_PRICE},
	{{PRICE_PER_UNIT, "1", .free_units = "-1", .name = "negative free units"},
	 RATING_NEGATIVE_PRICE},
	{{PRICE_PER_UNIT, "1", .commitment = -1, .name = "a negative commitment"},
	 RATING_NEGATIVE_PRICE},
	{{PRICE_PACKAGE, "1", .unit_price = "5", .name = "a package of nothing"}, RATING_BAD_PACKAGE},
	{{PRICE_PACKAGE, "1", .package_size = "-5", .name = "a package of less"}, RATING_BAD_PACKAGE},
	{{PRICE_PERCENTAGE, "1", .percent = "100.000000000001", .name = "more than all"},
	 RATING_BAD_PERCENT},
	{{PRICE_PERCENTAGE, "1", .percent = "-1", .name = "a negative percentage"}, RATING_BAD_PERCENT},
	{{PRICE_PERCENTAGE, "1", .minimum = &(int64_t){2}, .maximum = &(int64_t){1},
	  .name = "a minimum above the maximum"},
	 RATING_BAD_LIMITS},
	{{PRICE_PERCENTAGE, "1", .commitment = 2, .maximum = &(int64_t){1},
	  .name = "a commitment above the maximum"},
	 RATING_BAD_LIMITS},
	{{PRICE_PERCENTAGE, "1", .minimum = &(int64_t){-1}, .name = "a negative minimum"},
	 RATING_NEGATIVE_PRICE},
	{{PRICE_PER_UNIT, "1", .minimum = &(int64_t){1}, .name = "a minimum of units"},
	 RATING_BAD_LIMITS},
	{{PRICE_GRADUATED, "1", .name = "no tiers"}, RATING_BAD_TIERS},
	{{PRICE_GRADUATED, "1", .tiers = unending, .name = "a tier after one without end"},
	 RATING_BAD_TIERS},
	{{PRICE_VOLUME, "1", .tiers = ending, .name = "a last tier that ends"}, RATING_BAD_TIERS},
	{{PRICE_GRADUATED, "1", .tiers = twice, .name = "the same bound twice"}, RATING_BAD_TIERS},
	{{PRICE_GRADUATED, "1", .tiers = from_zero, .name = "a bound of 0"}, RATING_BAD_TIERS},
	{{PRICE_GRADUATED, "1", .tiers = descending, .name = "bounds that descend"}, RATING_BAD_TIERS},
	{{PRICE_VOLUME, "1", .tiers = negative_price, .name = "a negative price of a tier"},
	 RATING_NEGATIVE_PRICE},
	{{PRICE_VOLUME, "1", .tiers = negative_fee, .name = "a negative fee of a tier"},
	 RATING_NEGATIVE_PRICE},
	{{PRICE_GRADUATED, "1", .tiers = large_fees, .name = "fees that overflow"}, RATING_OVERFLOW},
	{{PRICE_GRADUATED, "1", .tiers = large_tiers, .name = "tiers that overflow"}, RATING_OVERFLOW},
	{{PRICE_PER_UNIT, "-0.000000000001", .unit_price = "1", .name = "a negative quantity"},
	 RATING_NEGATIVE_QUANTITY},
	{{PRICE_PER_UNIT, "2", .unit_price = "9223372036854775807", .name = "an amount that overflows"},
	 RATING_OVERFLOW},
	{{PRICE_PER_UNIT, "100000000000000000000000000", .unit_price = "1000000000000",
	  .name = "a product that overflows"},
	 RATING_OVERFLOW},
	{{PRICE_PACKAGE, "100000000000000000000000000", .package_size = "0.000000000001",
	  .name = "packages without number"},
	 RATING_OVERFLOW},
};

static void
test_refusals(void)
{
	int64_t amount = 42;

	for (int i = 0; i < COUNT(refused); i++)
	{
		PriceTier tiers[MOST_TIERS];
		RatedPrice price = price_of(&refused[i].given, tiers);
		RatingStatus status = price_prepare(&price);

		if (status == RATING_OK)
			status = price_amount(&price, fraction(refused[i].given.quantity), &amount);
		if (!ok(status == refused[i].wanted, refused[i].given.name))
			printf("# got %d\n", (int) status);
	}
	ok(amount == 42, "a refusal leaves the amount alone");
	ok(price_amount(&(RatedPrice){.model = PRICE_FLAT}, fraction("1"), &amount) == RATING_BAD_MODEL,
	   "a price that was not prepared is none");
}

static void
test_exact(void)
{
	PriceTier tiers[MOST_TIERS];
	RatedPrice seats = {.model = PRICE_PER_UNIT, .unit_price = fraction("0.125")};
	RatedPrice percent = {.model = PRICE_PERCENTAGE, .percent = fraction("2.9")};
	RatedPrice graduated = price_of(&(Case){PRICE_GRADUATED, .tiers = fees}, tiers);
	MoneyFraction exact = {0};

	ok(price_prepare(&seats) == RATING_OK &&
		   price_exact(&seats, fraction("3"), &exact) == RATING_OK &&
		   exact.scaled == fraction("0.375").scaled,
	   "three seats before rounding");
	ok(price_prepare(&percent) == RATING_OK &&
		   price_exact(&percent, fraction("17"), &exact) == RATING_OK &&
		   exact.scaled == fraction("0.493").scaled,
	   "a percentage before rounding");
	ok(price_prepare(&graduated) == RATING_OK &&
		   price_exact(&graduated, fraction("10.125"), &exact) == RATING_OK &&
		   exact.scaled == fraction("200.5").scaled,
	   "tiers with their fees before rounding");
}

int
main(void)
{
	test_cases();
	test_lines();
	test_refusals();
	test_exact();
	return done_testing();
}
