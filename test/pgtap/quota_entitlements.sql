-- Limits from wherever they come: what consume(), reserve_usage(), check_quota(),
-- usage_summary() and alerts make of a change, in its transaction, in this
-- session and in one that has remembered the limit before.
\ir helpers.psql
SELECT plan(58);
CREATE EXTENSION dblink;

INSERT INTO billing.features (feature, kind) VALUES ('jobs', 'limit');
SELECT count(billing.set_plan_feature(p, 'jobs', v)) AS set FROM (VALUES ('free', '10'), ('pro', '100'), ('enterprise', '1000')) AS v (p, v) \gset
SELECT billing.create_meter('jobs', enforced => true) AS made \gset
SELECT billing.create_add_on('more', 'Five more', '{"jobs": 5}');

-- What consume() and reserve_usage() would say, without anything that stays of it.
CREATE FUNCTION consumes(organization text, quantity numeric) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	said boolean;
BEGIN
	said := billing.consume(organization, 'jobs', quantity);
	RAISE EXCEPTION 'undone' USING ERRCODE = 'U0001';
EXCEPTION WHEN SQLSTATE 'U0001' THEN
	RETURN said;
END
$$;
CREATE FUNCTION reserves(organization text, quantity numeric) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.reserve_usage(organization, 'jobs', quantity);
	RAISE EXCEPTION 'undone' USING ERRCODE = 'U0001';
EXCEPTION
	WHEN SQLSTATE 'U0001' THEN RETURN true;
	WHEN SQLSTATE 'JB003' THEN RETURN false;
END
$$;
-- The limit on which all agree, to the last unit.
CREATE FUNCTION limit_here(organization text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	maximum numeric;
	used numeric;
	room numeric;
	said text;
BEGIN
	SELECT u."limit", u.quantity, u."limit" - u.quantity INTO maximum, used, room FROM billing.usage_summary(organization) AS u WHERE u.metric = 'jobs';
	IF maximum = 'Infinity' THEN
		said := concat_ws(', ', CASE WHEN NOT consumes(organization, 1e29) THEN 'consume() refuses' END,
						  CASE WHEN NOT reserves(organization, 1e29) THEN 'reserve_usage() refuses' END,
						  CASE WHEN NOT billing.check_quota(organization, 'jobs', 1e29) THEN 'check_quota() refuses' END);
	ELSE
		said := concat_ws(', ', CASE WHEN room > 0 AND NOT consumes(organization, room) THEN 'consume() refuses' END,
						  CASE WHEN room > 0 AND NOT reserves(organization, room) THEN 'reserve_usage() refuses' END,
						  CASE WHEN room > 0 AND NOT billing.check_quota(organization, 'jobs', room) THEN 'check_quota() refuses' END,
						  CASE WHEN consumes(organization, greatest(room, 0) + 0.5) THEN 'consume() lets more through' END,
						  CASE WHEN reserves(organization, greatest(room, 0) + 0.5) THEN 'reserve_usage() lets more through' END,
						  CASE WHEN billing.check_quota(organization, 'jobs', greatest(room, 0) + 0.5) THEN 'check_quota() lets more through' END);
	END IF;
	RETURN maximum || ', used ' || used || CASE said WHEN '' THEN '' ELSE ': ' || said END;
END
$$;

SELECT dblink_connect('other', format('host=%s port=%s dbname=%s user=%s', current_setting('unix_socket_directories'), current_setting('port'), current_database(), session_user)) \gset
CREATE FUNCTION limit_elsewhere(organization text) RETURNS text
LANGUAGE sql RETURN (SELECT d.said FROM dblink('other', format('SELECT limit_here(%L)', organization)) AS d (said text));
-- Both have remembered what was before; a third one has not.
CREATE FUNCTION limits(organization text) RETURNS text[]
LANGUAGE sql RETURN ARRAY(SELECT DISTINCT s FROM (VALUES (limit_here(organization)), (limit_elsewhere(organization))) AS v (s));

CREATE FUNCTION raised(organization text) RETURNS text
LANGUAGE sql RETURN (SELECT string_agg(format('%s of %s', a.threshold, a."limit"), ', ' ORDER BY a.threshold) FROM billing.usage_alerts AS a WHERE a.organization_id = organization);

SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('acme extra late plans', ' ') AS o \gset
SELECT billing.subscribe('late', 'pro', 'pm_card_chargeCustomerFail', trial_days => 1) AS late \gset
SELECT billing.subscribe('plans', 'pro', 'pm_card_visa') AS plans \gset
CALL billing.run_worker();
-- far from the end of a month, which is their period
CALL billing.set_clock('acme', (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month 10 days') AT TIME ZONE 'UTC');
CALL billing.set_clock('extra', billing.now('acme'));

-- ---------------------------------------------------------------------------
-- An override: more, less, for good and for a while

SELECT billing.record_usage('acme', 'jobs', 4) AS recorded \gset
SELECT is(limits('acme'), '{"10, used 4"}', 'the plan says how much');
BEGIN;
SELECT billing.set_override('acme', 'jobs', '20');
SELECT is(limit_here('acme'), '20, used 4', 'a raised limit counts in the transaction that raises it');
SELECT is(limit_elsewhere('acme'), '10, used 4', 'nowhere else');
ROLLBACK;
SELECT is(limits('acme'), '{"10, used 4"}', 'and nowhere when it is rolled back');
BEGIN;
SAVEPOINT s;
SELECT billing.set_override('acme', 'jobs', '20');
SELECT is(limit_here('acme'), '20, used 4', 'a savepoint is the same');
ROLLBACK TO s;
SELECT is(limit_here('acme'), '10, used 4', 'to what it takes back');
SELECT billing.set_override('acme', 'jobs', '30');
SELECT is(limit_here('acme'), '30, used 4', 'and what comes after it');
COMMIT;
SELECT is(limits('acme'), '{"30, used 4"}', 'once it is committed it counts everywhere');
SELECT billing.set_override('acme', 'jobs', '40');
SELECT is(limits('acme'), '{"40, used 4"}', 'a change of it, too');
SELECT billing.set_override('acme', 'jobs', 'unlimited');
SELECT is(limits('acme'), '{"Infinity, used 4"}', 'unlimited is');
CALL billing.run_worker();
CALL settle();
SELECT is(raised('acme'), NULL, 'no threshold was reached by all that');
BEGIN;
SELECT billing.set_override('acme', 'jobs', '3');
SELECT is(limit_here('acme'), '3, used 4', 'a limit may be lower than what was used');
COMMIT;
SELECT is(limits('acme'), '{"3, used 4"}', 'for everybody');
CALL billing.run_worker();
CALL settle();
SELECT is(raised('acme'), '50 of 3, 75 of 3, 90 of 3, 100 of 3', 'which raises alerts without any usage');
SELECT billing.set_override('acme', 'jobs', '0');
SELECT is(limits('acme'), '{"0, used 4"}', 'or nothing at all');
SELECT billing.set_override('acme', 'jobs', NULL);
SELECT is(limits('acme'), '{"10, used 4"}', 'without it the plan counts again');

SELECT billing.now('acme') + interval '1 hour' AS until \gset
SELECT billing.set_override('acme', 'jobs', '25', :'until');
SELECT is(limits('acme'), '{"25, used 4"}', 'one with an end counts');
CALL billing.set_clock('acme', :'until'::timestamptz - interval '1 microsecond');
SELECT is(limits('acme'), '{"25, used 4"}', 'to the last moment, by the clock of the organisation');
SELECT billing.record_usage('acme', 'jobs', 8) AS recorded \gset
CALL billing.set_clock('acme', :'until');
SELECT is(limits('acme'), '{"10, used 12"}', 'and not at its end, though no row has changed');
SELECT is(limits('nobody'), '{"10, used 0"}', 'others never had it');

-- ---------------------------------------------------------------------------
-- Add-ons

SELECT billing.record_usage('extra', 'jobs', 9) AS recorded \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('extra'), '50 of 10, 75 of 10, 90 of 10', 'by the plan it is nearly used up');
SELECT is(limits('extra'), '{"10, used 9"}', 'as everybody says');
BEGIN;
SELECT billing.set_add_on('extra', 'more', 2);
SELECT is(limit_here('extra'), '20, used 9', 'an add-on adds in its transaction');
SELECT is(limit_elsewhere('extra'), '10, used 9', 'before it is committed nowhere else');
COMMIT;
SELECT is(limits('extra'), '{"20, used 9"}', 'then everywhere');
SELECT billing.set_add_on('extra', 'more', 1);
SELECT is(limits('extra'), '{"15, used 9"}', 'a unit less');
UPDATE billing.add_on_features SET value = '6' WHERE add_on = 'more';
SELECT is(limits('extra'), '{"16, used 9"}', 'what a unit is changes for all who have it');
SELECT billing.now('extra') + interval '1 day' AS until \gset
SELECT billing.set_add_on('extra', 'more', 3, :'until');
SELECT is(limits('extra'), '{"28, used 9"}', 'one with an end');
SELECT billing.set_override('extra', 'jobs', '11', :'until'::timestamptz - interval '1 hour');
SELECT is(limits('extra'), '{"11, used 9"}', 'an override goes before it');
CALL billing.set_clock('extra', :'until'::timestamptz - interval '1 hour');
SELECT is(limits('extra'), '{"28, used 9"}', 'after which it is there');
SELECT billing.record_usage('extra', 'jobs', 3) AS recorded \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('extra'), '50 of 10, 75 of 10, 90 of 10', '12 of 28 has reached nothing new');
CALL billing.set_clock('extra', :'until');
SELECT is(limits('extra'), '{"10, used 12"}', 'both have ended');
SELECT billing.record_usage('extra', 'jobs', 1) AS recorded \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('extra'), '50 of 10, 75 of 10, 90 of 10, 100 of 10', 'which the next usage tells');
SELECT billing.set_add_on('extra', 'more', 0);
SELECT is(limits('extra'), '{"10, used 13"}', 'removed it is gone');

-- ---------------------------------------------------------------------------
-- A grace

CALL billing.advance_clock('late', '1 day 1 minute');
SELECT is(status_of('late'), 'past_due', 'a payment fails');
SELECT billing.record_usage('late', 'jobs', 60) AS recorded \gset
SELECT is(limits('late'), '{"100, used 60"}', 'which costs nothing as long as the provider tries');
UPDATE billing.access_rules SET grace = '4 days' WHERE status = 'past_due';
SELECT is(limits('late'), '{"100, used 60"}', 'nor within the grace');
SELECT status_since + interval '96 hours' AS until FROM billing.subscriptions WHERE id = :'late' \gset
CALL billing.set_clock('late', :'until'::timestamptz - interval '1 microsecond');
SELECT is(limits('late'), '{"100, used 60"}', 'to its last moment');
CALL billing.run_worker();
CALL settle();
SELECT is(raised('late'), '50 of 100', 'alerts go by the plan');
CALL billing.set_clock('late', :'until');
SELECT is(limits('late'), '{"10, used 60"}', 'at its end the default plan''s limit counts, against what was used in the period');
SELECT billing.record_usage('late', 'jobs', 1) AS recorded \gset
CALL billing.run_worker();
CALL settle();
SELECT is(raised('late'), '50 of 100, 75 of 10, 90 of 10, 100 of 10', 'for alerts with the next usage');
BEGIN;
UPDATE billing.access_rules SET grace = '5 days' WHERE status = 'past_due';
SELECT is(limit_here('late'), '100, used 61', 'a longer grace counts in its transaction');
SELECT is(limit_elsewhere('late'), '10, used 61', 'before anywhere else');
COMMIT;
SELECT is(limits('late'), '{"100, used 61"}', 'then everywhere');
UPDATE billing.access_rules SET gives_access = false, grace = NULL WHERE status = 'past_due';
SELECT is(limits('late'), '{"10, used 61"}', 'and none at once');

-- ---------------------------------------------------------------------------
-- Another plan

SELECT billing.record_usage('plans', 'jobs', 45) AS recorded \gset
SELECT is(limits('plans'), '{"100, used 45"}', 'a plan');
SELECT billing.update_subscription(:'plans', 'enterprise', amount => 100000) IS NOT NULL AS changed \gset
CALL billing.run_worker();
SELECT is(limits('plans'), '{"1000, used 45"}', 'a larger one counts when the provider confirms it');
BEGIN;
SELECT billing.set_plan_feature('enterprise', 'jobs', '2000');
SELECT is(limit_here('plans'), '2000, used 45', 'what the plan gives counts in the transaction that changes it');
SELECT is(limit_elsewhere('plans'), '1000, used 45', 'before anywhere else');
COMMIT;
SELECT is(limits('plans'), '{"2000, used 45"}', 'then everywhere');
BEGIN;
UPDATE billing.subscriptions SET plan_id = (SELECT id FROM billing.plans WHERE plan = 'pro') WHERE id = :'plans';
SELECT is(limit_here('plans'), '100, used 45', 'as does the plan of a subscription');
SELECT is(limit_elsewhere('plans'), '2000, used 45', 'which others do not see');
COMMIT;
SELECT is(limits('plans'), '{"100, used 45"}', 'until they do');
CALL billing.run_worker();
CALL settle();
SELECT is(raised('plans'), NULL, 'of 100 nothing is reached');
SELECT billing.set_override('plans', 'jobs', '50');
CALL billing.run_worker();
CALL settle();
SELECT is(raised('plans'), '50 of 50, 75 of 50, 90 of 50', 'of 50 much is');
SELECT billing.set_override('plans', 'jobs', NULL);
SELECT billing.cancel_subscription(:'plans', at_period_end => false) IS NOT NULL AS canceled \gset
CALL billing.run_worker();
SELECT is((limits('plans'))[1], '10, used 45', 'without a subscription the default plan counts');

-- ---------------------------------------------------------------------------
-- A feature that is on or off

SELECT billing.create_meter('sso');
SELECT is(ARRAY[billing.check_quota('switched', 'sso'), billing.consume('switched', 'sso')], '{f,f}', 'of what is switched off nothing can be used');
SELECT billing.set_override('switched', 'sso', 'true');
SELECT is(ARRAY[billing.check_quota('switched', 'sso', 1000), billing.consume('switched', 'sso', 1000)], '{t,t}', 'what is switched on has no limit');

SELECT * FROM finish();
