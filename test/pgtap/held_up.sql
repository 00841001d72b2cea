-- One that cannot be billed holds up nobody: not the others, not the clock, and itself no longer than it must.
\ir helpers.psql
SELECT plan(35);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('daily', 'Daily', 100, 'USD', "interval" => 'day') AS p2,
	   billing.create_plan('elsewhere', 'Elsewhere', 500, 'USD', plan_group => 'others') AS p3, billing.create_plan('metered', 'Metered', 0, 'USD') AS p4 \gset
SELECT billing.create_price('metered', 2, 'USD', component => 'calls', metric => 'api_calls') AS calls \gset

CREATE PROCEDURE begin_at(organization text, plan text)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.create_customer(organization);
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local');
	COMMIT;
	CALL billing.run_worker();
END
$$;

-- ---------------------------------------------------------------------------
-- A change that is not possible any more when its time comes

CALL begin_at('stuck', 'small');
SELECT billing.update_subscription(subscription_of('stuck'), plan => 'elsewhere', effective => 'period_end');
SELECT subscription_of('stuck') AS stuck \gset
SELECT billing.subscribe('stuck', 'elsewhere', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') AS taken \gset
CALL billing.set_clock('stuck', '2027-05-02 00:00+00');
SELECT is((SELECT billing.now('stuck')), '2027-05-02 00:00+00'::timestamptz, 'the clock goes on');
SELECT is((SELECT kind || ' ' || state || ' ' || error_code FROM billing.list_scheduled_changes('stuck')), 'change failed 23505', 'the change has failed');
SELECT is((SELECT count(*) FROM billing.events WHERE type = 'scheduled_change.failed' AND organization_id = 'stuck'), 1::bigint, 'which is told');
SELECT is((SELECT what || ': ' || hint FROM billing.attention WHERE object_id = :'stuck' AND what = 'scheduled change failed'),
		  'scheduled change failed: it was billed as it is; billing.update_subscription() changes it', 'and stands where a person looks');
SELECT is((SELECT string_agg(total::text, ' ' ORDER BY period_start) FROM billing.invoices WHERE subscription_id = :'stuck'), '3000 3000', 'it is billed as it is');
SELECT lives_ok(format('SELECT billing.cancel_subscription(%L)', :'stuck'), 'and can be canceled');

-- ---------------------------------------------------------------------------
-- A draft that cannot be made final

CALL begin_at('broken', 'metered');
CALL begin_at('whole', 'metered');
SELECT billing.record_usage(o, 'api_calls', 50) FROM (VALUES ('broken'), ('whole')) AS v (o);
CALL billing.set_clock('broken', '2027-05-01 00:00+00');
CALL billing.set_clock('whole', '2027-05-01 00:00+00');
SELECT usage AS good FROM billing.invoices WHERE organization_id = 'broken' AND status = 'draft' \gset
UPDATE billing.invoices SET usage = '{"periods": [{"start": 5}]}' WHERE organization_id = 'broken' AND status = 'draft';
CALL billing.set_clock('whole', '2027-05-02 00:00+00');
CALL billing.set_clock('broken', '2027-05-02 00:00+00');
SELECT is((SELECT billing.now('broken')), '2027-05-02 00:00+00'::timestamptz, 'the clock passes it');
SELECT is((SELECT total FROM billing.invoices WHERE organization_id = 'whole' AND billing_reason = 'subscription_cycle'), 100::bigint, 'others are billed');
SELECT ok(due_failures BETWEEN 2 AND 30 AND finalize_at > '2027-05-02 00:00+00' AND due_error <> '', 'it is tried again later each time')
FROM billing.invoices WHERE organization_id = 'broken' AND status = 'draft';
SELECT is((SELECT count(*) FROM billing.events WHERE type = 'invoice.finalization_failed' AND organization_id = 'broken'), 1::bigint, 'which is told once');
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'invoice cannot be made final'), 1::bigint, 'and stands where a person looks');
UPDATE billing.invoices SET usage = :'good', finalize_at = '2027-05-02 00:00+00' WHERE organization_id = 'broken' AND status = 'draft';
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'invoice cannot be made final'), 0::bigint, 'until it is put right');

-- ---------------------------------------------------------------------------
-- Nobody can ask for too much

CALL begin_at('days', 'daily');
SELECT is((SELECT count(DISTINCT invoice) FROM billing.simulate('days', '2027-04-11 00:00+00')), 10::bigint, 'ten days, ten invoices');
SELECT fails($$SELECT count(*) FROM billing.simulate('days', '9999-01-01')$$, '22023', 'more than 10000 things are due', 'earlier', 'but not for all time');
CALL begin_at('nothing', 'metered');
SELECT is((SELECT count(*) FROM billing.simulate('nothing', '2028-04-01 00:00+00')), 0::bigint, 'where nothing is used there is no invoice');
-- ---------------------------------------------------------------------------
-- One whose rows somebody's trigger keeps as they are

CALL begin_at('kept', 'small');
CALL begin_at('next', 'small');
CREATE FUNCTION keep_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
CREATE TRIGGER keep_it AFTER UPDATE ON billing.subscriptions FOR EACH ROW WHEN (NEW.organization_id = 'kept') EXECUTE FUNCTION keep_it();
UPDATE billing.sandbox_clocks SET now = '2027-05-02 00:00+00' WHERE organization_id = 'kept';
CALL billing.set_clock('next', '2027-05-02 00:00+00');
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'next'), 2::bigint, 'another one is billed');
SELECT is((SELECT count(*) FROM billing.invoices WHERE organization_id = 'kept'), 1::bigint, 'while that one is not');
SELECT is((SELECT what || ' ' || severity FROM billing.attention WHERE organization_id = 'kept'), 'subscription cannot be billed error', 'which is known, though nothing can be written on it');
DROP TRIGGER keep_it ON billing.subscriptions;

-- ---------------------------------------------------------------------------
-- A customer whose data no key opens

-- As many as one run numbers: the others come after them.
SELECT billing.create_customer('sealed', name => 'Sealed') AS sealed, billing.create_customer('open', name => 'Open') AS open \gset
BEGIN;
SELECT count(billing.create_invoice(:'sealed', '[{"description": "Work", "amount": 500}]', 'USD')) AS made FROM generate_series(1, 1000) \gset
SELECT billing.create_invoice(:'open', '[{"description": "Work", "amount": 500}]', 'USD') AS open \gset
SELECT name AS good FROM billing.customers WHERE organization_id = 'sealed' \gset
UPDATE billing.customers SET name = '\x00'::bytea WHERE organization_id = 'sealed';
SELECT clock_timestamp() AS begun \gset
COMMIT;
CALL billing.run_worker();
SELECT cmp_ok(clock_timestamp() - :'begun', '<', interval '4 seconds', 'nobody waits for what nobody can do');
SELECT is((SELECT i.status FROM billing.invoices AS i WHERE i.id = :'open'), 'open', 'behind a thousand invoices of a customer whose data no key opens there are others');
SELECT is((SELECT string_agg(DISTINCT concat_ws(' ', i.status, w.failures, w.error), ', ') FROM billing.invoices AS i JOIN billing.postponed_work AS w ON w.object_id = i.id),
		  'draft 1 JB012: no key file, or no key of it opens the value; the message is in the server''s log', 'those wait, and are tried again later');
SELECT is((SELECT string_agg(DISTINCT concat_ws(' ', a.severity, a.organization_id, left(a.detail, 20), count), ', ') FROM (
		  SELECT a.*, count(*) OVER () FROM billing.attention AS a WHERE a.what = 'invoice cannot be numbered') AS a), 'error sealed 1 times, next at 202 1000', 'which stands where a person looks');
SELECT is((SELECT count(*) FROM billing.events WHERE type = 'invoice.finalization_failed' AND organization_id = 'sealed'), 1000::bigint, 'and is told');
SELECT id AS one FROM billing.invoices WHERE organization_id = 'sealed' LIMIT 1 \gset
SELECT ok(bool_or(e.hint LIKE '%billing.attention%'), 'explain() says where') FROM billing.explain(:'one') AS e;
UPDATE billing.customers SET name = :'good' WHERE organization_id = 'sealed';
SELECT billing.finalize_invoice(:'one');
CALL billing.run_worker();
SELECT is((SELECT string_agg(DISTINCT i.status, ' ' ORDER BY i.status) || ' ' || count(*) FILTER (WHERE i.status = 'open') FROM billing.invoices AS i WHERE i.organization_id = 'sealed'),
		  'draft open 1', 'put right, one is numbered at once when it is asked for');
UPDATE billing.postponed_work SET retry_at = now();
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.postponed_work), 0::bigint, 'and the others when their time comes');
SELECT is((SELECT count(*) || ' ' || max(series_number) - min(series_number) FROM billing.invoices WHERE organization_id IN ('sealed', 'open')), '1001 1000', 'without a gap');

-- ---------------------------------------------------------------------------
-- What somebody's triggers keep as it is

CREATE FUNCTION keep_of() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.organization_id = 'stubborn' THEN RAISE 'not now'; END IF;
	RETURN NEW;
END $$;
SELECT billing.create_customer('stubborn') AS stubborn, billing.create_customer('mild') AS mild \gset
CALL billing.run_worker();
SELECT billing.create_invoice(c, '[{"description": "Work", "amount": 500}]', 'USD') AS invoice FROM (VALUES (:'stubborn'::uuid), (:'mild')) AS v (c) \g /dev/null
CALL billing.run_worker();
CREATE TRIGGER keep_of BEFORE UPDATE ON billing.credit_notes FOR EACH ROW EXECUTE FUNCTION keep_of();
SELECT count(billing.create_credit_note(i.id)) AS notes FROM billing.invoices AS i WHERE i.organization_id IN ('stubborn', 'mild') \gset
CALL billing.run_worker();
SELECT is((SELECT string_agg(n.organization_id || ' ' || n.status, ', ' ORDER BY n.id) FROM billing.credit_notes AS n), 'stubborn draft, mild issued', 'a credit note that cannot be numbered holds up no other');
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'credit note cannot be numbered'), 1::bigint, 'and stands where a person looks');
DROP TRIGGER keep_of ON billing.credit_notes;
UPDATE billing.postponed_work SET retry_at = now();
CALL billing.run_worker();
SELECT is((SELECT count(*) FROM billing.credit_notes WHERE status = 'issued'), 2::bigint, 'until it can be');

CREATE TRIGGER keep_of BEFORE UPDATE ON billing.credit_grants FOR EACH ROW EXECUTE FUNCTION keep_of();
SELECT count(billing.grant_credit(o, 100, 'USD', expires_at => clock_timestamp() + interval '0.2 seconds')) AS granted FROM (VALUES ('stubborn'), ('mild')) AS v (o) \gset
DO $$
BEGIN
	WHILE EXISTS (SELECT FROM billing.credit_grants AS g WHERE g.expires_at > clock_timestamp()) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
CALL billing.run_worker();
SELECT is((SELECT string_agg(g.organization_id || ' ' || g.remaining, ', ' ORDER BY g.id) FROM billing.credit_grants AS g), 'stubborn 100, mild 0', 'a prepaid credit that cannot be ended holds up no other');
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'prepaid credit cannot be ended'), 1::bigint, 'and stands where a person looks');
DROP TRIGGER keep_of ON billing.credit_grants;
UPDATE billing.postponed_work SET retry_at = now();
CALL billing.run_worker();
SELECT is((SELECT sum(g.remaining) FROM billing.credit_grants AS g), 0::numeric, 'until it can be');
SELECT is((SELECT count(*) FROM billing.attention WHERE what LIKE '%cannot be%'), 0::bigint, 'all is well');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'the books are in balance');
SELECT * FROM finish();
