-- Usage that a provider bills: what is forwarded where, and what was told of each hour.

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('usage_forward_delay', '5 minutes', 'interval',
	 'how long after the end of an hour, of a billing period or after a late event its usage is forwarded to the provider', true);

CREATE TABLE billing.usage_forwarding
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	metric text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	event_name text NOT NULL CHECK (event_name ~ '^[a-zA-Z0-9_.:-]{1,100}$'),
	since timestamptz NOT NULL,
	differences boolean NOT NULL,
	state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'active', 'failed')),
	enabled boolean NOT NULL DEFAULT true,
	error_code text,
	errors_reported_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (metric, provider, account),
	UNIQUE (provider, account, event_name)
);
COMMENT ON TABLE billing.usage_forwarding IS
	'Which metrics are forwarded to which provider, by forward_usage(). The id of the provider''s meter is in provider_refs.';
COMMENT ON COLUMN billing.usage_forwarding.since IS 'The beginning of the first hour that is forwarded.';
COMMENT ON COLUMN billing.usage_forwarding.differences IS
	'The provider adds up what it is told, so that a correction is the difference; false: it is told what an hour comes to, and the last time counts.';
COMMENT ON COLUMN billing.usage_forwarding.state IS 'pending until the provider''s meter is there; failed: error_code says why.';
COMMENT ON COLUMN billing.usage_forwarding.errors_reported_at IS
	'When the provider last told that it could not count something that it had accepted; error_code is the kind that was most frequent.';

-- Where usage is cut: an hour belongs to one period alone.
CREATE TABLE billing.usage_forward_periods
(
	organization_id text NOT NULL,
	subscription_id uuid NOT NULL,
	starts_at timestamptz NOT NULL,
	ends_at timestamptz,
	provider text NOT NULL,
	account text NOT NULL,
	flushed_at timestamptz,
	PRIMARY KEY (organization_id, subscription_id, starts_at)
);
COMMENT ON TABLE billing.usage_forward_periods IS
	'Periods of subscriptions that a provider manages and whose usage is forwarded, as the provider told them.';
COMMENT ON COLUMN billing.usage_forward_periods.ends_at IS 'Of a subscription that has ended, when it ended.';
COMMENT ON COLUMN billing.usage_forward_periods.flushed_at IS 'When what there was shortly before its end was forwarded.';
CREATE INDEX usage_forward_periods_end ON billing.usage_forward_periods (ends_at) WHERE flushed_at IS NULL AND ends_at IS NOT NULL;

CREATE TABLE billing.usage_forward_marks
(
	organization_id text NOT NULL,
	metric text NOT NULL,
	hour timestamptz NOT NULL,
	due_at timestamptz NOT NULL,
	PRIMARY KEY (organization_id, metric, hour)
);
COMMENT ON TABLE billing.usage_forward_marks IS
	'Hours whose usage has changed since it was forwarded. Marked in the transaction that changes the totals.';
COMMENT ON COLUMN billing.usage_forward_marks.due_at IS 'When it is forwarded, by the organisation''s clock.';
CREATE INDEX usage_forward_marks_due ON billing.usage_forward_marks (due_at);

CREATE TABLE billing.usage_forwards
(
	organization_id text NOT NULL,
	metric text NOT NULL,
	hour timestamptz NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	revision integer NOT NULL CHECK (revision > 0),
	quantity numeric NOT NULL,
	told numeric NOT NULL,
	state text NOT NULL CHECK (state IN ('sent', 'accepted', 'failed', 'too_old')),
	after_close boolean NOT NULL,
	identifier text NOT NULL,
	customer_id uuid NOT NULL,
	batch uuid NOT NULL,
	error_code text,
	at timestamptz NOT NULL DEFAULT now(),
	accepted_at timestamptz,
	PRIMARY KEY (organization_id, metric, hour, provider, account, revision),
	CHECK ((state = 'accepted') = (accepted_at IS NOT NULL))
);
COMMENT ON TABLE billing.usage_forwards IS
	'What providers are told of usage: for each organisation, metric and hour (UTC) one row, and another revision when the hour has changed since. '
	'Rows of an hour are removed when usage_retention has removed its events, its newest revision is accepted and its period is over.';
COMMENT ON COLUMN billing.usage_forwards.hour IS
	'Where it begins. An hour that a billing period cuts is only its part in the period that ends; the rest belongs to the next hour.';
COMMENT ON COLUMN billing.usage_forwards.quantity IS 'What the hour came to when this revision was made; of latest, the level at its end.';
COMMENT ON COLUMN billing.usage_forwards.told IS 'What the provider is told: the quantity, or the difference to all that it was told before.';
COMMENT ON COLUMN billing.usage_forwards.state IS
	'sent: on its way, the outbox has it under the object id in batch; accepted; failed: refused, or never sent; too_old: the provider takes '
	'it no more (35 days), so that it has to be corrected here.';
COMMENT ON COLUMN billing.usage_forwards.after_close IS
	'Made when the provider may have finished the invoice of that period already (an hour after its end): it may be billed by nobody.';
COMMENT ON COLUMN billing.usage_forwards.identifier IS 'The same for the same revision of the same hour, so that it is counted once.';
CREATE INDEX usage_forwards_hour ON billing.usage_forwards (hour);
CREATE INDEX usage_forwards_batch ON billing.usage_forwards (batch);
CREATE INDEX usage_forwards_open ON billing.usage_forwards (at) WHERE state <> 'accepted';

SELECT pg_extension_config_dump('billing.usage_forwarding', '');
SELECT pg_extension_config_dump('billing.usage_forward_periods', '');
SELECT pg_extension_config_dump('billing.usage_forward_marks', '');
SELECT pg_extension_config_dump('billing.usage_forwards', '');

-- The rollup calls it as well.  DO NOTHING without a look at the row is right:
-- whoever forwards removes the mark first and reads afterwards, what is in the
-- totals and what is not.
CREATE FUNCTION billing.mark_forwarding(organization_ids text[], metrics text[], moments timestamptz[]) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO billing.usage_forward_marks (organization_id, metric, hour, due_at)
	SELECT m.organization_id, m.metric, m.hour,
		   greatest(coalesce(k.now, now()), coalesce(p.cut, m.hour + interval '1 hour'))
			   + (SELECT s.value::interval FROM billing.settings AS s WHERE s.name = 'usage_forward_delay')
	FROM (SELECT DISTINCT u.organization_id, u.metric, date_trunc('hour', u.moment, 'UTC') AS hour
		  FROM unnest(mark_forwarding.organization_ids, mark_forwarding.metrics, mark_forwarding.moments) AS u (organization_id, metric, moment)
		  WHERE EXISTS (SELECT FROM billing.usage_forwarding AS f
						WHERE f.metric = u.metric AND f.enabled AND u.moment >= f.since - interval '1 hour')) AS m
	LEFT JOIN billing.sandbox_clocks AS k ON k.organization_id = m.organization_id
	LEFT JOIN LATERAL (SELECT min(e.edge) AS cut
					   FROM billing.usage_forward_periods AS p
					   CROSS JOIN LATERAL (VALUES (p.starts_at), (p.ends_at)) AS e (edge)
					   WHERE p.organization_id = m.organization_id AND e.edge > m.hour AND e.edge < m.hour + interval '1 hour') AS p ON true
	ORDER BY m.organization_id, m.metric, m.hour
	ON CONFLICT DO NOTHING;
END;
COMMENT ON FUNCTION billing.mark_forwarding(text[], text[], timestamptz[]) IS
	'The usage of these hours is forwarded (again) when they are over: for metrics that are forwarded.';

-- What is known of a metric from a moment on, and where a level is carried, the
-- first hour of the period although nothing happened in it.
CREATE FUNCTION billing.mark_forwarding_since(organization_id text, metric text, since timestamptz, period_start timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM billing.mark_forwarding(array_agg(mark_forwarding_since.organization_id), array_agg(mark_forwarding_since.metric), array_agg(u.moment))
	FROM (SELECT DISTINCT date_trunc('hour', t.bucket, 'UTC') AS moment
		  FROM billing.usage_totals AS t
		  WHERE t.organization_id = mark_forwarding_since.organization_id AND t.metric = mark_forwarding_since.metric
			  AND t.bucket >= date_trunc('hour', greatest(mark_forwarding_since.since, now() - interval '35 days'), 'UTC')
		  UNION
		  SELECT date_trunc('hour', mark_forwarding_since.period_start + interval '1 hour' - interval '1 microsecond', 'UTC')
		  FROM billing.meters AS m
		  WHERE m.metric = mark_forwarding_since.metric AND m.carried) AS u
	WHERE u.moment IS NOT NULL
	HAVING count(*) > 0;
END
$$;
COMMENT ON FUNCTION billing.mark_forwarding_since(text, text, timestamptz, timestamptz) IS
	'mark_forwarding() for all hours of an organisation since then that have usage, and for the first of a period (NULL: none).';

CREATE FUNCTION billing.note_usage_period(subscription billing.subscriptions) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	period_end timestamptz := least(subscription.current_period_end, subscription.ended_at);
	known billing.usage_forward_periods;
	changed_from timestamptz;
BEGIN
	IF subscription.managed_by <> 'provider' OR subscription.status IN ('incomplete', 'incomplete_expired')
		OR subscription.current_period_start IS NULL
		OR NOT EXISTS (SELECT FROM billing.usage_forwarding AS f
					   WHERE f.provider = subscription.provider AND f.account = subscription.account AND f.enabled) THEN
		RETURN;
	END IF;
	SELECT p.* INTO known
	FROM billing.usage_forward_periods AS p
	WHERE p.organization_id = subscription.organization_id AND p.subscription_id = subscription.id
		AND p.starts_at = subscription.current_period_start;
	IF NOT FOUND THEN
		changed_from := subscription.current_period_start;
	ELSIF known.ends_at IS DISTINCT FROM period_end THEN
		changed_from := least(known.ends_at, period_end);
	ELSE
		RETURN;
	END IF;

	INSERT INTO billing.usage_forward_periods (organization_id, subscription_id, starts_at, ends_at, provider, account)
	VALUES (subscription.organization_id, subscription.id, subscription.current_period_start, period_end, subscription.provider,
			subscription.account)
	ON CONFLICT (organization_id, subscription_id, starts_at) DO UPDATE SET ends_at = excluded.ends_at, flushed_at = NULL;
	PERFORM billing.mark_forwarding_since(subscription.organization_id, f.metric, changed_from,
									 CASE WHEN known.starts_at IS NULL THEN subscription.current_period_start END)
	FROM billing.usage_forwarding AS f
	WHERE f.provider = subscription.provider AND f.account = subscription.account AND f.enabled;
END
$$;
COMMENT ON FUNCTION billing.note_usage_period(billing.subscriptions) IS
	'Keeps the period of a subscription where its usage is forwarded, and has what it changes forwarded.';

CREATE FUNCTION billing.usage_period_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF current_setting('janua_billing.restoring', true) = 'on'
		OR current_setting('row_security') = 'off' AND (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = session_user) THEN
		RETURN NULL;
	END IF;
	PERFORM billing.note_usage_period(NEW);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.usage_period_changed() IS 'Trigger of subscriptions: a period begins or ends. Not while a dump is restored, by whose settings it is known.';
CREATE TRIGGER usage_period_changed
	AFTER INSERT OR UPDATE OF status, current_period_start, current_period_end, ended_at ON billing.subscriptions
	FOR EACH ROW WHEN (NEW.managed_by = 'provider')
	EXECUTE FUNCTION billing.usage_period_changed();

CREATE FUNCTION billing.forward_usage(
	metric text,
	provider text,
	account text DEFAULT 'default',
	event_name text DEFAULT NULL,
	since timestamptz DEFAULT now(),
	link text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_forward_usage';
COMMENT ON FUNCTION billing.forward_usage(text, text, text, text, timestamptz, text) IS
	'From now on the provider is told what organisations use of the metric, hour by hour, as long as they have a subscription there that it '
	'manages. Makes its meter, or takes the one that link names (its id there), and returns an id for await() (pending, active, failed). '
	'event_name: what the provider calls it, default the metric. since: the beginning of its hour counts, at most 35 days ago. Called again it '
	'goes on. Errors: JB004 the metric is no sum, count or latest, is a carried sum, or the provider takes no such usage; JB005 unknown metric or '
	'provider; JB006 not configured; JB008 it is forwarded under another name, or the name is taken; 22023 event_name or since.';

CREATE FUNCTION billing.stop_forwarding(metric text, provider text, account text DEFAULT 'default') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	was boolean;
BEGIN
	SELECT f.enabled INTO was
	FROM billing.usage_forwarding AS f
	WHERE f.metric = stop_forwarding.metric AND f.provider = stop_forwarding.provider AND f.account = stop_forwarding.account
	FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'usage of "%" is not forwarded to account "%" at "%"', metric, account, provider
			USING ERRCODE = 'JB005', HINT = 'billing.usage_forwarding lists what is.';
	END IF;
	UPDATE billing.usage_forwarding AS f SET enabled = false, updated_at = now()
	WHERE f.metric = stop_forwarding.metric AND f.provider = stop_forwarding.provider AND f.account = stop_forwarding.account AND f.enabled;
	RETURN was;
END
$$;
COMMENT ON FUNCTION billing.stop_forwarding(text, text, text) IS
	'The provider is told no more of the metric; what is on its way is still sent, and the provider''s meter stays. False when it was stopped '
	'already. Errors: JB005 it was never forwarded there.';

-- An hour of ours begins where a period has cut the hour before, and ends where one cuts it.
CREATE FUNCTION billing.usage_hour_range(organization_id text, hour timestamptz) RETURNS tstzrange
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT tstzrange(coalesce(min(e.edge) FILTER (WHERE e.edge < usage_hour_range.hour), usage_hour_range.hour),
					 coalesce(min(e.edge) FILTER (WHERE e.edge > usage_hour_range.hour), usage_hour_range.hour + interval '1 hour'))
	FROM billing.usage_forward_periods AS p
	CROSS JOIN LATERAL (VALUES (p.starts_at), (p.ends_at)) AS e (edge)
	WHERE p.organization_id = usage_hour_range.organization_id AND e.edge > usage_hour_range.hour - interval '1 hour'
		AND e.edge < usage_hour_range.hour + interval '1 hour';
END;
COMMENT ON FUNCTION billing.usage_hour_range(text, timestamptz) IS
	'What is told of as the hour that begins then: from a period''s edge in the hour before, or its own beginning, to the first edge in it, or its end.';

CREATE FUNCTION billing.forwarded_quantity(organization_id text, metric text, hour timestamptz) RETURNS numeric
LANGUAGE c STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_forwarded_quantity';
COMMENT ON FUNCTION billing.forwarded_quantity(text, text, timestamptz) IS
	'What the hour comes to now, as it would be forwarded: the sum or number of its usage, or the level at its end. Errors: JB005 unknown metric.';

-- Differences first.  The totals say what there is to tell, the revisions what
-- was told.  An hour that has lost its events may have edges inside a quarter,
-- where it cannot be counted any more; then what the last revision was made of
-- stands for it.  One that reaches an hour back begins with them.
CREATE VIEW billing.usage_forwarding_status AS
	WITH kept AS (
		SELECT coalesce(max(s.raw_since) + interval '1 hour', '-infinity') AS since FROM billing.usage_rollup_state AS s
	), counted AS (
		SELECT DISTINCT t.organization_id, t.metric, date_trunc('hour', t.bucket, 'UTC') AS hour
		FROM billing.usage_totals AS t
		WHERE t.metric IN (SELECT f.metric FROM billing.usage_forwarding AS f) AND t.bucket >= (SELECT k.since FROM kept AS k)
	), expected AS (
		SELECT c.organization_id, c.metric, c.hour, f.provider, f.account
		FROM counted AS c
		JOIN billing.usage_forwarding AS f ON f.metric = c.metric AND f.enabled AND c.hour >= f.since
		CROSS JOIN LATERAL billing.usage_hour_range(c.organization_id, c.hour) AS r (span)
		WHERE EXISTS (SELECT FROM billing.usage_forward_periods AS p
					  WHERE p.organization_id = c.organization_id AND p.provider = f.provider AND p.account = f.account
						  AND p.starts_at < upper(r.span) AND (p.ends_at IS NULL OR p.ends_at > lower(r.span)))
	), hours AS (
		SELECT e.organization_id, e.metric, e.hour, e.provider, e.account FROM expected AS e
		UNION
		SELECT w.organization_id, w.metric, w.hour, w.provider, w.account FROM billing.usage_forwards AS w
	)
	SELECT h.organization_id, h.metric, h.hour, h.provider, h.account, q.counted, t.sent, t.accepted,
		   q.counted - coalesce(t.accepted, 0) AS difference, coalesce(t.state, 'waiting') AS state, coalesce(t.revisions, 0) AS revisions,
		   coalesce(t.after_close, false) AS after_close, t.error_code, t.accepted_at
	FROM hours AS h
	CROSS JOIN LATERAL (
		SELECT max(w.revision) AS revisions, (array_agg(w.quantity ORDER BY w.revision DESC))[1] AS newest,
			   (array_agg(w.quantity ORDER BY w.revision DESC) FILTER (WHERE w.state IN ('sent', 'accepted')))[1] AS sent,
			   (array_agg(w.quantity ORDER BY w.revision DESC) FILTER (WHERE w.state = 'accepted'))[1] AS accepted,
			   (array_agg(w.state ORDER BY w.revision DESC))[1] AS state,
			   (array_agg(w.error_code ORDER BY w.revision DESC))[1] AS error_code,
			   bool_or(w.after_close) AS after_close, max(w.accepted_at) AS accepted_at
		FROM billing.usage_forwards AS w
		WHERE w.organization_id = h.organization_id AND w.metric = h.metric AND w.hour = h.hour AND w.provider = h.provider
			AND w.account = h.account) AS t
	CROSS JOIN LATERAL (
		SELECT CASE WHEN h.hour >= (SELECT k.since FROM kept AS k) THEN billing.forwarded_quantity(h.organization_id, h.metric, h.hour)
					ELSE t.newest END AS counted) AS q
	ORDER BY q.counted IS DISTINCT FROM t.accepted DESC, h.hour DESC, h.organization_id, h.metric;
COMMENT ON VIEW billing.usage_forwarding_status IS
	'What we have counted in each hour, what was sent of it to the provider and what the provider has accepted; hours that differ come first. '
	'The hour that is not over differs as long as it goes on. Hours whose events usage_retention has removed are there while they have rows in '
	'usage_forwards, with what they came to when they were last counted.';
COMMENT ON COLUMN billing.usage_forwarding_status.sent IS 'What the hour comes to by what is on its way or accepted; NULL: nothing is.';
COMMENT ON COLUMN billing.usage_forwarding_status.difference IS 'Counted here and not accepted there.';
COMMENT ON COLUMN billing.usage_forwarding_status.state IS
	'Of the newest revision: sent, accepted, failed, too_old (to be corrected here); waiting: the hour was not told of yet.';
