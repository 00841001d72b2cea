-- What will be done to subscriptions: to local ones all that has a date, to those
-- of providers what we do in the provider's stead (ending one with its period
-- where the provider can only end it at once).

CREATE TABLE billing.scheduled_changes
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	subscription_id uuid NOT NULL REFERENCES billing.subscriptions (id),
	organization_id text NOT NULL,
	kind text NOT NULL CHECK (kind IN ('start', 'cancel', 'pause', 'resume', 'change')),
	state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'canceled', 'failed')),
	due_at timestamptz NOT NULL,
	effective_at timestamptz NOT NULL,
	terms jsonb CHECK (jsonb_typeof(terms) = 'object'),
	reason text,
	comment bytea,
	error_code text,
	created_at timestamptz NOT NULL DEFAULT now(),
	finished_at timestamptz,
	CHECK (due_at <= effective_at),
	CHECK ((kind = 'change') = (terms IS NOT NULL)),
	CHECK ((state = 'pending') = (finished_at IS NULL))
);
COMMENT ON TABLE billing.scheduled_changes IS
	'Changes of subscriptions that we carry out when they are due: of local ones all, of others what the provider does not.';
COMMENT ON COLUMN billing.scheduled_changes.due_at IS
	'When it is done. Where the provider has to hear of it: the setting cancel_margin before effective_at, so that it does not renew.';
COMMENT ON COLUMN billing.scheduled_changes.effective_at IS 'When it counts: of a cancellation, access stays until then.';
COMMENT ON COLUMN billing.scheduled_changes.terms IS
	'Of kind change: prices and quantities by component, as far as they will differ (a price of null: the component goes), and the plan.';
COMMENT ON COLUMN billing.scheduled_changes.comment IS 'Encrypted: what somebody wrote about the cancellation.';
CREATE UNIQUE INDEX scheduled_changes_one_pending ON billing.scheduled_changes (subscription_id, kind) WHERE state = 'pending';
CREATE INDEX scheduled_changes_starts ON billing.scheduled_changes (subscription_id) WHERE kind = 'start';
CREATE INDEX scheduled_changes_due ON billing.scheduled_changes (due_at) WHERE state = 'pending';

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.scheduled_changes
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.cancel_scheduled_change().');

SELECT pg_extension_config_dump('billing.scheduled_changes', '');

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('cancel_margin', '24 hours', 'interval',
	 'how long before the end of its period a subscription is cancelled where the provider can only cancel at once', true);

CREATE VIEW billing.scheduled_change_details WITH (security_invoker = true) AS
	SELECT c.id, c.subscription_id, c.organization_id, c.kind, c.state, c.due_at, c.effective_at, c.reason, c.error_code,
		   c.created_at, c.finished_at, c.terms
	FROM billing.scheduled_changes AS c;
COMMENT ON VIEW billing.scheduled_change_details IS 'Scheduled changes, without what somebody wrote about them.';

CREATE FUNCTION billing.list_scheduled_changes(organization_id text) RETURNS SETOF billing.scheduled_change_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 2
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.scheduled_change_details AS d
	WHERE d.organization_id = list_scheduled_changes.organization_id
	ORDER BY d.due_at, d.id;
END;
COMMENT ON FUNCTION billing.list_scheduled_changes(text) IS
	'What is planned for the subscriptions of an organisation, and was: all of local ones, of others what the provider cannot wait for by itself; by time.';

CREATE FUNCTION billing.cancel_scheduled_change(id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_cancel_scheduled_change';
COMMENT ON FUNCTION billing.cancel_scheduled_change(uuid) IS
	'Takes a scheduled change back: the subscription goes on as it is; one whose start is taken back ends, without an invoice. Errors: JB005 unknown change, JB008 it is done or cancelled.';
