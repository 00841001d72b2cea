-- Usage that is on no invoice, and will be on none unless a person does something.

-- Cheap conditions first: most organisations have a subscription that bills them.
CREATE VIEW billing.unbilled_usage AS
	WITH billed AS (
		SELECT p.organization_id, p.metric, r.currency, max(p.period_end) AS until
		FROM billing.usage_closing_prices AS p
		JOIN billing.prices AS r ON r.id = p.price_id
		GROUP BY p.organization_id, p.metric, r.currency)
	SELECT g.organization_id, 'no_price' AS reason, g.metric, g.start_at AS period_start, g.end_at AS period_end, u.quantity, g.sold_again,
		   g.until AS billed_until
	FROM (
		SELECT e.organization_id, e.metric, e.until, e.sold_again,
			   -- single events are known until retention removes them, then the quarters of an hour
			   CASE WHEN e.start_at < k.raw_since THEN date_bin('15 minutes', e.start_at, '2000-01-01 00:00+00') ELSE e.start_at END AS start_at,
			   CASE WHEN e.end_at < k.raw_since THEN date_bin('15 minutes', e.end_at, '2000-01-01 00:00+00') ELSE e.end_at END AS end_at
		FROM (
			SELECT b.organization_id, b.metric, b.until, l.usage_from IS NOT NULL AS sold_again,
				   greatest(b.until,
							(SELECT max(c.period_end) FROM billing.usage_closings AS c
							 WHERE c.organization_id = b.organization_id AND c.period_end > b.until AND c.subscription_id IS NULL),
							w.until) AS start_at,
				   coalesce(l.usage_from, billing.now(b.organization_id)) AS end_at
			FROM (SELECT m.organization_id, m.metric, max(m.until) AS until FROM billed AS m GROUP BY m.organization_id, m.metric) AS b
			LEFT JOIN (
				SELECT s.organization_id, r.metric, min(s.usage_from) AS usage_from
				FROM billing.subscriptions AS s
				JOIN billing.subscription_items AS i ON i.subscription_id = s.id
				JOIN billing.prices AS r ON r.id = i.price_id AND r.metric IS NOT NULL
				WHERE s.managed_by = 'local' AND s.usage_from IS NOT NULL
				GROUP BY s.organization_id, r.metric) AS l ON l.organization_id = b.organization_id AND l.metric = b.metric
			LEFT JOIN (
				SELECT i.organization_id, timestamptz 'epoch' + max(u."end") * interval '1 microsecond' AS until
				FROM billing.invoices AS i
				CROSS JOIN LATERAL jsonb_to_recordset(i.usage -> 'periods') AS u ("end" bigint)
				WHERE i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NULL AND i.usage IS NOT NULL
				GROUP BY i.organization_id) AS w ON w.organization_id = b.organization_id
			WHERE l.usage_from IS NULL OR l.usage_from > b.until
			OFFSET 0) AS e
		LEFT JOIN billing.usage_rollup_state AS k ON true) AS g
	CROSS JOIN LATERAL billing.usage_by_dimension(g.organization_id, g.metric, '{}', g.start_at, g.end_at) AS u
	WHERE g.end_at > g.start_at AND u.events > 0
UNION ALL
	SELECT o.organization_id, 'late', l.metric, l.period_start, l.period_end, l.quantity, false, o.until
	FROM (SELECT b.organization_id, b.currency, b.until
		  FROM (SELECT m.organization_id, m.currency, max(m.until) AS until FROM billed AS m GROUP BY m.organization_id, m.currency) AS b
		  WHERE NOT EXISTS (SELECT FROM billing.subscriptions AS s
							WHERE s.organization_id = b.organization_id AND s.currency = b.currency AND s.managed_by = 'local'
								AND s.status NOT IN ('canceled', 'incomplete_expired'))
		  OFFSET 0) AS o
	CROSS JOIN LATERAL billing.late_usage(o.organization_id) AS l
	WHERE o.currency = ANY (ARRAY(
		SELECT r.currency
		FROM billing.usage_closing_prices AS p
		JOIN billing.prices AS r ON r.id = p.price_id
		WHERE p.organization_id = o.organization_id AND p.period_start = l.period_start AND p.metric = l.metric));
COMMENT ON VIEW billing.unbilled_usage IS
	'Usage of metrics that our engine has billed to an organisation before, which is on no invoice and will be on none. What was never sold to it is not here, nor what '
	'was used before a close_usage_period() by hand.';
COMMENT ON COLUMN billing.unbilled_usage.reason IS
	'no_price: used after a change to a plan without the metric, after the end, or in a pause, when no price counted it; late: of a period that was billed, told after '
	'the last invoice of the organisation in that currency. While a subscription goes on, its next invoice bills what came late, at the price of its period.';
COMMENT ON COLUMN billing.unbilled_usage.period_end IS 'Of no_price: when it was sold again, else now.';
COMMENT ON COLUMN billing.unbilled_usage.sold_again IS 'It has a price again since period_end: told until that is billed for the first time.';
COMMENT ON COLUMN billing.unbilled_usage.billed_until IS 'Until when usage was billed before: of no_price of the metric, of late of the organisation in that currency.';
