-- Soft limits: alerts when usage reaches a share of its limit.

CREATE TABLE billing.usage_thresholds
(
	organization_id text NOT NULL DEFAULT '',
	metric text NOT NULL DEFAULT '',
	thresholds numeric[] NOT NULL
		CHECK (cardinality(thresholds) <= 20 AND array_ndims(thresholds) IS NOT DISTINCT FROM nullif(least(cardinality(thresholds), 1), 0)
			   AND array_position(thresholds, NULL) IS NULL AND 0 < ALL (thresholds) AND 10000 >= ALL (thresholds)),
	builtin boolean NOT NULL DEFAULT false,
	PRIMARY KEY (organization_id, metric)
);
COMMENT ON TABLE billing.usage_thresholds IS
	'At which percentages of a limit an alert is raised. The row that says most counts: that of organisation and metric, else of the '
	'organisation, else of the metric, else the one for all. set_usage_thresholds() writes it.';
COMMENT ON COLUMN billing.usage_thresholds.organization_id IS 'Empty: of all organisations.';
COMMENT ON COLUMN billing.usage_thresholds.metric IS 'Empty: of all metrics.';
COMMENT ON COLUMN billing.usage_thresholds.thresholds IS 'Percentages above 0, in any order; {}: no alerts.';
INSERT INTO billing.usage_thresholds (thresholds, builtin) VALUES ('{50,75,90,100}', true);

CREATE TRIGGER replace_builtin BEFORE INSERT ON billing.usage_thresholds
	FOR EACH ROW EXECUTE FUNCTION billing.replace_builtin('organization_id,metric');
CREATE TRIGGER clear_builtin BEFORE UPDATE ON billing.usage_thresholds
	FOR EACH ROW EXECUTE FUNCTION billing.clear_builtin();
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.usage_thresholds
	FOR EACH ROW WHEN (OLD.organization_id = '' AND OLD.metric = '')
	EXECUTE FUNCTION billing.refuse_delete('Set its thresholds to {} instead.');
SELECT pg_extension_config_dump('billing.usage_thresholds', 'WHERE NOT builtin');

CREATE TABLE billing.usage_alerts
(
	organization_id text NOT NULL,
	metric text NOT NULL,
	period_start timestamptz NOT NULL,
	threshold numeric NOT NULL CHECK (threshold > 0),
	id uuid NOT NULL DEFAULT billing.new_id(),
	period_end timestamptz NOT NULL CHECK (period_end > period_start),
	quantity numeric NOT NULL CHECK (quantity > 0),
	"limit" numeric NOT NULL CHECK ("limit" >= 0),
	raised_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (organization_id, metric, period_start, threshold)
);
COMMENT ON TABLE billing.usage_alerts IS
	'Thresholds that were reached, each once per period, with an event usage.threshold_reached. Of several that are reached at once each has '
	'its row, the lowest first. What is reached stays so for the period: usage that goes down and up again, or a limit that is raised, '
	'raises nothing anew and takes nothing back; a limit that is lowered raises what is reached by it. A period is told by its start: where '
	'a new subscription begins another one, its thresholds can be reached anew. A limit of 0 (not in the plan) is reached, with all '
	'thresholds, by whatever is used. What is carried over from the last period (storage) counts in the next one, too.';
COMMENT ON COLUMN billing.usage_alerts.threshold IS 'Percentage of the limit.';
COMMENT ON COLUMN billing.usage_alerts.quantity IS 'What had been used when it was noticed, which may be more than the threshold.';
COMMENT ON COLUMN billing.usage_alerts."limit" IS 'The limit at that moment.';
SELECT pg_extension_config_dump('billing.usage_alerts', '');

-- Each transaction has rows of its own, and never changes another's: nobody
-- waits here for anybody.  Not dumped: what has usage in a restored database is
-- looked at with the next usage.
CREATE TABLE billing.usage_alert_marks
(
	organization_id text NOT NULL,
	metric text NOT NULL,
	marked_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
	PRIMARY KEY (organization_id, metric, marked_in)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE billing.usage_alert_marks IS
	'Where usage or its limit has changed since thresholds were looked at: written with the totals or with the change, taken by the worker.';

-- What the totals do not hold yet is marked when they take it in.
CREATE FUNCTION billing.mark_usage(organization_id text, metric text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO billing.usage_alert_marks (organization_id, metric)
	SELECT mark_usage.organization_id, m.metric
	FROM billing.meters AS m
	JOIN billing.features AS f ON f.feature = m.metric AND f.kind = 'limit'
	WHERE (mark_usage.metric IS NULL OR mark_usage.metric = m.metric)
		AND EXISTS (SELECT FROM billing.usage_organizations AS o WHERE o.organization_id = mark_usage.organization_id)
	ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION billing.mark_usage(text, text) IS
	'The worker looks whether a threshold is reached, of one metric or of all that have a limit. For the triggers of what limits depend on.';

CREATE FUNCTION billing.mark_changed_limits() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	changed text := CASE WHEN TG_OP = 'DELETE' THEN OLD.organization_id ELSE NEW.organization_id END;
BEGIN
	-- most have no usage, and many subscriptions are renewed in one statement
	IF EXISTS (SELECT FROM billing.usage_organizations AS o WHERE o.organization_id = changed) THEN
		PERFORM billing.mark_usage(changed);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION billing.mark_changed_limits() IS
	'Trigger of tables on which the limits or the period of one organisation depend: the worker looks at its thresholds.';
CREATE TRIGGER mark_new_limits AFTER INSERT ON billing.subscriptions
	FOR EACH ROW EXECUTE FUNCTION billing.mark_changed_limits();
CREATE TRIGGER mark_changed_limits AFTER UPDATE ON billing.subscriptions
	FOR EACH ROW
	WHEN ((OLD.plan_id, OLD.quantity, OLD.status, OLD.current_period_start, OLD.current_period_end, OLD.access_until)
		  IS DISTINCT FROM (NEW.plan_id, NEW.quantity, NEW.status, NEW.current_period_start, NEW.current_period_end, NEW.access_until))
	EXECUTE FUNCTION billing.mark_changed_limits();

CREATE FUNCTION billing.set_usage_thresholds(
	thresholds numeric[],
	metric text DEFAULT NULL,
	organization_id text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	organization text := coalesce(set_usage_thresholds.organization_id, '');
	wanted numeric[] := set_usage_thresholds.thresholds;
BEGIN
	IF set_usage_thresholds.organization_id = '' OR length(organization) > 255 THEN
		RAISE EXCEPTION 'organization_id is empty or longer than 255 characters'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out to mean all organisations.';
	ELSIF set_usage_thresholds.metric IS NOT NULL
		AND NOT EXISTS (SELECT FROM billing.meters AS m WHERE m.metric = set_usage_thresholds.metric) THEN
		RAISE EXCEPTION 'unknown metric "%"', set_usage_thresholds.metric
			USING ERRCODE = 'JB005',
				  HINT = format('There are: %s.', (SELECT string_agg(m.metric, ', ' ORDER BY m.metric) FROM billing.meters AS m));
	ELSIF cardinality(wanted) > 20 OR array_ndims(wanted) > 1 OR array_position(wanted, NULL) IS NOT NULL
		OR NOT (0 < ALL (wanted) AND 10000 >= ALL (wanted)) THEN
		RAISE EXCEPTION 'thresholds cannot be percentages of a limit'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('thresholds is %s.', wanted),
				  HINT = 'At most 20, each above 0 and at most 10000, such as {50,75,90,100}.';
	END IF;

	IF wanted IS NULL AND (organization, coalesce(set_usage_thresholds.metric, '')) <> ('', '') THEN
		DELETE FROM billing.usage_thresholds AS t
		WHERE t.organization_id = organization AND t.metric = coalesce(set_usage_thresholds.metric, '');
	ELSE
		INSERT INTO billing.usage_thresholds (organization_id, metric, thresholds)
		VALUES (organization, coalesce(set_usage_thresholds.metric, ''),
				coalesce((SELECT array_agg(DISTINCT trim_scale(w) ORDER BY trim_scale(w)) FROM unnest(wanted) AS w),
						 CASE WHEN wanted IS NULL THEN '{50,75,90,100}' ELSE '{}' END::numeric[]))
		ON CONFLICT ON CONSTRAINT usage_thresholds_pkey DO UPDATE SET thresholds = excluded.thresholds;
	END IF;
	IF organization <> '' THEN
		PERFORM billing.mark_usage(organization, set_usage_thresholds.metric);
	END IF;
END
$$;
COMMENT ON FUNCTION billing.set_usage_thresholds(numeric[], text, text) IS
	'At which percentages of its limit an alert is raised: for one metric or all (NULL), one organisation or all (NULL); see the table '
	'usage_thresholds for which counts. {}: no alerts. NULL: as the next more general row says, for all as at first (50, 75, 90, 100). '
	'What was raised stays. Of one organisation the worker looks at once, of all with their next usage. Errors: JB005 unknown metric, 22023 thresholds.';
