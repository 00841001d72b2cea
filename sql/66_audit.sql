-- Who or what changed which object. 96_audit_triggers.sql has the tables that
-- are audited, src/audit.c what writes here.

-- Only the trigger writes it, and what may stand in action and cause is decided
-- there: a CHECK of the table would be parsed anew for every row that is written,
-- which takes longer than writing it.
CREATE TABLE billing.audit_log
(
	seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT now(),
	object text NOT NULL,
	object_id uuid,
	object_key text,
	organization_id text,
	livemode boolean,
	action text NOT NULL,
	before jsonb,
	after jsonb,
	cause text NOT NULL,
	cause_id text,
	sql_user text NOT NULL,
	sql_role text
);
COMMENT ON TABLE billing.audit_log IS
	'Every change of an object, written in the transaction that made it; nobody changes a row, and only the setting audit_retention '
	'removes any. The history of an object: WHERE object_id = ... ORDER BY seq; what an event or a request did: WHERE cause_id = ...';
COMMENT ON COLUMN billing.audit_log.at IS 'When the transaction began.';
COMMENT ON COLUMN billing.audit_log.object IS 'What it is, as in events: subscription, payment_intent, plan, setting, ...';
COMMENT ON COLUMN billing.audit_log.object_id IS 'Its uuid; of a feature of a plan the plan''s. NULL where the object has only a name.';
COMMENT ON COLUMN billing.audit_log.object_key IS
	'Its name where it has one, several columns joined by a slash: default_currency, stripe/default.';
COMMENT ON COLUMN billing.audit_log.action IS 'insert, update or delete.';
COMMENT ON COLUMN billing.audit_log.before IS
	'Of an update the columns that changed, of a delete all that were not null. "sealed" stands for an encrypted value, "withheld" for '
	'what somebody wrote or what a document holds: the log says that it changed. Times are UTC.';
COMMENT ON COLUMN billing.audit_log.after IS 'As before; of an insert all columns that are not null.';
COMMENT ON COLUMN billing.audit_log.cause IS
	'call: a statement of the SQL user; webhook: an event of the provider; request: a request to the provider, or its answer; worker: a '
	'duty of the worker.';
COMMENT ON COLUMN billing.audit_log.cause_id IS
	'webhook: webhook_events.event_id; request: id in outbox or outbox_finished; worker: id of the scheduled change, if it was one.';
COMMENT ON COLUMN billing.audit_log.sql_user IS 'Who was logged in (session_user); the worker is janua_billing.';
COMMENT ON COLUMN billing.audit_log.sql_role IS 'The role that SET ROLE had chosen, if it was another one.';
CREATE INDEX audit_log_object ON billing.audit_log (object_id, seq) WHERE object_id IS NOT NULL;
CREATE INDEX audit_log_key ON billing.audit_log (object_key, seq) WHERE object_key IS NOT NULL;
CREATE INDEX audit_log_cause ON billing.audit_log (cause_id) WHERE cause_id IS NOT NULL;

CREATE FUNCTION billing.keep_audit_log() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_keep_audit_log';
COMMENT ON FUNCTION billing.keep_audit_log() IS
	'Trigger of audit_log: rows never change, and go only when they are older than the setting audit_retention.';
CREATE TRIGGER keep_audit_log BEFORE UPDATE OR DELETE ON billing.audit_log
	FOR EACH ROW EXECUTE FUNCTION billing.keep_audit_log();
CREATE TRIGGER keep_whole_audit_log BEFORE TRUNCATE ON billing.audit_log
	FOR EACH STATEMENT EXECUTE FUNCTION billing.keep_audit_log();

CREATE FUNCTION billing.audit_row() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_audit_row';
COMMENT ON FUNCTION billing.audit_row() IS
	'Trigger of the tables that are audited. Arguments: what a row is; the column with its uuid, or nothing; the columns that name it, with '
	'commas, or nothing; then columns that are withheld, and with a minus sign those that are left out.';

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('audit_retention', NULL, 'interval',
	 'how long rows of audit_log are kept, 30 days at least; NULL: for ever', true);
-- whoever may change settings cannot take away the traces of what he has just done
ALTER TABLE billing.settings ADD CONSTRAINT settings_audit_retention
	CHECK (name <> 'audit_retention' OR value IS NULL OR value::interval >= interval '30 days');

SELECT pg_extension_config_dump('billing.audit_log', '');
SELECT pg_extension_config_dump('billing.audit_log_seq_seq', '');
