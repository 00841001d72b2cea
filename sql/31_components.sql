-- What a quantity costs: prices by the arithmetic that bills them.

CREATE FUNCTION billing.quote_price(price uuid, quantity numeric DEFAULT 1)
RETURNS TABLE (line text, tier integer, quantity_of_line numeric, unit_amount numeric, amount bigint)
LANGUAGE c VOLATILE SECURITY DEFINER ROWS 3
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_quote_price';
COMMENT ON FUNCTION billing.quote_price(uuid, numeric) IS
	'What a quantity of a price costs for one interval, as the lines of an invoice; the amounts (minor units) add up to it. line: flat, free, '
	'units, tier_fee, packages, percent, minimum, maximum (below 0), commitment. tier: 0 is the first, NULL without tiers. unit_amount: minor '
	'units with up to 12 decimals, of percent the percentage. No discount, tax or part of a period. Errors: JB005 unknown price, 22023 a '
	'negative quantity, 22003 the amount is too large.';
