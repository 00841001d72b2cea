-- What the previews tell, compared with what comes; for random lives
-- (test/perl/JanuaLife.pm).  What is wrong stands in proof.differences.

CREATE SCHEMA IF NOT EXISTS proof;

CREATE TABLE proof.differences (organization_id text NOT NULL, what text NOT NULL, at timestamptz NOT NULL, told jsonb, came jsonb);
CREATE TABLE proof.compared (what text PRIMARY KEY, times bigint NOT NULL);

-- What was foreseen last for an organisation: told has an array for each invoice, its reason and its lines; known are those that there were.
-- NULL: money is waited for that will decide.
CREATE TABLE proof.foreseen (organization_id text PRIMARY KEY, what text NOT NULL, at timestamptz NOT NULL, until timestamptz NOT NULL, event bigint NOT NULL,
							 known uuid[] NOT NULL, told jsonb);

-- Subscriptions that were changed with proration_behavior none; given_up: the rest of a period that was billed, when another one began;
-- until: all is billed as it is from then on.
CREATE TABLE IF NOT EXISTS proof.forgone (subscription_id uuid NOT NULL, given_up tstzrange NOT NULL, until timestamptz NOT NULL);

CREATE FUNCTION proof.forgo(s uuid, rest boolean) RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO proof.forgone
	SELECT b.id, CASE WHEN rest THEN tstzrange(n.now, greatest(n.now, (SELECT max(l.period_end) FROM billing.invoice_lines AS l WHERE l.subscription_id = s AND l.period_start <= n.now)))
				 ELSE 'empty' END,
			greatest(b.current_period_end, (SELECT max(l.period_end) FROM billing.invoice_lines AS l WHERE l.subscription_id = s), n.now)
		FROM billing.subscriptions AS b, billing.now(b.organization_id) AS n (now) WHERE b.id = s
$$;

CREATE FUNCTION proof.count_one(what text) RETURNS void
LANGUAGE sql
AS $$ INSERT INTO proof.compared AS c VALUES (what, 1) ON CONFLICT ON CONSTRAINT compared_pkey DO UPDATE SET times = c.times + 1 $$;

CREATE FUNCTION proof.told(l billing.preview_line) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_array(l.kind, l.component, l.description, trim_scale(l.quantity), trim_scale(l.unit_amount), l.amount, l.discount, l.tax, l.period_start, l.period_end);

CREATE FUNCTION proof.billed(l billing.invoice_lines) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_array(l.kind, l.component, l.description, trim_scale(l.quantity), trim_scale(l.unit_amount), l.amount, l.discount, l.tax, l.period_start, l.period_end);

-- What a line that waits is less than it was: nothing is left of it, or its end is cut off.
CREATE FUNCTION proof.lost(was billing.invoice_lines, l billing.invoice_lines) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_array(was.kind, was.component, was.description, NULL, NULL, coalesce(l.amount, 0) - was.amount, - was.discount,
						 CASE WHEN l.id IS NULL THEN - was.tax ELSE 0 END, coalesce(l.period_end, was.period_start), was.period_end);

-- Does a line wait for the next invoice?  Also on a draft that waits for late usage: that is the next one.
CREATE FUNCTION proof.waits(l billing.invoice_lines) RETURNS boolean
LANGUAGE sql STABLE
RETURN l.invoice_id IS NULL OR EXISTS (SELECT FROM billing.invoices AS i WHERE i.id = l.invoice_id AND i.status = 'draft' AND i.marked_at IS NULL);

-- Discount and tax of a line that waits are told, and not there yet.
CREATE FUNCTION proof.waiting(line jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN jsonb_set(jsonb_set(line, '{6}', 'null'), '{7}', 'null');

-- Subscriptions that were free for a while: that time is on no invoice.
CREATE TABLE IF NOT EXISTS proof.free (subscription_id uuid PRIMARY KEY);

GRANT USAGE ON SCHEMA proof TO public;

CREATE FUNCTION proof.note_free() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
AS $$
BEGIN
	INSERT INTO proof.free SELECT NEW.id FROM billing.plans AS p WHERE p.id = NEW.plan_id AND p.plan = 'gratis' ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
CREATE TRIGGER proof_free AFTER INSERT OR UPDATE ON billing.subscriptions FOR EACH ROW
	EXECUTE FUNCTION proof.note_free();

-- Lines that give back what was paid by then.
CREATE TABLE IF NOT EXISTS proof.of_paid (credit_id uuid PRIMARY KEY);

CREATE FUNCTION proof.note_paid() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
AS $$
BEGIN
	INSERT INTO proof.of_paid SELECT NEW.id FROM billing.invoice_lines AS r JOIN billing.invoices AS i ON i.id = r.invoice_id
		WHERE r.id = NEW.reverses AND i.status = 'paid' ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
CREATE TRIGGER proof_paid AFTER INSERT ON billing.invoice_lines FOR EACH ROW WHEN (NEW.kind = 'proration_credit')
	EXECUTE FUNCTION proof.note_paid();

-- ---- a change is what was told of it ----

CREATE FUNCTION proof.update_as_previewed(s uuid, plan text, quantity bigint, behavior text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
	org text := (SELECT b.organization_id FROM billing.subscriptions AS b WHERE b.id = s);
	waited billing.invoice_lines[];
	invoices uuid[];
	usage jsonb[];
	at timestamptz;
	told jsonb;
	came jsonb;
	costs jsonb[];
	untrue jsonb;
BEGIN
	-- no money comes in between; what came while it was waited for is no part of the change
	PERFORM FROM billing.customers AS c WHERE c.organization_id = org FOR NO KEY UPDATE;
	waited := ARRAY(SELECT l FROM billing.invoice_lines AS l WHERE l.subscription_id = s AND proof.waits(l));
	invoices := ARRAY(SELECT i.id FROM billing.invoices AS i WHERE i.subscription_id = s);
	-- of a draft that waits
	usage := ARRAY(SELECT proof.waiting(proof.told(p)) FROM billing.preview_invoice(s) AS p WHERE p.kind = 'usage' AND p.made_at <= billing.now(org));
	-- what is due by now is played first, as update_subscription() does: it would be told as well
	SELECT max(p.at), jsonb_agg(p.line ORDER BY p.line), array_agg(p.cost) FILTER (WHERE p.cost ->> 7 IS NOT NULL) INTO at, told, costs
		FROM (SELECT u.proration_date AS at, CASE WHEN u.invoice IS NULL THEN proof.waiting(proof.told(u)) ELSE proof.told(u) END AS line,
					 CASE WHEN u.invoice IS NULL THEN proof.told(u) END AS cost
			  FROM billing.preview_update(s, plan, quantity, behavior) AS u) AS p;
	PERFORM billing.update_subscription(s, plan, quantity, behavior, proration_date => at);
	SELECT jsonb_agg(c.line ORDER BY c.line) INTO came
		FROM (SELECT proof.billed(l) AS line
			  FROM billing.invoice_lines AS l
			  WHERE NOT l.invoice_id = ANY (invoices) AND l.invoice_id IN (SELECT i.id FROM billing.invoices AS i WHERE i.subscription_id = s)
			  -- usage that the next invoice has without the change as well is not of the change
			  UNION ALL (SELECT proof.waiting(proof.billed(l))
						 FROM billing.invoice_lines AS l
						 WHERE l.subscription_id = s AND (l.invoice_id IS NULL OR l.invoice_id = ANY (invoices)) AND proof.waits(l)
							 AND NOT EXISTS (SELECT FROM unnest(waited) AS w WHERE w.id = l.id)
						 EXCEPT ALL SELECT unnest(usage))
			  UNION ALL SELECT proof.waiting(proof.lost(w, l))
			  FROM unnest(waited) AS w LEFT JOIN billing.invoice_lines AS l ON l.id = w.id
			  WHERE w.amount <> 0 AND (l.id IS NULL OR proof.waits(l) AND l.amount <> w.amount)) AS c;
	-- what waits has the discount and tax of the next invoice
	SELECT jsonb_agg(c) INTO untrue
		FROM unnest(costs) AS c
		WHERE EXISTS (SELECT FROM billing.invoice_lines AS l
					  WHERE l.subscription_id = s AND proof.waits(l) AND proof.waiting(proof.billed(l)) = proof.waiting(c))
			AND NOT EXISTS (SELECT FROM billing.preview_invoice(s) AS p WHERE proof.told(p) = c);
	PERFORM proof.count_one('cost of a change') WHERE costs IS NOT NULL;
	IF untrue IS NOT NULL THEN
		INSERT INTO proof.differences VALUES (org, 'cost of ' || coalesce(plan, quantity::text) || ' ' || behavior, billing.now(org), untrue,
			(SELECT jsonb_agg(proof.told(p)) FROM billing.preview_invoice(s) AS p));
	END IF;
	PERFORM proof.count_one('preview_update');
	IF behavior = 'none' THEN
		PERFORM proof.forgo(s, plan IS NOT NULL);
	END IF;
	IF told IS DISTINCT FROM came THEN
		INSERT INTO proof.differences VALUES (org, 'preview_update ' || coalesce(plan, quantity::text) || ' ' || behavior, billing.now(org), told, came);
	END IF;
	RETURN s;
END
$$;

-- ---- there and back in the same instant is nothing ----

-- What waits for the next invoice, before it is taxed.
CREATE FUNCTION proof.waiting(s uuid) RETURNS numeric
LANGUAGE sql STABLE
RETURN (SELECT coalesce(sum(l.amount), 0) FROM billing.invoice_lines AS l WHERE l.subscription_id = s AND proof.waits(l));

CREATE FUNCTION proof.change_and_back(s uuid, quantity bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
	org text := (SELECT b.organization_id FROM billing.subscriptions AS b WHERE b.id = s);
	counted text;
	first_quantity bigint;
	owed numeric;
BEGIN
	-- no money comes in between
	PERFORM FROM billing.customers AS c WHERE c.organization_id = org FOR NO KEY UPDATE;
	counted := (SELECT coalesce(min(i.component) FILTER (WHERE i.component = 'seats'), 'base') FROM billing.subscription_items AS i WHERE i.subscription_id = s);
	first_quantity := (SELECT i.quantity FROM billing.subscription_items AS i WHERE i.subscription_id = s AND i.component = counted);
	owed := proof.waiting(s);
	PERFORM billing.update_subscription(s, quantity => quantity);
	PERFORM billing.update_subscription(s, quantity => first_quantity);
	owed := proof.waiting(s) - owed;
	PERFORM proof.count_one('change and back');
	IF owed <> 0 THEN
		INSERT INTO proof.differences VALUES (org, 'change and back', billing.now(org), '0', to_jsonb(owed));
	END IF;
	RETURN s;
END
$$;

-- ---- the next invoice, and all until a day ----

-- What happens while something is told is not told. Events of others do not tell: theirs are committed in any order.
CREATE FUNCTION proof.last_event(org text) RETURNS bigint
LANGUAGE sql STABLE
RETURN coalesce((SELECT e.seq FROM billing.events AS e WHERE e.organization_id = org ORDER BY e.seq DESC LIMIT 1), 0);

-- event: the last one before it was told. Known are invoices that are made; of a draft that waits for late usage the rest is told, unless it is of
-- another subscription than is asked for.
CREATE FUNCTION proof.foresee(org text, what text, until timestamptz, event bigint, told jsonb, s uuid DEFAULT NULL) RETURNS void
LANGUAGE sql
AS $$
	DELETE FROM proof.foreseen AS f WHERE f.organization_id = org;
	INSERT INTO proof.foreseen VALUES (org, what, billing.now(org), until, event,
		ARRAY(SELECT i.id FROM billing.invoices AS i WHERE i.organization_id = org
			  AND (i.status <> 'draft' OR i.marked_at IS NOT NULL OR i.finalize_at IS NULL OR i.subscription_id <> s)), told)
$$;

-- What waits for money now may go on, or be given back, as soon as it comes.
CREATE FUNCTION proof.waits_for_money(org text) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.organization_id = org AND s.status IN ('incomplete', 'past_due', 'unpaid'))
	OR EXISTS (SELECT FROM billing.invoices AS i WHERE i.organization_id = org AND (i.status = 'open' OR i.status = 'draft' AND i.marked_at IS NOT NULL));

CREATE FUNCTION proof.foresee_invoice(org text) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	s uuid := (SELECT b.id FROM billing.subscriptions AS b WHERE b.organization_id = org ORDER BY b.id DESC LIMIT 1);
	event bigint := proof.last_event(org);
	told jsonb;
	made timestamptz;
BEGIN
	IF s IS NOT NULL THEN
		SELECT jsonb_build_array(jsonb_build_array(min(n.reason), jsonb_agg(proof.told(n) ORDER BY proof.told(n)))), max(n.made_at) INTO told, made
			FROM billing.preview_invoice(s) AS n;
	END IF;
	PERFORM proof.foresee(org, 'preview_invoice', coalesce(made, billing.now(org) + interval '1 day'), event,
		CASE WHEN proof.waits_for_money(org) THEN NULL WHEN made IS NULL THEN '[]' ELSE told END, s);
END
$$;

CREATE FUNCTION proof.foresee_life(org text, during interval) RETURNS void
LANGUAGE sql
AS $$
	SELECT proof.foresee(org, 'simulate', billing.now(org) + during, proof.last_event(org),
		CASE WHEN EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.organization_id = org AND s.status IN ('incomplete', 'past_due', 'unpaid')) THEN NULL
		ELSE coalesce((SELECT jsonb_agg(jsonb_build_array(p.reason, p.lines) ORDER BY p.invoice)
					   FROM (SELECT n.invoice, n.reason, jsonb_agg(proof.told(n) ORDER BY proof.told(n)) AS lines
							 FROM billing.simulate(org, billing.now(org) + during) AS n GROUP BY n.invoice, n.reason) AS p), '[]') END)
$$;

-- Twenty minutes after the end of the period, or so much later where it goes on.
CREATE FUNCTION proof.within_grace(org text, later interval) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (SELECT least(greatest(max(s.current_period_end), n.now), n.now + later) + interval '20 minutes'
		FROM billing.now(org) AS n (now) LEFT JOIN billing.subscriptions AS s ON s.organization_id = org GROUP BY n.now);

-- Late usage has been waited for by then.
CREATE FUNCTION proof.seen_at(org text) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (SELECT f.until + interval '61 minutes' FROM proof.foreseen AS f WHERE f.organization_id = org);

-- Told as if everything was paid: where it was not, or money came that nobody told of, there is nothing to compare.
CREATE FUNCTION proof.compare(org text) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	f proof.foreseen := (SELECT o FROM proof.foreseen AS o WHERE o.organization_id = org);
	came jsonb;
BEGIN
	IF f.told IS NULL OR EXISTS (SELECT FROM billing.events AS e WHERE e.organization_id = org AND e.seq > f.event
			   AND e.type IN ('subscription.past_due', 'subscription.unpaid', 'subscription.incomplete_expired', 'invoice.payment_failed', 'payment.unapplied',
						  -- what was paid late changes the balance, which the next invoice tells
						  'credit_note.created', 'customer.balance_adjusted'))
		OR EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.organization_id = org AND s.status IN ('past_due', 'unpaid')) THEN
		RETURN;
	END IF;
	SELECT coalesce(jsonb_agg(jsonb_build_array(i.billing_reason, i.lines) ORDER BY i.id), '[]') INTO came
		FROM (SELECT n.id, n.billing_reason, (SELECT jsonb_agg(proof.billed(l) ORDER BY proof.billed(l)) FROM billing.invoice_lines AS l WHERE l.invoice_id = n.id) AS lines
			  FROM billing.invoices AS n
			  WHERE n.organization_id = org AND n.managed_by = 'local' AND n.period_start <= f.until AND NOT n.id = ANY (f.known)) AS i;
	PERFORM proof.count_one(f.what || CASE WHEN f.told = '[]' THEN ' of nothing' ELSE '' END);
	IF f.what = 'preview_invoice' AND jsonb_array_length(came) > 1 THEN
		came := jsonb_build_array(came -> 0);
	END IF;
	IF f.told <> came THEN
		INSERT INTO proof.differences VALUES (org, f.what, f.at, f.told, came);
	END IF;
END
$$;
