-- Webhooks in: the one trusted door for what providers say.

CREATE TABLE billing.webhook_events
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	provider text NOT NULL,
	account text NOT NULL,
	event_id text NOT NULL,
	livemode boolean NOT NULL,
	type text NOT NULL,
	provider_time timestamptz,
	state text NOT NULL CHECK (state IN ('received', 'applied', 'ignored', 'waiting', 'failed')),
	reason text,
	attempts integer NOT NULL DEFAULT 0,
	next_attempt_at timestamptz,
	waiting_for text,
	raw_body bytea,
	received_at timestamptz NOT NULL DEFAULT now(),
	handled_at timestamptz,
	applied_at timestamptz,
	CHECK (state <> 'applied' OR applied_at IS NOT NULL),
	UNIQUE (provider, account, event_id)
);
-- What is encrypted cannot be compressed: no time is spent on trying.
ALTER TABLE billing.webhook_events ALTER COLUMN raw_body SET STORAGE EXTERNAL;
COMMENT ON TABLE billing.webhook_events IS
	'The inbox: every webhook with a good signature, once. raw_body is encrypted and removed after the setting raw_body_retention.';
COMMENT ON COLUMN billing.webhook_events.event_id IS
	'The provider''s; of what could not be read its hash, of what nobody signed unsigned:<type>:<our id of its object>, which stands for all of them.';
COMMENT ON COLUMN billing.webhook_events.waiting_for IS 'The provider''s id of an object that we do not know yet.';
COMMENT ON COLUMN billing.webhook_events.reason IS 'Why it is ignored, waiting or failed.';
COMMENT ON COLUMN billing.webhook_events.applied_at IS
	'When it was applied first. A replay writes the states that it tells again, but not what it says once: notices.';
CREATE INDEX webhook_events_due ON billing.webhook_events (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_events_waiting ON billing.webhook_events (waiting_for) WHERE waiting_for IS NOT NULL;
CREATE INDEX webhook_events_received ON billing.webhook_events (received_at) WHERE raw_body IS NOT NULL;

SELECT pg_extension_config_dump('billing.webhook_events', '');

-- What verify_webhook() and handle_webhook() keep of accounts and settings is
-- forgotten by every session when a change is committed, and by the own session
-- at once.  Always: also for rows that come by replication.
CREATE FUNCTION billing.webhook_keys_changed() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_webhook_keys_changed';
COMMENT ON FUNCTION billing.webhook_keys_changed() IS
	'Trigger of provider_accounts and settings: every session forgets what it keeps of them to check webhooks.';
CREATE TRIGGER webhook_keys_changed AFTER INSERT OR UPDATE OR DELETE ON billing.provider_accounts
	FOR EACH ROW EXECUTE FUNCTION billing.webhook_keys_changed();
CREATE TRIGGER webhook_keys_truncated AFTER TRUNCATE ON billing.provider_accounts
	FOR EACH STATEMENT EXECUTE FUNCTION billing.webhook_keys_changed();
CREATE TRIGGER webhook_keys_changed AFTER INSERT OR UPDATE OR DELETE ON billing.settings
	FOR EACH ROW EXECUTE FUNCTION billing.webhook_keys_changed();
CREATE TRIGGER webhook_keys_truncated AFTER TRUNCATE ON billing.settings
	FOR EACH STATEMENT EXECUTE FUNCTION billing.webhook_keys_changed();
ALTER TABLE billing.provider_accounts ENABLE ALWAYS TRIGGER webhook_keys_changed;
ALTER TABLE billing.provider_accounts ENABLE ALWAYS TRIGGER webhook_keys_truncated;
ALTER TABLE billing.settings ENABLE ALWAYS TRIGGER webhook_keys_changed;
ALTER TABLE billing.settings ENABLE ALWAYS TRIGGER webhook_keys_truncated;

-- Not SECURITY DEFINER, which would cost as much as the signature: the right to
-- call it is the gate, and it takes the owner's identity itself when it has to
-- read a table.
CREATE FUNCTION billing.verify_webhook(provider text, payload text, headers jsonb, account text DEFAULT NULL) RETURNS boolean
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'billing_verify_webhook';
COMMENT ON FUNCTION billing.verify_webhook(text, text, jsonb, text) IS
	'Is this the provider''s signature over exactly these bytes, and recent? payload: the raw body. headers: {name: value or [values]}, '
	'names in any case. account: NULL tries every account. False for a wrong, old or missing signature; nothing is stored. Errors: '
	'JB005 unknown provider, JB006 no webhook secret is configured.';

CREATE FUNCTION billing.verify_webhook(provider text, payload bytea, headers jsonb, account text DEFAULT NULL) RETURNS boolean
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'billing_verify_webhook';
COMMENT ON FUNCTION billing.verify_webhook(text, bytea, jsonb, text) IS
	'verify_webhook() for a body as bytes.';

CREATE FUNCTION billing.handle_webhook(provider text, payload text, headers jsonb, account text DEFAULT NULL,
	OUT event_id text, OUT type text, OUT status text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_handle_webhook';
COMMENT ON FUNCTION billing.handle_webhook(text, text, jsonb, text) IS
	'Checks the signature, stores the event and applies it, once. status: applied, ignored, waiting (for an object that is not known '
	'yet), failed (kept with its reason and tried again) or duplicate. Answer the provider 200 for each of them. Errors, to be answered '
	'400: JB001 signature wrong or missing, JB002 signed too long ago or ahead, JB013 body too large; nothing is stored for these. An '
	'account whose options say so takes a webhook without a signature: it makes us ask the provider for its object, and says nothing else.';

CREATE FUNCTION billing.handle_webhook(provider text, payload bytea, headers jsonb, account text DEFAULT NULL,
	OUT event_id text, OUT type text, OUT status text)
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_handle_webhook';
COMMENT ON FUNCTION billing.handle_webhook(text, bytea, jsonb, text) IS 'handle_webhook() for a body as bytes.';

CREATE FUNCTION billing.replay_webhook(event_id text, provider text DEFAULT NULL, account text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_replay_webhook';
COMMENT ON FUNCTION billing.replay_webhook(text, text, text) IS
	'Applies a stored event once more and returns its new state; an event that was applied changes nothing, an older one never undoes '
	'newer state. provider and account: needed only when the id occurs twice. Errors: JB005 unknown event, JB008 its body is no longer kept.';
