-- Closed periods: what was billed of them, and what comes late.

CREATE TABLE billing.usage_closings
(
	organization_id text NOT NULL CHECK (organization_id <> ''),
	period_start timestamptz NOT NULL,
	period_end timestamptz NOT NULL CHECK (period_end >= period_start),
	raw_since timestamptz NOT NULL,
	closed_at timestamptz NOT NULL DEFAULT now(),
	subscription_id uuid REFERENCES billing.subscriptions (id),
	PRIMARY KEY (organization_id, period_start),
	CHECK (period_end > period_start OR subscription_id IS NOT NULL)
);
COMMENT ON TABLE billing.usage_closings IS
	'Periods whose usage was billed, by our engine or by close_usage_period(). Those of one organisation do not overlap. What lies between them is billed nowhere.';
COMMENT ON COLUMN billing.usage_closings.period_end IS
	'Where it is period_start, no period was closed: it took over what had come late into those before.';
COMMENT ON COLUMN billing.usage_closings.subscription_id IS 'Whose invoice it is billed with; NULL: closed by hand.';

COMMENT ON COLUMN billing.usage_closings.raw_since IS
	'usage_rollup_state.raw_since when it was closed: of what ended before that, this closing has taken over all that ever comes.';

-- No foreign key leads from period_start to the period's own closing: it would
-- be checked on the snapshot of the transaction, and in a REPEATABLE READ one
-- that waited for another closing not find what the line is about.
CREATE TABLE billing.usage_closing_lines
(
	organization_id text NOT NULL,
	closing_start timestamptz NOT NULL,
	metric text NOT NULL REFERENCES billing.meters (metric),
	period_start timestamptz NOT NULL,
	period_end timestamptz NOT NULL,
	kind text NOT NULL CHECK (kind IN ('usage', 'correction')),
	quantity numeric NOT NULL CHECK (quantity > '-Infinity' AND quantity < 'Infinity'),
	from_quarter numeric NOT NULL CHECK (from_quarter > '-Infinity' AND from_quarter < 'Infinity'),
	in_quarters numeric NOT NULL CHECK (in_quarters > '-Infinity' AND in_quarters < 'Infinity'),
	PRIMARY KEY (organization_id, closing_start, metric, period_start),
	FOREIGN KEY (organization_id, closing_start) REFERENCES billing.usage_closings (organization_id, period_start),
	CHECK ((kind = 'usage') = (closing_start = period_start))
);
COMMENT ON TABLE billing.usage_closing_lines IS
	'What each closing took over: usage of its own period, and corrections of periods that were closed before, by what had come late. The '
	'lines of a period, added up over all closings, are what was billed of it. There is no line for nothing.';
COMMENT ON COLUMN billing.usage_closing_lines.closing_start IS 'Of the period with which it is billed.';
COMMENT ON COLUMN billing.usage_closing_lines.period_start IS 'Of the period in which it was used.';
COMMENT ON COLUMN billing.usage_closing_lines.quantity IS
	'In the metric''s unit; of weighted to the millionth. Of a correction the difference, which may be below 0.';
COMMENT ON COLUMN billing.usage_closing_lines.from_quarter IS
	'The same as if the period began with the quarter of an hour that its start is in: once retention has removed the events of that '
	'quarter, later differences are taken from it, as the totals of quarters are kept.';
COMMENT ON COLUMN billing.usage_closing_lines.in_quarters IS
	'The same as if it also ended where the quarter of its end begins: for when the events of that one are gone, too. What came late '
	'into the quarter between two periods then counts with the later one. Sums stay exact so; a level changes by what it has changed by there.';
CREATE INDEX usage_closing_lines_period ON billing.usage_closing_lines (organization_id, period_start, metric);

-- What comes late costs what its period did, whatever is sold by then.
CREATE TABLE billing.usage_closing_prices
(
	organization_id text NOT NULL,
	period_start timestamptz NOT NULL,
	period_end timestamptz NOT NULL CHECK (period_end > period_start),
	component text NOT NULL,
	metric text NOT NULL REFERENCES billing.meters (metric),
	price_id uuid NOT NULL REFERENCES billing.prices (id),
	whole_start timestamptz NOT NULL,
	whole_end timestamptz NOT NULL CHECK (whole_end >= whole_start),
	PRIMARY KEY (organization_id, period_start, component),
	FOREIGN KEY (organization_id, period_start) REFERENCES billing.usage_closings (organization_id, period_start)
);
COMMENT ON TABLE billing.usage_closing_prices IS
	'The prices by which our engine billed the usage of a closed period. Its other metrics had none, and cost nothing.';
COMMENT ON COLUMN billing.usage_closing_prices.whole_start IS
	'Of the whole period that the closed one is all or a part of: a part has its part of fees, free units and commitments.';

-- The rollup marks what it adds to in closed periods, in its transaction, and a
-- closing marks its own period: a run that does not see the closing has taken in
-- nothing but what was visible before it was committed, and so to the next
-- closing.  That one takes the marks of others that it sees.
CREATE TABLE billing.usage_closing_marks
(
	organization_id text NOT NULL,
	id uuid NOT NULL DEFAULT billing.new_id(),
	period_start timestamptz NOT NULL,
	metric text,
	marked_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
	PRIMARY KEY (organization_id, id)
);
COMMENT ON TABLE billing.usage_closing_marks IS
	'Closed periods into which something may have come since a closing looked at them: all others need no look. What the totals do not hold yet '
	'is marked when they take it in.';
COMMENT ON COLUMN billing.usage_closing_marks.metric IS 'NULL: all of them, as nothing has looked at the period since it was closed.';
CREATE INDEX usage_closings_end ON billing.usage_closings (organization_id, period_end);

CREATE FUNCTION billing.keep_closings() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'billing.% is append-only', TG_TABLE_NAME
		USING ERRCODE = 'JB008', HINT = 'What has changed since becomes a correction of the next closing.';
END
$$;
COMMENT ON FUNCTION billing.keep_closings() IS 'Trigger of closings and their lines: rows never change.';
CREATE TRIGGER keep_closings BEFORE UPDATE OR DELETE ON billing.usage_closings
	FOR EACH ROW EXECUTE FUNCTION billing.keep_closings();
CREATE TRIGGER keep_closings BEFORE UPDATE OR DELETE ON billing.usage_closing_lines
	FOR EACH ROW EXECUTE FUNCTION billing.keep_closings();
CREATE TRIGGER keep_closings BEFORE UPDATE OR DELETE ON billing.usage_closing_prices
	FOR EACH ROW EXECUTE FUNCTION billing.keep_closings();
SELECT pg_extension_config_dump('billing.usage_closings', '');
SELECT pg_extension_config_dump('billing.usage_closing_lines', '');
SELECT pg_extension_config_dump('billing.usage_closing_prices', '');
SELECT pg_extension_config_dump('billing.usage_closing_marks', '');

CREATE FUNCTION billing.close_usage_period(organization_id text, start_at timestamptz, end_at timestamptz)
RETURNS TABLE (metric text, kind text, period_start timestamptz, period_end timestamptz, quantity numeric)
LANGUAGE c VOLATILE SECURITY DEFINER ROWS 10
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_close_usage_period';
COMMENT ON FUNCTION billing.close_usage_period(text, timestamptz, timestamptz) IS
	'Closes [start_at, end_at) for billing. Returns its usage per metric (kind usage), and for each period that was closed before what has '
	'come late (kind correction): late events, voids and corrections, also of transactions that were open when it was closed. Metrics with '
	'nothing have no row. Each event is in exactly one row of some closing. Again: the same rows. Two closings of one organisation wait for each other. '
	'Errors: 22023 end_at is not after start_at, or start_at inside a quarter of an hour whose events retention has removed; JB008 it '
	'overlaps another closed period, or is not over.';

CREATE FUNCTION billing.preview_usage_period(organization_id text, start_at timestamptz, end_at timestamptz)
RETURNS TABLE (metric text, kind text, period_start timestamptz, period_end timestamptz, quantity numeric)
LANGUAGE c STABLE SECURITY DEFINER ROWS 10
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_preview_usage_period';
COMMENT ON FUNCTION billing.preview_usage_period(text, timestamptz, timestamptz) IS
	'The rows that close_usage_period() would return now, without closing anything; the period need not be over. Errors: as there.';

CREATE FUNCTION billing.late_usage(organization_id text)
RETURNS TABLE (metric text, period_start timestamptz, period_end timestamptz, quantity numeric)
LANGUAGE c STABLE SECURITY DEFINER ROWS 10
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_late_usage';
COMMENT ON FUNCTION billing.late_usage(text) IS
	'What has come late into closed periods of the organisation and is in no closing yet: the corrections of the next one.';

CREATE VIEW billing.usage_late AS
	SELECT c.organization_id, l.metric, l.period_start, l.period_end, l.quantity
	FROM (SELECT DISTINCT u.organization_id FROM billing.usage_closings AS u) AS c
	CROSS JOIN LATERAL billing.late_usage(c.organization_id) AS l;
COMMENT ON VIEW billing.usage_late IS
	'Usage that came into a period after it was closed, and is in no closing yet. The next closing of the organisation takes it over.';
