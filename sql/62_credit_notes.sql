-- Credit notes: what corrects an invoice of ours that is final.

CREATE TABLE billing.credit_notes
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	invoice_id uuid NOT NULL REFERENCES billing.invoices (id),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'issued')),
	number text,
	series_id uuid REFERENCES billing.invoice_series (id),
	series_number bigint CHECK (series_number > 0),
	reason text,
	memo text,
	currency text NOT NULL REFERENCES billing.currencies (code),
	subtotal bigint NOT NULL,
	tax bigint NOT NULL,
	total bigint NOT NULL CHECK (total > 0),
	amount_applied bigint NOT NULL CHECK (amount_applied >= 0),
	balance_amount bigint NOT NULL CHECK (balance_amount >= 0),
	refund_amount bigint NOT NULL CHECK (refund_amount >= 0),
	seller jsonb,
	buyer bytea,
	marked_at timestamptz NOT NULL,
	issued_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	CHECK (amount_applied + balance_amount + refund_amount = total),
	CHECK ((number IS NULL) = (series_id IS NULL) AND (number IS NULL) = (series_number IS NULL)),
	CHECK ((status = 'issued') = (number IS NOT NULL)),
	UNIQUE (series_id, series_number)
);
COMMENT ON TABLE billing.credit_notes IS
	'Credit notes: parts of our own invoices that are taken back, by a person, or by the engine: when what a change could not give back is paid, and of what was paid of a subscription that ended before it began. Where the money goes is settled when one is made; a draft has no number '
	'yet, which the worker gives within a second. Afterwards nothing changes. Amounts are minor units of the currency.';
COMMENT ON COLUMN billing.credit_notes.reason IS
	'As create_credit_note() was told; unused_time: the engine made it when what a change could not give back was paid; never_began: when a subscription ended whose first invoice was paid in part.';
COMMENT ON COLUMN billing.credit_notes.subtotal IS 'The sum of the lines, before added tax.';
COMMENT ON COLUMN billing.credit_notes.tax IS 'Added or inside, as on the invoice.';
COMMENT ON COLUMN billing.credit_notes.amount_applied IS 'Of the total: what it took off the amount that was still to be paid.';
COMMENT ON COLUMN billing.credit_notes.balance_amount IS 'Of the total: what the customer''s balance got.';
COMMENT ON COLUMN billing.credit_notes.refund_amount IS
	'Of the total: what was to be paid back; refunds.credit_note_id tells by which refunds. One that fails or is canceled is in the customer''s balance instead.';
COMMENT ON COLUMN billing.credit_notes.seller IS 'The seller as the invoice has it.';
COMMENT ON COLUMN billing.credit_notes.buyer IS 'Encrypted: the customer as the invoice has it. NULL: no key opened that when the note was made, and the invoice''s is printed.';
COMMENT ON COLUMN billing.credit_notes.marked_at IS 'When it was made: numbers are given in this order.';
COMMENT ON COLUMN billing.credit_notes.issued_at IS 'By the organisation''s clock: when it was numbered; of a draft, when it was made.';
CREATE INDEX credit_notes_invoice ON billing.credit_notes (invoice_id);
CREATE INDEX credit_notes_customer ON billing.credit_notes (customer_id);
CREATE INDEX credit_notes_organization ON billing.credit_notes (organization_id, issued_at);
CREATE INDEX credit_notes_to_number ON billing.credit_notes (marked_at) WHERE status = 'draft';

CREATE TABLE billing.credit_note_lines
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	credit_note_id uuid NOT NULL REFERENCES billing.credit_notes (id),
	position integer NOT NULL CHECK (position > 0),
	invoice_line_id uuid NOT NULL REFERENCES billing.invoice_lines (id),
	credit_line_id uuid REFERENCES billing.invoice_lines (id),
	description text NOT NULL,
	amount bigint NOT NULL,
	tax bigint NOT NULL,
	tax_rate_id uuid,
	tax_inclusive boolean NOT NULL,
	period_start timestamptz,
	period_end timestamptz,
	UNIQUE (credit_note_id, position),
	UNIQUE (credit_note_id, invoice_line_id)
);
COMMENT ON TABLE billing.credit_note_lines IS 'Lines of credit notes: a line of the invoice each. They never change.';
COMMENT ON COLUMN billing.credit_note_lines.credit_line_id IS
	'The line that reverses it and that it makes up for: one that gave back less than its time or usage was worth, as that was not paid then. NULL: somebody asked for it.';
COMMENT ON COLUMN billing.credit_note_lines.amount IS
	'Minor units that are taken back of the line after its discount, before added tax; below 0 where a credit on the invoice goes with it.';
COMMENT ON COLUMN billing.credit_note_lines.tax IS 'Of the tax of the line: beside the amount, or inside where tax_inclusive.';
CREATE INDEX credit_note_lines_invoice_line ON billing.credit_note_lines (invoice_line_id);
CREATE INDEX credit_note_lines_credit_line ON billing.credit_note_lines (credit_line_id) WHERE credit_line_id IS NOT NULL;

ALTER TABLE billing.refunds ADD FOREIGN KEY (credit_note_id) REFERENCES billing.credit_notes (id);
CREATE INDEX refunds_credit_note ON billing.refunds (credit_note_id) WHERE credit_note_id IS NOT NULL;

-- The number is given once; nothing else ever changes.
CREATE FUNCTION billing.keep_credit_note() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF OLD.status = 'draft'
	   AND to_jsonb(NEW) - '{status,number,series_id,series_number,issued_at}'::text[]
		   = to_jsonb(OLD) - '{status,number,series_id,series_number,issued_at}'::text[] THEN
		RETURN NEW;
	END IF;
	RAISE EXCEPTION 'credit note "%" cannot change', OLD.id
		USING ERRCODE = 'JB008', HINT = 'What it took back in error is billed again: billing.create_invoice().';
END
$$;
COMMENT ON FUNCTION billing.keep_credit_note() IS 'Trigger of credit_notes: one that is issued never changes, and a draft gets its number only.';
CREATE TRIGGER keep_credit_note BEFORE UPDATE ON billing.credit_notes
	FOR EACH ROW EXECUTE FUNCTION billing.keep_credit_note();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.credit_notes
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('What it took back in error is billed again: billing.create_invoice().');

CREATE FUNCTION billing.keep_credit_note_line() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'lines of credit note "%" cannot change', OLD.credit_note_id
		USING ERRCODE = 'JB008', HINT = 'What it took back in error is billed again: billing.create_invoice().';
END
$$;
COMMENT ON FUNCTION billing.keep_credit_note_line() IS 'Trigger of credit_note_lines: they never change.';
CREATE TRIGGER keep_credit_note_line BEFORE UPDATE OR DELETE ON billing.credit_note_lines
	FOR EACH ROW EXECUTE FUNCTION billing.keep_credit_note_line();

-- What an invoice of ours has of the money that was paid for it, for whatever is given back of it.
CREATE FUNCTION billing.money_of_invoice(invoice_id uuid)
RETURNS TABLE (kept bigint, lost bigint, given bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT (least(p.paid, i.amount_due - i.provider_tax - i.amount_credited) - p.noted + greatest(i.credit_used, 0) + greatest(i.balance_used, 0) - n.amount - u.amount)::bigint,
		   greatest(i.amount_due - i.provider_tax - i.amount_credited - i.amount_remaining - p.paid, 0)::bigint,
		   g.amount::bigint
	FROM billing.invoices AS i
	-- refunds of credit notes are what the notes have taken, and no loss
	CROSS JOIN LATERAL (SELECT i.paid_elsewhere + coalesce(sum(x.gross - CASE WHEN i.merchant_of_record IS NULL THEN 0 ELSE billing.provider_tax_in(x.gross, o.provider_tax, o.amount_received) END), 0) AS paid,
							   coalesce(sum(f.noted), 0) AS noted
						FROM billing.payment_intents AS o
						CROSS JOIN LATERAL (SELECT coalesce(sum(r.amount), 0) AS amount, coalesce(sum(r.amount) FILTER (WHERE r.credit_note_id IS NOT NULL), 0) AS noted
											FROM billing.refunds AS r WHERE r.payment_intent_id = o.id AND r.status IN ('pending', 'succeeded')) AS f
						-- as long as the bank has it, or may take it
						CROSS JOIN LATERAL (SELECT coalesce(sum(b.amount), 0) AS amount FROM billing.disputes AS b
											WHERE b.payment_intent_id = o.id AND b.funds_reinstated_at IS NULL
												AND (b.funds_withdrawn_at IS NOT NULL OR b.status IN ('needs_response', 'under_review', 'lost'))
												AND NOT EXISTS (SELECT FROM billing.refunds AS r WHERE r.dispute_id = b.id AND r.status IN ('pending', 'succeeded'))) AS d
						-- of a statement: less the tax that its seller keeps
						CROSS JOIN LATERAL (SELECT (greatest(o.amount_received - o.refunded_elsewhere - f.amount - d.amount, 0) + f.noted)::bigint AS gross) AS x
						WHERE o.invoice_id = i.id AND o.amount_received > 0 AND o.currency = i.currency) AS p
	-- with what they could not pay back
	CROSS JOIN LATERAL (SELECT coalesce(sum(c.balance_amount + (SELECT coalesce(sum(r.amount), 0) FROM billing.refunds AS r
																WHERE r.credit_note_id = c.id AND r.status IN ('failed', 'canceled'))), 0) AS amount
						FROM billing.credit_notes AS c WHERE c.invoice_id = i.id) AS n
	-- of a statement
	CROSS JOIN LATERAL (SELECT coalesce(sum(e.amount), 0) AS amount
						FROM billing.invoice_lines AS l
						JOIN billing.invoice_lines AS r ON r.reverses = l.id
						JOIN billing.customer_balance_entries AS e ON e.source_id = r.id AND e.reason = 'unused_time'
						WHERE l.invoice_id = i.id AND i.merchant_of_record IS NOT NULL) AS u
	-- credits on the invoice itself have paid a part of its other lines, so they count the other way
	CROSS JOIN LATERAL (SELECT coalesce(sum(CASE WHEN l.amount < 0 THEN l.amount - l.discount + CASE WHEN l.tax_inclusive THEN 0 ELSE l.tax END
												 ELSE coalesce(c.amount, 0) END), 0) AS amount
						FROM billing.invoice_lines AS l
						CROSS JOIN LATERAL (SELECT - sum(r.amount - r.discount + CASE WHEN r.tax_inclusive THEN 0 ELSE r.tax END
														 - (SELECT coalesce(sum(t.amount + CASE WHEN t.tax_inclusive THEN 0 ELSE t.tax END), 0)
															FROM billing.credit_note_lines AS t WHERE t.invoice_line_id = r.id)) AS amount
											FROM billing.invoice_lines AS r
											LEFT JOIN billing.invoices AS v ON v.id = r.invoice_id
											WHERE r.reverses = l.id AND v.status IS DISTINCT FROM 'void') AS c
						WHERE l.invoice_id = i.id AND l.kind NOT IN ('discount', 'tax', 'credit', 'balance')) AS g
	WHERE i.id = money_of_invoice.invoice_id AND i.managed_by = 'local';
END;
COMMENT ON FUNCTION billing.money_of_invoice(uuid) IS
	'Of an invoice of ours, minor units. kept: what was paid of it, by payments, other ways, prepaid credit and the balance, and neither paid back nor disputed nor given to the balance by credit notes; a refund that is '
	'pending counts. lost: what refunds and banks have taken of what counts as paid of it; above 0 only where no credit note or amount that is left to pay accounts for it. given: what changes gave back of its lines.';

-- What changes have not given back of the lines of an invoice, as it was not paid, and no credit note has made up for.
CREATE FUNCTION billing.not_given_back(invoice_id uuid)
RETURNS TABLE (line_id uuid, credit_line_id uuid, description text, period_start timestamptz, period_end timestamptz, amount bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT l.id, c.id, c.description, c.period_start, c.period_end, (c.not_covered - m.amount)::bigint
	FROM billing.invoice_lines AS l
	-- the newest credit counts, unless it was taken back
	CROSS JOIN LATERAL (SELECT r.id, r.description, r.period_start, r.period_end, r.not_covered,
							   sum(CASE r.kind WHEN 'proration_debit' THEN -1 ELSE 1 END) OVER () AS in_force
						FROM billing.invoice_lines AS r
						LEFT JOIN billing.invoices AS v ON v.id = r.invoice_id
						WHERE r.reverses = l.id AND v.status IS DISTINCT FROM 'void'
						ORDER BY r.kind <> 'proration_debit' DESC, r.id DESC LIMIT 1) AS c
	CROSS JOIN LATERAL (SELECT coalesce(sum(n.amount + CASE WHEN n.tax_inclusive THEN 0 ELSE n.tax END), 0) AS amount
						FROM billing.credit_note_lines AS n WHERE n.credit_line_id = c.id) AS d
	CROSS JOIN LATERAL (SELECT d.amount + coalesce(sum(e.amount), 0) AS amount
						FROM billing.customer_balance_entries AS e WHERE e.source_id = c.id AND e.reason = 'unused_time') AS m
	WHERE l.invoice_id = not_given_back.invoice_id AND c.in_force > 0 AND c.not_covered > m.amount
	ORDER BY l.position;
END;
COMMENT ON FUNCTION billing.not_given_back(uuid) IS
	'For each line of an invoice whose rest a change gave back, or whose usage was corrected to less: what is missing of that, minor units with tax, because it was not paid.';

SELECT pg_extension_config_dump('billing.credit_notes', '');
SELECT pg_extension_config_dump('billing.credit_note_lines', '');

CREATE FUNCTION billing.create_credit_note(
	invoice_id uuid,
	lines jsonb DEFAULT NULL,
	amount bigint DEFAULT NULL,
	reason text DEFAULT NULL,
	destination text DEFAULT 'balance',
	memo text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_credit_note';
COMMENT ON FUNCTION billing.create_credit_note(uuid, jsonb, bigint, text, text, text, text) IS
	'Takes back all that is left of a final invoice of ours, or a part of it, and returns the credit note''s id; the worker gives it its '
	'number. lines: [{"line": id of the invoice''s line, "amount": minor units, tax included; default all that is left of the line}]. amount: '
	'minor units, tax included, spread over the lines. The tax goes back in proportion. What is still to be paid of the invoice becomes '
	'less first; destination says where the rest goes: balance (of the customer) or refund (of the payments of the invoice; what could not be refunded goes to the balance). reason: '
	'requested_by_customer, duplicate, fraudulent, service_disruption, satisfaction_guarantee or other. memo is printed on it. Errors: '
	'JB005 unknown invoice, JB008 it is not open, paid or uncollectible, or nothing is left of it, JB004 it is the provider''s, or the provider is the seller (refund it), 22023 more than is left of '
	'invoice, line or payments, or a bad value, JB009 a card number, JB007 idempotency key reused, and those of create_refund().';

CREATE FUNCTION billing.credit_note_html(credit_note_id uuid) RETURNS text
LANGUAGE c STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_credit_note_html';
COMMENT ON FUNCTION billing.credit_note_html(uuid) IS
	'A credit note as a page of HTML that is whole in itself and prints well, in the customer''s language (English or Spanish); as invoice_html(). '
	'Errors: JB005 unknown credit note.';

CREATE FUNCTION billing.invoice_html(invoice_id uuid) RETURNS text
LANGUAGE c STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_invoice_html';
COMMENT ON FUNCTION billing.invoice_html(uuid) IS
	'An invoice of ours as a page of HTML that is whole in itself (no script, nothing that is fetched) and prints well on A4 and Letter, in '
	'the customer''s language (English, or Spanish for a locale es). It has personal data in clear text. It is no fiscal document. Where the provider is the seller it is a statement that says so. Errors: '
	'JB005 unknown invoice, JB004 it is the provider''s.';

CREATE VIEW billing.credit_note_details WITH (security_invoker = true) AS
	SELECT n.id, n.organization_id, n.customer_id, n.invoice_id, i.number AS invoice_number, n.status, n.number, n.provider, n.account,
		   n.livemode, n.reason, n.currency, c.exponent AS currency_exponent, n.subtotal, n.tax, n.total, n.amount_applied,
		   n.balance_amount, n.refund_amount,
		   ARRAY(SELECT f.id FROM billing.refunds AS f WHERE f.credit_note_id = n.id ORDER BY f.id) AS refund_ids,
		   n.issued_at, n.created_at
	FROM billing.credit_notes AS n
	JOIN billing.invoices AS i ON i.id = n.invoice_id
	JOIN billing.currencies AS c ON c.code = n.currency;
COMMENT ON VIEW billing.credit_note_details IS 'Credit notes with the number of their invoice. Amounts are minor units of the currency.';
COMMENT ON COLUMN billing.credit_note_details.currency_exponent IS
	'An amount divided by 10 to the power of it is in units of the currency.';
COMMENT ON COLUMN billing.credit_note_details.refund_ids IS 'The refunds that pay it out.';

CREATE FUNCTION billing.get_credit_note(credit_note_id uuid) RETURNS SETOF billing.credit_note_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.credit_note_details AS d WHERE d.id = get_credit_note.credit_note_id;
END;
COMMENT ON FUNCTION billing.get_credit_note(uuid) IS 'A credit note; no row when there is none.';

CREATE FUNCTION billing.list_credit_notes(organization_id text) RETURNS SETOF billing.credit_note_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.credit_note_details AS d
	WHERE d.organization_id = list_credit_notes.organization_id
	ORDER BY d.issued_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_credit_notes(text) IS 'Credit notes of an organisation, newest first.';
