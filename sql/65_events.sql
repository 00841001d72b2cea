-- Events out: what changed, for the application.

CREATE TABLE billing.events
(
	seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	type text NOT NULL,
	object text NOT NULL,
	id uuid NOT NULL,
	organization_id text,
	before_state text,
	after_state text,
	created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE billing.events IS
	'Every change of state, written in the transaction that made it, and what a provider says beside the states (a notice: before_state '
	'and after_state are the same). The worker announces each by NOTIFY billing_events with '
	'{seq, type, object, id, organization_id}. Read it by seq, but note that seq is given before commit: a lower one may appear later.';
CREATE INDEX events_object ON billing.events (id);

-- What the worker has still to announce; the rows of finished announcements are gone.
CREATE TABLE billing.events_unsent
(
	seq bigint PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE billing.events_unsent IS 'Events that were not announced yet.';

CREATE FUNCTION billing.keep_events() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'billing.events is append-only'
		USING ERRCODE = 'JB008', HINT = 'Read from the last seq that you have handled.';
END
$$;
COMMENT ON FUNCTION billing.keep_events() IS 'Trigger of events: rows never change.';
CREATE TRIGGER keep_events BEFORE UPDATE ON billing.events
	FOR EACH ROW EXECUTE FUNCTION billing.keep_events();

SELECT pg_extension_config_dump('billing.events', '');
SELECT pg_extension_config_dump('billing.events_seq_seq', '');
