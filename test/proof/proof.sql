-- An independent check of everything that our engine has billed in a database:
--
--     psql -f test/proof/proof.sql
--     SELECT * FROM proof.violations();        nothing, or something is wrong
--
-- It asks no function of the extension but the clock.  Amounts are recomputed
-- with exact fractions (numeric products and integer division, never a rounded
-- quotient), periods by PostgreSQL's own calendar.
--
-- Unpaid lines may be billed anew after a change, since a credit never gives
-- back what was not paid: where periods are compared, those lines are left out.
-- Once they are paid, credit and credit note together have to give what the
-- credit would have given.

CREATE SCHEMA IF NOT EXISTS proof;

-- Changed with proration_behavior none; given_up: of this time, which a new period bills once more; until: all is billed as it is from then on.
CREATE TABLE IF NOT EXISTS proof.forgone (subscription_id uuid NOT NULL, given_up tstzrange NOT NULL, until timestamptz NOT NULL);
-- These were free for a while: that time is on no invoice.
CREATE TABLE IF NOT EXISTS proof.free (subscription_id uuid PRIMARY KEY);

-- Lines that give back what was paid by then.
CREATE TABLE IF NOT EXISTS proof.of_paid (credit_id uuid PRIMARY KEY);

-- n / d, half away from zero.
CREATE OR REPLACE FUNCTION proof.rounded(n numeric, d numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT
RETURN sign(n) * div(2 * abs(n) + d, 2 * d);

-- What is left of a whole period from a moment on, and the whole: in seconds or in local days.
CREATE OR REPLACE FUNCTION proof.units(from_moment timestamptz, until timestamptz, zone text, by_day boolean) RETURNS numeric
LANGUAGE sql STABLE
RETURN CASE WHEN by_day THEN ((until AT TIME ZONE zone)::date - (from_moment AT TIME ZONE zone)::date)::numeric
	   ELSE extract(epoch FROM until) - extract(epoch FROM from_moment) END;

-- What a part of a whole costs: the difference of what is left at its two ends.
CREATE OR REPLACE FUNCTION proof.part(price numeric, whole_start timestamptz, whole_end timestamptz, part_start timestamptz, part_end timestamptz,
									  zone text, by_day boolean) RETURNS numeric
LANGUAGE sql STABLE
RETURN proof.rounded(price * proof.units(part_start, whole_end, zone, by_day), proof.units(whole_start, whole_end, zone, by_day))
	 - proof.rounded(price * proof.units(part_end, whole_end, zone, by_day), proof.units(whole_start, whole_end, zone, by_day));

CREATE OR REPLACE VIEW proof.lines AS
	SELECT l.*, i.status AS invoice_status, i.number, i.billing_reason, i.customer_id, s.zone, p.interval, p.interval_count,
		   coalesce(i.status, 'pending') IN ('pending', 'draft', 'paid') AS counts,
		   coalesce((SELECT t.value FROM billing.settings AS t WHERE t.name = 'proration_unit'), 'second') = 'day' AS by_day
	FROM billing.invoice_lines AS l
	LEFT JOIN billing.invoices AS i ON i.id = l.invoice_id
	LEFT JOIN billing.subscriptions AS s ON s.id = l.subscription_id
	LEFT JOIN billing.prices AS p ON p.id = l.price_id
	WHERE coalesce(i.status, '') <> 'void';

-- What each coupon with an amount has of each line. of_change: of a debit for the rest of a period that another invoice billed.
CREATE OR REPLACE VIEW proof.amounts AS
	SELECT l.id, l.invoice_id, l.kind, l.amount, l.discount, l.reverses, l.period_start, l.component, l.invoice_status, l.billing_reason, a.applied_id, a.taken,
		   l.kind = 'proration_debit' AND l.reverses IS NULL AND (i.period_end IS NULL OR l.period_start < i.period_start) AS of_change,
		   i.period_end IS NULL AND i.billing_reason = 'subscription_update' AS is_change
	FROM proof.lines AS l
	JOIN billing.invoices AS i ON i.id = l.invoice_id
	LEFT JOIN LATERAL unnest(l.amount_coupons, l.amount_discounts) AS a (applied_id, taken) ON true
	WHERE l.kind NOT IN ('discount', 'tax', 'credit', 'balance');

-- What debits of a change are to be discounted by: from moment to moment what credits took back of the coupon, no more than the debits cost in that time.
CREATE OR REPLACE VIEW proof.kept AS
	SELECT g.invoice_id, g.applied_id, sum(least(greatest(g.back, 0), g.debits)) AS expected
	FROM (SELECT m.invoice_id, m.applied_id, m.at,
				 coalesce((SELECT sum(CASE WHEN l.kind = 'proration_credit' THEN 1 ELSE -1 END
									  * proof.part(a.taken, l.period_start, l.period_end, greatest(l.period_start, m.at), least(l.period_end, m.until), l.zone, l.by_day))
						   FROM proof.lines AS l CROSS JOIN LATERAL unnest(l.amount_coupons, l.amount_discounts) AS a (applied_id, taken)
						   WHERE l.invoice_id = m.invoice_id AND l.reverses IS NOT NULL AND a.applied_id = m.applied_id AND l.period_start < m.until AND l.period_end > m.at), 0) AS back,
				 coalesce((SELECT sum(proof.part(l.whole_price, l.whole_start, l.whole_end, greatest(l.period_start, m.at), least(l.period_end, m.until), l.zone, l.by_day))
						   FROM proof.lines AS l
						   WHERE l.invoice_id = m.invoice_id AND l.id IN (SELECT o.id FROM proof.amounts AS o WHERE o.invoice_id = m.invoice_id AND o.of_change)
							   AND l.period_start < m.until AND l.period_end > m.at), 0) AS debits
		  FROM (SELECT o.invoice_id, o.applied_id, o.at, lead(o.at) OVER (PARTITION BY o.invoice_id, o.applied_id ORDER BY o.at) AS until
				FROM (SELECT DISTINCT b.invoice_id, b.applied_id, e.at
					  FROM (SELECT DISTINCT a.invoice_id, a.applied_id FROM proof.amounts AS a WHERE a.kind = 'proration_credit' AND a.applied_id IS NOT NULL) AS b
					  JOIN proof.lines AS l ON l.invoice_id = b.invoice_id AND l.kind IN ('proration_credit', 'proration_debit')
					  CROSS JOIN LATERAL (VALUES (l.period_start), (l.period_end)) AS e (at)) AS o) AS m
		  WHERE m.until > m.at) AS g
	GROUP BY g.invoice_id, g.applied_id;

-- What is given back of each line, minor units with tax: by credits that stand, less what credit notes took back of these, and by credit notes.
-- Line by line, so that those of one invoice are found by it.
CREATE OR REPLACE VIEW proof.given AS
	SELECT l.id, l.invoice_id, l.amount - l.discount + CASE WHEN l.tax_inclusive THEN 0 ELSE l.tax END AS billed,
		   coalesce(r.given, 0) AS by_credits, coalesce(n.given, 0) AS by_notes
	FROM proof.lines AS l
	CROSS JOIN LATERAL (SELECT - sum(o.amount + CASE WHEN o.tax_inclusive THEN 0 ELSE o.tax END
									 - coalesce((SELECT sum(c.amount + CASE WHEN c.tax_inclusive THEN 0 ELSE c.tax END) FROM billing.credit_note_lines AS c
												 WHERE c.invoice_line_id = o.id), 0)) AS given
						FROM proof.lines AS o WHERE o.reverses = l.id) AS r
	CROSS JOIN LATERAL (SELECT sum(c.amount + CASE WHEN c.tax_inclusive THEN 0 ELSE c.tax END) AS given
						FROM billing.credit_note_lines AS c WHERE c.invoice_line_id = l.id) AS n
	WHERE l.kind NOT IN ('discount', 'tax', 'credit', 'balance');

-- What of each invoice is in the customer's balance, beside its own lines: by credit notes and their refunds that failed, and payments of too much; less what was taken back.
CREATE OR REPLACE VIEW proof.credited AS
	SELECT m.invoice_id, sum(m.amount) AS amount, - coalesce(sum(m.amount) FILTER (WHERE m.reason = 'invoice_refunded'), 0) AS taken
	FROM (SELECT e.reason, e.amount, coalesce(n.invoice_id, f.invoice_id, p.invoice_id, q.invoice_id, CASE WHEN e.reason IN ('invoice_given_up', 'invoice_refunded') THEN e.source_id END) AS invoice_id
		  FROM billing.customer_balance_entries AS e
		  LEFT JOIN billing.credit_notes AS n ON n.id = e.source_id
		  LEFT JOIN billing.refunds AS r ON r.id = e.source_id
		  LEFT JOIN billing.credit_notes AS f ON f.id = r.credit_note_id
		  LEFT JOIN billing.payment_intents AS p ON p.id = e.source_id
		  LEFT JOIN billing.disputes AS d ON d.id = e.source_id
		  LEFT JOIN billing.payment_intents AS q ON q.id = d.payment_intent_id) AS m
	WHERE m.invoice_id IS NOT NULL
	GROUP BY m.invoice_id;

-- What has come in for each of our invoices and stayed, and what of that is given back: by credits of its lines and in the balance.
CREATE OR REPLACE VIEW proof.money AS
	SELECT i.id, i.status, coalesce(p.mended, false) AS mended, coalesce(c.taken, 0) AS taken,
		   i.paid_elsewhere + greatest(i.credit_used, 0) + greatest(i.balance_used, 0) + coalesce(p.stayed, 0) AS stayed,
		   coalesce(g.amount, 0) + coalesce(c.amount, 0) - coalesce(p.coming, 0) AS given
	FROM billing.invoices AS i
	LEFT JOIN (SELECT o.invoice_id, sum(CASE WHEN o.billed < 0 THEN o.billed ELSE o.by_credits END) AS amount FROM proof.given AS o GROUP BY o.invoice_id) AS g ON g.invoice_id = i.id
	LEFT JOIN proof.credited AS c ON c.invoice_id = i.id
	LEFT JOIN (SELECT o.invoice_id, sum(greatest(o.amount_received - o.refunded_elsewhere - coalesce(r.amount, 0) - coalesce(d.amount, 0), 0)) AS stayed,
					  bool_or(o.refunded_elsewhere > 0 OR r.amount > 0 OR d.amount > 0) AS mended,
					  -- of what was paid too much the balance loses as much as is refunded, when the refund has succeeded
					  sum(least(coalesce(r.pending, 0), (SELECT coalesce(sum(e.amount), 0) FROM billing.customer_balance_entries AS e WHERE e.source_id = o.id AND e.reason = 'overpayment'))) AS coming
			   FROM billing.payment_intents AS o
			   LEFT JOIN (SELECT b.payment_intent_id, sum(b.amount) AS amount, coalesce(sum(b.amount) FILTER (WHERE b.status = 'pending' AND b.credit_note_id IS NULL), 0) AS pending
							  FROM billing.refunds AS b WHERE b.status NOT IN ('failed', 'canceled') GROUP BY b.payment_intent_id) AS r
				   ON r.payment_intent_id = o.id
			   LEFT JOIN (SELECT b.payment_intent_id, sum(b.amount) AS amount FROM billing.disputes AS b WHERE b.funds_withdrawn_at IS NOT NULL AND b.funds_reinstated_at IS NULL GROUP BY b.payment_intent_id) AS d
				   ON d.payment_intent_id = o.id
			   GROUP BY o.invoice_id) AS p ON p.invoice_id = i.id
	WHERE i.managed_by = 'local';

-- How often each moment of a component was billed: every end of a line, and what holds from there on.
CREATE OR REPLACE VIEW proof.coverage AS
	SELECT c.subscription_id, c.component, c.at, sum(sum(c.change)) OVER w AS times, lead(c.at) OVER w AS until
	FROM (SELECT l.subscription_id, l.component, e.at, e.change * CASE WHEN l.kind = 'proration_credit' THEN -1 ELSE 1 END AS change
		  FROM proof.lines AS l
		  LEFT JOIN proof.lines AS r ON r.id = l.reverses
		  CROSS JOIN LATERAL (VALUES (l.period_start, 1), (l.period_end, -1)) AS e (at, change)
		  -- what is given back of a line is so wherever it stands, and of what was not paid nothing is
		  WHERE CASE WHEN l.reverses IS NULL THEN l.counts ELSE r.counts END AND l.period_end > l.period_start
			  AND l.kind IN ('base', 'seats', 'component', 'usage', 'proration_debit', 'proration_credit')
			  -- one for each tier, and none for what came late
			  AND (l.kind <> 'usage' OR l.quantity IS NOT NULL)
			  AND (l.kind <> 'usage' OR NOT EXISTS (SELECT FROM billing.invoice_lines AS o
													WHERE o.subscription_id = l.subscription_id AND o.invoice_id IS NOT DISTINCT FROM l.invoice_id AND o.kind = 'usage'
														AND o.component = l.component AND o.period_start = l.period_start AND o.id < l.id))) AS c
	GROUP BY c.subscription_id, c.component, c.at
	HAVING sum(c.change) <> 0
	WINDOW w AS (PARTITION BY c.subscription_id, c.component ORDER BY c.at);

CREATE OR REPLACE FUNCTION proof.violations() RETURNS TABLE (rule text, object_id uuid, detail text)
LANGUAGE plpgsql
SET timezone = 'UTC'
AS $$
BEGIN
	-- ---- the ledger ----
	RETURN QUERY SELECT 'ledger and documents agree', b.object_id, format('%s: %s in the ledger, %s in the documents', b.what, b.ledger, b.documents)
		FROM billing.ledger_imbalance AS b;

	-- ---- invoices ----
	RETURN QUERY SELECT 'lines add up to the figures of the invoice', i.id,
			format('subtotal %s %s, discount %s %s, total %s %s, due %s %s', i.subtotal, l.subtotal, i.discount, l.discount, i.total, l.total, i.amount_due, l.due)
		FROM billing.invoices AS i
		JOIN (SELECT o.invoice_id, sum(o.amount) AS due,
					 coalesce(sum(o.amount) FILTER (WHERE o.kind NOT IN ('discount', 'tax', 'credit', 'balance')), 0) AS subtotal,
					 coalesce(- sum(o.amount) FILTER (WHERE o.kind = 'discount'), 0) AS discount,
					 coalesce(sum(o.amount) FILTER (WHERE o.kind NOT IN ('credit', 'balance')), 0) AS total
			  FROM billing.invoice_lines AS o WHERE o.invoice_id IS NOT NULL GROUP BY o.invoice_id) AS l ON l.invoice_id = i.id
		WHERE i.managed_by = 'local' AND (i.status <> 'draft' OR i.marked_at IS NOT NULL)
			AND (i.subtotal, i.discount, i.total, i.amount_due) <> (l.subtotal, l.discount, l.total, l.due);
	RETURN QUERY SELECT 'shares of a discount add up to it', l.invoice_id, format('%s in shares, %s in lines', sum(l.discount), - sum(l.amount) FILTER (WHERE l.kind = 'discount'))
		FROM proof.lines AS l WHERE l.invoice_status <> 'draft'
		GROUP BY l.invoice_id HAVING sum(l.discount) <> coalesce(- sum(l.amount) FILTER (WHERE l.kind = 'discount'), 0);
	RETURN QUERY SELECT 'no discount is above its line', l.id, format('%s of %s', l.discount, l.amount)
		FROM proof.lines AS l WHERE l.discount <> 0 AND (l.discount < 0 OR l.discount > l.amount);
	-- coupons with an amount
	RETURN QUERY SELECT 'amounts are a part of the discount, and all of it where there is no percentage', l.id, format('%s of %s', a.taken, l.discount)
		FROM proof.lines AS l
		CROSS JOIN LATERAL (SELECT coalesce(sum(u.taken), 0) AS taken FROM unnest(l.amount_discounts) AS u (taken)) AS a
		WHERE l.kind NOT IN ('discount', 'tax', 'credit', 'balance') AND l.reverses IS NULL AND l.invoice_status <> 'draft'
			AND (a.taken > l.discount
				 OR a.taken < l.discount AND NOT EXISTS (SELECT FROM billing.invoice_lines AS d JOIN billing.coupons AS c ON c.id = d.coupon_id
														 WHERE d.invoice_id = l.invoice_id AND d.kind = 'discount' AND c.percent IS NOT NULL));
	RETURN QUERY SELECT 'an amount is taken once for the invoice of a period', a.invoice_id, format('%s of %s', sum(a.taken), c.amount)
		FROM proof.amounts AS a
		JOIN billing.applied_coupons AS p ON p.id = a.applied_id
		JOIN billing.coupons AS c ON c.id = p.coupon_id
		WHERE a.reverses IS NULL AND NOT a.of_change
		GROUP BY a.invoice_id, a.applied_id, a.is_change, c.amount
		HAVING sum(a.taken) > CASE WHEN a.is_change THEN 0 ELSE c.amount END;
	RETURN QUERY SELECT 'a credit takes its part of an amount back', l.id, format('%s of %s for [%s, %s)', coalesce(b.taken, 0), a.taken, l.period_start, r.period_end)
		FROM proof.lines AS l
		JOIN proof.lines AS r ON r.id = l.reverses
		CROSS JOIN LATERAL unnest(r.amount_coupons, r.amount_discounts) AS a (applied_id, taken)
		LEFT JOIN LATERAL unnest(l.amount_coupons, l.amount_discounts) AS b (applied_id, taken) ON b.applied_id = a.applied_id
		WHERE l.kind = 'proration_credit'
			AND coalesce(b.taken, 0) <> proof.rounded(a.taken * proof.part(r.whole_price, r.whole_start, r.whole_end, l.period_start, r.period_end, l.zone, l.by_day), r.amount);
	RETURN QUERY SELECT 'debits of a change are discounted by what its credits took back of an amount', t.invoice_id, format('%s of %s, %s by time', t.taken, t.back, k.expected)
		FROM (SELECT a.invoice_id, a.applied_id, coalesce(sum(a.taken) FILTER (WHERE a.of_change), 0) AS taken,
					 greatest(coalesce(sum(CASE WHEN a.kind = 'proration_credit' THEN a.taken ELSE - a.taken END) FILTER (WHERE a.reverses IS NOT NULL), 0), 0) AS back
			  FROM proof.amounts AS a WHERE a.applied_id IS NOT NULL AND a.invoice_status <> 'draft' GROUP BY a.invoice_id, a.applied_id) AS t
		JOIN billing.applied_coupons AS p ON p.id = t.applied_id
		JOIN billing.coupons AS c ON c.id = p.coupon_id
		LEFT JOIN proof.kept AS k ON k.invoice_id = t.invoice_id AND k.applied_id = t.applied_id
		WHERE t.taken > t.back
			-- to the cent, where no other coupon is before or after it
			OR c.plan_ids IS NULL AND c.components IS NULL AND t.taken <> coalesce(k.expected, 0)
				AND NOT EXISTS (SELECT FROM billing.invoice_lines AS d WHERE d.invoice_id = t.invoice_id AND d.kind = 'discount' AND d.coupon_id <> c.id)
				AND NOT EXISTS (SELECT FROM proof.amounts AS a WHERE a.invoice_id = t.invoice_id AND a.applied_id <> t.applied_id);
	RETURN QUERY SELECT 'a final invoice has lines', i.id, i.status FROM billing.invoices AS i
		WHERE i.managed_by = 'local' AND NOT EXISTS (SELECT FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id);
	RETURN QUERY SELECT 'what is open is not paid, and what is paid owes nothing', i.id, format('%s, %s of %s is left', i.status, i.amount_remaining, i.amount_due)
		FROM billing.invoices AS i
		WHERE i.managed_by = 'local' AND (i.status IN ('open', 'uncollectible') AND i.amount_remaining <= 0 OR i.status = 'paid' AND i.amount_remaining <> 0
										  OR i.amount_due < 0 OR i.amount_paid < 0 OR i.amount_paid > i.amount_due);
	RETURN QUERY SELECT 'one invoice for a subscription, period and reason', min(i.id::text)::uuid, format('%s from %s: %s', i.billing_reason, i.period_start, count(*))
		FROM billing.invoices AS i
		WHERE i.managed_by = 'local' AND i.subscription_id IS NOT NULL AND i.billing_reason <> 'subscription_update' AND i.billing_reason <> 'manual'
		GROUP BY i.subscription_id, i.period_start, i.billing_reason HAVING count(*) > 1;
	RETURN QUERY SELECT 'numbers of a series have no gap, and ascend with the date', i.series_id, format('number %s follows %s, %s follows %s', i.series_number, i.number_before, i.issued_at, i.issued_before)
		FROM (SELECT n.series_id, n.series_number, n.organization_id, n.issued_at, lag(n.series_number, 1, 0::bigint) OVER w AS number_before, lag(n.issued_at) OVER w AS issued_before,
					 EXISTS (SELECT FROM billing.sandbox_clocks) AS played
			  FROM billing.invoices AS n WHERE n.series_id IS NOT NULL
			  WINDOW w AS (PARTITION BY n.series_id ORDER BY n.series_number)) AS i
		WHERE i.series_number <> i.number_before + 1 OR NOT i.played AND i.issued_at < i.issued_before;
	RETURN QUERY SELECT 'every invoice that is final has a number', i.id, i.status FROM billing.invoices AS i
		WHERE i.managed_by = 'local' AND i.status IN ('open', 'paid', 'uncollectible') AND i.number IS NULL AND i.total <> 0;

	-- ---- amounts of lines ----
	RETURN QUERY SELECT 'quantity times unit price is the amount, rounded once', l.invoice_id, format('%s: %s instead of %s', l.component, l.amount, l.exact)
		FROM (SELECT o.invoice_id, o.component, o.period_start, sum(o.amount) AS amount, sum(o.quantity * o.unit_amount / CASE r.model WHEN 'percentage' THEN 100 ELSE 1 END) AS exact
			  FROM proof.lines AS o JOIN billing.prices AS r ON r.id = o.price_id WHERE o.kind = 'usage' AND o.invoice_id IS NOT NULL AND r.minimum IS NULL AND r.maximum IS NULL
			  GROUP BY o.invoice_id, o.component, o.period_start HAVING count(o.quantity * o.unit_amount) = count(*)) AS l
		WHERE l.amount <> proof.rounded(l.exact, 1);
	RETURN QUERY SELECT 'a whole period costs quantity times unit price', l.id, format('%s: %s instead of %s x %s', l.component, l.amount, l.quantity, l.unit_amount)
		FROM proof.lines AS l
		WHERE l.kind IN ('base', 'seats', 'component') AND l.period_start = l.whole_start AND l.period_end = l.whole_end AND l.tier IS NULL
			AND l.amount <> proof.rounded(l.quantity * l.unit_amount, 1);
	RETURN QUERY SELECT 'a part of a period costs its fraction', l.id,
			format('%s %s of %s, [%s, %s) of [%s, %s)', l.kind, l.amount, l.whole_price, l.period_start, l.period_end, l.whole_start, l.whole_end)
		FROM proof.lines AS l
		WHERE l.kind IN ('base', 'seats', 'component', 'proration_debit') AND l.whole_start < l.whole_end AND l.whole_price IS NOT NULL
			AND l.amount <> proof.part(l.whole_price, l.whole_start, l.whole_end, l.period_start, l.period_end, l.zone, l.by_day);
	RETURN QUERY SELECT 'a credit is the fraction of what was billed, or less', l.id,
			format('%s for [%s, %s) of a line of %s less %s', l.amount, l.period_start, l.period_end, r.amount, r.discount)
		FROM proof.lines AS l
		JOIN billing.invoice_lines AS r ON r.id = l.reverses
		WHERE l.kind = 'proration_credit'
			AND (l.amount > 0 OR l.period_start < r.period_start OR l.period_end > r.period_end
				 OR r.amount > 0 AND - l.amount > proof.rounded((r.amount - r.discount) * proof.units(l.period_start, r.period_end, l.zone, l.by_day),
																proof.units(r.period_start, r.period_end, l.zone, l.by_day)) + 1);
	RETURN QUERY SELECT 'what was paid is given back by its fraction', l.id, format('%s for [%s, %s) of a line of %s less %s', l.amount, l.period_start, l.period_end, r.amount, r.discount)
		FROM proof.lines AS l
		JOIN billing.invoice_lines AS r ON r.id = l.reverses
		JOIN billing.invoices AS i ON i.id = r.invoice_id
		WHERE l.kind = 'proration_credit' AND r.amount > 0
			AND EXISTS (SELECT FROM proof.of_paid AS o WHERE o.credit_id = l.id)
			AND NOT EXISTS (SELECT FROM billing.credit_notes AS n WHERE n.invoice_id = i.id)
			-- of these: no more than has stayed, and no less (below)
			AND NOT EXISTS (SELECT FROM billing.payment_intents AS p
							WHERE p.invoice_id = i.id AND (EXISTS (SELECT FROM billing.refunds AS b WHERE b.payment_intent_id = p.id)
														   OR EXISTS (SELECT FROM billing.disputes AS b WHERE b.payment_intent_id = p.id)))
			AND abs(- l.amount - proof.rounded((r.amount - r.discount) * proof.units(l.period_start, r.period_end, l.zone, l.by_day),
											   proof.units(r.period_start, r.period_end, l.zone, l.by_day))) > 1;
	RETURN QUERY SELECT 'no more is given back of a line than was billed for it', r.id, format('%s and tax %s of %s and %s', c.amount, c.tax, r.amount - r.discount, r.tax)
		FROM (SELECT l.reverses, sum(l.amount) AS amount, sum(l.tax) AS tax FROM proof.lines AS l WHERE l.reverses IS NOT NULL GROUP BY l.reverses) AS c
		JOIN billing.invoice_lines AS r ON r.id = c.reverses
		WHERE - c.amount > r.amount - r.discount OR - c.tax > r.tax;

	RETURN QUERY SELECT 'credits and credit notes together give back no more of a line than was billed for it', g.id, format('%s and %s of %s', g.by_credits, g.by_notes, g.billed)
		FROM proof.given AS g WHERE g.billed > 0 AND g.by_credits + g.by_notes > g.billed;
	-- whenever it was paid: before the change, or after it
	RETURN QUERY SELECT 'of what is paid the unused part is given back, whenever it was paid', l.id,
			format('%s and %s for [%s, %s) of %s', l.by_credit, l.by_notes, l.period_start, l.period_end, l.billed)
		FROM (SELECT c.id, i.id AS invoice_id, c.period_start, c.period_end, g.billed, - (c.amount + CASE WHEN c.tax_inclusive THEN 0 ELSE c.tax END) AS by_credit,
					 coalesce((SELECT sum(n.amount + CASE WHEN n.tax_inclusive THEN 0 ELSE n.tax END) FROM billing.credit_note_lines AS n WHERE n.credit_line_id = c.id), 0) AS by_notes,
					 g.billed * proof.units(c.period_start, r.period_end, c.zone, c.by_day) AS share, proof.units(r.period_start, r.period_end, c.zone, c.by_day) AS whole
			  FROM proof.lines AS c
			  JOIN proof.lines AS r ON r.id = c.reverses
			  JOIN proof.given AS g ON g.id = r.id
			  JOIN billing.invoices AS i ON i.id = r.invoice_id
			  WHERE c.kind = 'proration_credit' AND i.status = 'paid' AND g.billed > 0
				  -- it stands: nothing of the line was billed again or given back after it
				  AND NOT EXISTS (SELECT FROM proof.lines AS o WHERE o.reverses = r.id AND o.id > c.id)
				  -- and nobody gave back of it by hand, nor did a bank
				  AND NOT EXISTS (SELECT FROM billing.credit_note_lines AS n WHERE n.invoice_line_id IN (r.id, c.id) AND n.credit_line_id IS NULL)
				  AND NOT EXISTS (SELECT FROM billing.credit_notes AS n JOIN billing.credit_note_lines AS m ON m.credit_note_id = n.id
								  WHERE n.invoice_id = i.id AND m.credit_line_id IS NULL)) AS l
		WHERE l.whole > 0 AND abs(l.by_credit + l.by_notes - proof.rounded(l.share, l.whole)) > 2
			-- less where something was paid back or disputed, and all that has stayed is given
			AND NOT EXISTS (SELECT FROM proof.money AS m WHERE m.id = l.invoice_id AND m.mended AND m.stayed - m.given <= 2
								AND l.by_credit + l.by_notes < proof.rounded(l.share, l.whole));
	RETURN QUERY SELECT 'no more is given back of what was paid than has stayed', m.id, format('%s of %s', m.given, m.stayed)
		FROM proof.money AS m WHERE m.status = 'paid' AND m.given > m.stayed;
	RETURN QUERY SELECT 'nothing more is taken back than was given beyond what has stayed', m.id, format('%s: %s given, %s has stayed', m.taken, m.given, m.stayed)
		FROM proof.money AS m WHERE m.taken < 0 OR m.taken > 0 AND m.given < m.stayed;
	-- usage that turned out to be less
	RETURN QUERY SELECT 'corrections take no more off a line of usage than it was', r.id, format('%s of %s', c.taken, r.amount)
		FROM (SELECT l.reverses, sum(l.taken_off) AS taken FROM proof.lines AS l WHERE l.taken_off > 0 GROUP BY l.reverses) AS c
		JOIN billing.invoice_lines AS r ON r.id = c.reverses
		WHERE r.kind <> 'usage' OR c.taken > r.amount;
	RETURN QUERY SELECT 'lines of usage and their corrections are the price of all that counts', p.price_id,
			format('%s of %s from %s: %s for %s at %s', p.component, p.organization_id, p.period_start, l.billed, q.used, r.unit_amount)
		FROM billing.usage_closing_prices AS p
		JOIN billing.prices AS r ON r.id = p.price_id
		CROSS JOIN LATERAL (SELECT coalesce(sum(c.quantity), 0) AS used FROM billing.usage_closing_lines AS c
							WHERE c.organization_id = p.organization_id AND c.period_start = p.period_start AND c.metric = p.metric) AS q
		CROSS JOIN LATERAL (SELECT coalesce(sum(CASE WHEN o.reverses IS NULL THEN o.amount ELSE - o.taken_off END), 0) AS billed, coalesce(bool_or(i.status = 'void'), false) AS void
							FROM billing.invoice_lines AS o
							JOIN billing.subscriptions AS s ON s.id = o.subscription_id
							LEFT JOIN billing.invoices AS i ON i.id = o.invoice_id
							WHERE s.organization_id = p.organization_id AND o.kind = 'usage' AND o.component = p.component AND o.period_start = p.period_start) AS l
		WHERE r.model = 'per_unit' AND r.free_units = 0 AND r.commitment = 0 AND r.minimum IS NULL AND r.maximum IS NULL AND NOT l.void
			AND l.billed <> proof.rounded(greatest(q.used, 0) * r.unit_amount, 1);
	RETURN QUERY SELECT 'corrected usage goes back with its discount and tax, when it is paid', c.id, format('%s of %s less %s and tax %s for %s', c.given, c.amount, c.discount, c.tax, c.taken)
		FROM (SELECT r.id, r.amount, r.discount, r.tax, r.tax_inclusive, t.taken, n.net, g.by_credits
					 + coalesce((SELECT sum(m.amount + CASE WHEN m.tax_inclusive THEN 0 ELSE m.tax END) FROM billing.credit_note_lines AS m
								 WHERE m.invoice_line_id = r.id AND m.credit_line_id IS NOT NULL), 0) AS given
			  FROM billing.invoice_lines AS r
			  JOIN proof.given AS g ON g.id = r.id
			  JOIN billing.invoices AS i ON i.id = r.invoice_id
			  CROSS JOIN LATERAL (SELECT sum(o.taken_off) AS taken FROM proof.lines AS o WHERE o.reverses = r.id AND o.taken_off > 0) AS t
			  CROSS JOIN LATERAL (SELECT t.taken - proof.rounded(r.discount * t.taken, r.amount) AS net) AS n
			  WHERE r.kind = 'usage' AND i.status = 'paid' AND t.taken > 0
				  -- what is above a maximum is part of the line before it
				  AND NOT EXISTS (SELECT FROM billing.invoice_lines AS o WHERE o.invoice_id = i.id AND o.kind = 'usage' AND o.reverses IS NULL AND o.amount < 0)
				  -- and nobody gave back of it by hand, nor did a bank
				  AND NOT EXISTS (SELECT FROM billing.credit_notes AS m JOIN billing.credit_note_lines AS b ON b.credit_note_id = m.id
								  WHERE b.credit_line_id IS NULL AND (m.invoice_id = i.id OR b.invoice_line_id IN (SELECT o.id FROM proof.lines AS o WHERE o.reverses = r.id)))
				  AND NOT EXISTS (SELECT FROM billing.payment_intents AS p
								  WHERE p.invoice_id = i.id AND (EXISTS (SELECT FROM billing.refunds AS b WHERE b.payment_intent_id = p.id)
																 OR EXISTS (SELECT FROM billing.disputes AS b WHERE b.payment_intent_id = p.id)))) AS c
		WHERE c.given <> c.net + CASE WHEN c.tax_inclusive OR c.amount = c.discount THEN 0 ELSE proof.rounded(c.tax * c.net, c.amount - c.discount) END;
	RETURN QUERY SELECT 'what is undone is billed again as it was given back', d.id, format('%s by credits, %s by their credit notes', d.by_credits, d.by_notes)
		FROM (SELECT o.id, g.by_credits, coalesce((SELECT sum(n.amount + CASE WHEN n.tax_inclusive THEN 0 ELSE n.tax END) FROM billing.credit_note_lines AS n
												   WHERE n.invoice_line_id = g.id AND n.credit_line_id IS NOT NULL), 0) AS by_notes
			  FROM proof.lines AS o
			  JOIN proof.given AS g ON g.id = o.reverses
			  WHERE o.kind = 'proration_debit'
				  AND NOT EXISTS (SELECT FROM proof.lines AS l WHERE l.reverses = o.reverses AND l.id > o.id)
				  AND NOT EXISTS (SELECT FROM proof.lines AS l JOIN billing.credit_note_lines AS n ON n.invoice_line_id = l.id WHERE l.reverses = o.reverses)) AS d
		WHERE d.by_credits + d.by_notes <> 0;
	RETURN QUERY SELECT 'credit notes give the balance no more than was paid', i.id, format('%s of %s', n.given, i.amount_paid + greatest(i.credit_used, 0) + greatest(i.balance_used, 0))
		FROM billing.invoices AS i
		JOIN (SELECT c.invoice_id, sum(c.balance_amount) AS given FROM billing.credit_notes AS c GROUP BY c.invoice_id) AS n ON n.invoice_id = i.id
		-- credits on the invoice itself have paid a part of its other lines
		WHERE n.given > i.amount_paid + greatest(i.credit_used, 0) + greatest(i.balance_used, 0)
					  - (SELECT coalesce(sum(g.billed) FILTER (WHERE g.billed < 0), 0) FROM proof.given AS g WHERE g.invoice_id = i.id)
			AND NOT EXISTS (SELECT FROM billing.refunds AS b JOIN billing.payment_intents AS p ON p.id = b.payment_intent_id WHERE p.invoice_id = i.id);
	-- of an invoice that is given up, what was given back of it and is not paid is no balance
	RETURN QUERY SELECT 'what was given back of an invoice that nobody pays is taken back', i.id,
			format('%s, taken back %s instead of %s: %s left to pay, given back %s more than paid', i.status, i.taken, i.wanted, i.amount_remaining, i.unpaid)
		FROM (SELECT o.id, o.status, o.amount_remaining, u.unpaid, - coalesce((SELECT sum(e.amount) FROM billing.customer_balance_entries AS e WHERE e.reason = 'invoice_given_up' AND e.source_id = o.id), 0) AS taken,
					 CASE WHEN o.status = 'uncollectible' THEN least(o.amount_remaining, u.unpaid) ELSE 0 END AS wanted
			  FROM billing.invoices AS o
			  CROSS JOIN LATERAL (SELECT o.total - coalesce(sum(n.total), 0) AS stands FROM billing.credit_notes AS n WHERE n.invoice_id = o.id) AS s
			  CROSS JOIN LATERAL (SELECT least(greatest(o.amount_paid + o.credit_used + o.balance_used, 0), s.stands) AS paid) AS p
			  CROSS JOIN LATERAL (SELECT coalesce(sum(greatest(g.by_credits - CASE WHEN s.stands > 0 THEN proof.rounded((g.billed - g.by_notes) * p.paid, s.stands) ELSE g.billed - g.by_notes END, 0))
												  FILTER (WHERE g.by_credits > 0), 0) AS unpaid
								  FROM proof.given AS g WHERE g.invoice_id = o.id) AS u
			  WHERE o.managed_by = 'local') AS i
		WHERE i.taken <> i.wanted;

	-- ---- tax ----
	RETURN QUERY SELECT 'tax of a rate is rounded once, on the sum of its lines', t.invoice_id, format('%s of %s at %s %%', t.tax, t.net, t.percent)
		FROM (SELECT l.invoice_id, l.tax_inclusive, r.percent, sum(l.tax) AS tax, sum(l.amount - l.discount) AS net
			  FROM proof.lines AS l
			  JOIN billing.tax_rates AS r ON r.id = l.tax_rate_id
			  WHERE l.reverses IS NULL AND l.kind NOT IN ('discount', 'tax', 'credit', 'balance') AND l.invoice_status <> 'draft'
				  AND NOT EXISTS (SELECT FROM billing.customers AS c WHERE c.id = l.customer_id AND c.tax_exempt <> 'none')
			  GROUP BY l.invoice_id, l.tax_inclusive, r.id, r.percent) AS t
		WHERE t.tax <> CASE WHEN t.tax_inclusive THEN proof.rounded(t.net * t.percent, 100 + t.percent) ELSE proof.rounded(t.net * t.percent, 100) END
			AND t.tax <> 0;
	RETURN QUERY SELECT 'tax that is added is a line', t.invoice_id, format('%s in lines, %s in shares', t.line, t.shares)
		FROM (SELECT l.invoice_id, coalesce(sum(l.amount) FILTER (WHERE l.kind = 'tax'), 0) AS line,
					 coalesce(sum(l.tax) FILTER (WHERE l.kind NOT IN ('discount', 'tax', 'credit', 'balance') AND NOT l.tax_inclusive), 0) AS shares
			  FROM proof.lines AS l WHERE l.invoice_id IS NOT NULL AND l.invoice_status <> 'draft' GROUP BY l.invoice_id) AS t
		WHERE t.line <> t.shares;

	-- ---- periods ----
	RETURN QUERY SELECT 'no moment is billed twice, or given back twice', c.subscription_id, format('%s: %s times [%s, %s)', c.component, c.times, c.at, c.until)
		FROM proof.coverage AS c WHERE c.times NOT IN (0, 1) AND c.until > c.at
			AND (c.times < 0 OR NOT EXISTS (SELECT FROM proof.forgone AS f WHERE f.subscription_id = c.subscription_id AND f.given_up && tstzrange(c.at, c.until)));
	RETURN QUERY SELECT 'every moment of a life is billed', c.subscription_id, format('not [%s, %s)', c.at, c.until)
		FROM proof.coverage AS c
		JOIN billing.subscriptions AS s ON s.id = c.subscription_id
		WHERE c.component = 'base' AND c.times = 0 AND c.until > c.at AND s.managed_by = 'local'
			-- every one of its life was to be paid for, and was
			AND NOT EXISTS (SELECT FROM billing.events AS e WHERE e.id = s.id
							AND e.type IN ('subscription.paused', 'subscription.unpaid'))
			AND NOT EXISTS (SELECT FROM billing.invoices AS i WHERE i.subscription_id = s.id AND i.status IN ('open', 'void', 'uncollectible'))
			AND NOT EXISTS (SELECT FROM proof.free AS f WHERE f.subscription_id = s.id);
	RETURN QUERY SELECT 'a whole period is one by the calendar of the anchor', l.id,
			format('[%s, %s), anchor %s in %s', l.whole_start, l.whole_end, s.billing_anchor, s.zone)
		FROM proof.lines AS l
		JOIN billing.subscriptions AS s ON s.id = l.subscription_id
		CROSS JOIN LATERAL (SELECT (l.interval_count * CASE l.interval WHEN 'quarter' THEN 3 ELSE 1 END || ' ' ||
									CASE l.interval WHEN 'quarter' THEN 'month' ELSE l.interval END)::interval AS step) AS v
		CROSS JOIN LATERAL (SELECT round(extract(epoch FROM l.whole_start - s.billing_anchor) / extract(epoch FROM v.step))::integer AS n) AS g
		WHERE l.kind = 'base' AND l.whole_start >= s.schedule_start AND l.whole_end > l.whole_start
			AND NOT EXISTS (SELECT FROM generate_series(g.n - 3, g.n + 3) AS n
							WHERE ((s.billing_anchor AT TIME ZONE s.zone) + n * v.step) AT TIME ZONE s.zone = l.whole_start
								AND ((s.billing_anchor AT TIME ZONE s.zone) + (n + 1) * v.step) AT TIME ZONE s.zone = l.whole_end);

	-- ---- what was to be done is done ----
	RETURN QUERY SELECT 'nothing that is due waits', s.id, format('%s, due %s, it is %s', s.status, s.next_due_at, billing.now(s.organization_id))
		FROM billing.subscriptions AS s
		WHERE s.managed_by = 'local' AND s.next_due_at <= billing.now(s.organization_id) - interval '1 hour';
	RETURN QUERY SELECT 'a draft that is marked has its number', i.id, i.marked_at::text FROM billing.invoices AS i
		WHERE i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NOT NULL AND EXISTS (SELECT FROM billing.sandbox_clocks);
	RETURN QUERY SELECT 'what has ended leaves nothing to be billed', l.subscription_id, format('%s %s', l.kind, l.amount)
		FROM billing.invoice_lines AS l JOIN billing.subscriptions AS s ON s.id = l.subscription_id
		WHERE l.invoice_id IS NULL AND s.status = 'canceled' AND l.amount > 0;
	RETURN QUERY SELECT 'a subscription that lives is in its period', s.id, format('%s, [%s, %s), it is %s', s.status, s.current_period_start, s.current_period_end, billing.now(s.organization_id))
		FROM billing.subscriptions AS s
		WHERE s.managed_by = 'local' AND s.status IN ('active', 'past_due', 'trialing') AND billing.now(s.organization_id) NOT BETWEEN s.current_period_start AND s.current_period_end;
	RETURN QUERY SELECT 'a subscription is active when all of it is paid', s.id, s.status
		FROM billing.subscriptions AS s
		WHERE s.managed_by = 'local' AND s.status IN ('past_due', 'unpaid')
			AND NOT EXISTS (SELECT FROM billing.invoices AS i WHERE i.subscription_id = s.id AND i.status IN ('open', 'uncollectible'));
END
$$;
