-- The outbox: what providers have to hear of, written in the caller's transaction.

CREATE SEQUENCE billing.outbox_seq;
COMMENT ON SEQUENCE billing.outbox_seq IS 'Order of requests; drawn while the row of the ordering key is locked.';

CREATE TABLE billing.outbox
(
	id uuid PRIMARY KEY,
	seq bigint NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	operation text NOT NULL,
	object_type text NOT NULL,
	object_id uuid NOT NULL,
	key_type text NOT NULL CHECK (key_type IN ('customer', 'plan', 'account')),
	ordering_key uuid NOT NULL,
	blocked_by uuid,
	urgent boolean NOT NULL DEFAULT false,
	holds boolean NOT NULL,
	arguments jsonb NOT NULL DEFAULT '{}',
	state text NOT NULL CHECK (state IN ('queued', 'waiting', 'sending', 'unknown', 'dead')),
	step integer NOT NULL DEFAULT 0,
	carry bytea,
	attempts integer NOT NULL DEFAULT 0,
	generation integer NOT NULL DEFAULT 0,
	next_attempt_at timestamptz NOT NULL DEFAULT now(),
	leased_until timestamptz,
	lease_token uuid,
	lookup boolean NOT NULL DEFAULT false,
	request bytea,
	answer bytea,
	first_sent_at timestamptz,
	sent_at timestamptz,
	error_type text,
	error_code text,
	provider_request_id text,
	created_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((state = 'sending') = (lease_token IS NOT NULL)),
	CHECK ((lease_token IS NULL) = (leased_until IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE billing.outbox IS
	'Requests that are not finished. Only the oldest of an ordering key at an account is queued, the others wait; finishing one promotes the next.';
COMMENT ON COLUMN billing.outbox.ordering_key IS 'What is sent to an account one after the other: what is about a customer, about a plan of the catalogue, or about the account itself.';
COMMENT ON COLUMN billing.outbox.blocked_by IS 'A request under another key that has to be done first.';
COMMENT ON COLUMN billing.outbox.urgent IS 'Passes waiting updates of the same key.';
COMMENT ON COLUMN billing.outbox.holds IS 'It makes something: while it is dead, what follows under its key waits.';
COMMENT ON COLUMN billing.outbox.arguments IS 'Ids and terms, never personal data.';
COMMENT ON COLUMN billing.outbox.generation IS 'Part of the key on the wire (id:step:generation): raised when a request is sent anew.';
COMMENT ON COLUMN billing.outbox.lookup IS 'What is in flight asks whether the request went through; it is not the request itself.';
COMMENT ON COLUMN billing.outbox.lease_token IS 'The process that is sending it.';
COMMENT ON COLUMN billing.outbox.request IS 'The request as it goes over the wire, encrypted; written before it is sent.';
COMMENT ON COLUMN billing.outbox.answer IS
	'The provider''s answer, encrypted, when it could not be applied at once because a session held the customer''s row.';
COMMENT ON COLUMN billing.outbox.carry IS 'What the step before left for the next one, encrypted.';
CREATE INDEX outbox_queued ON billing.outbox (provider, account, next_attempt_at, seq) WHERE state IN ('queued', 'unknown');
CREATE INDEX outbox_waiting ON billing.outbox (ordering_key, provider, account, urgent DESC, seq) WHERE state = 'waiting';
CREATE INDEX outbox_holds ON billing.outbox (ordering_key, provider, account) WHERE state IN ('waiting', 'dead') AND holds;
CREATE INDEX outbox_active ON billing.outbox (ordering_key, provider, account) WHERE state <> 'waiting';
CREATE INDEX outbox_leased ON billing.outbox (leased_until) WHERE state = 'sending';
CREATE INDEX outbox_blocked ON billing.outbox (blocked_by) WHERE blocked_by IS NOT NULL;
CREATE INDEX outbox_object ON billing.outbox (object_id, operation, seq);

CREATE TABLE billing.outbox_finished
(
	id uuid PRIMARY KEY,
	seq bigint NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	operation text NOT NULL,
	object_type text NOT NULL,
	object_id uuid NOT NULL,
	ordering_key uuid NOT NULL,
	state text NOT NULL CHECK (state IN ('done', 'canceled')),
	attempts integer NOT NULL,
	generation integer NOT NULL,
	error_type text,
	error_code text,
	provider_request_id text,
	created_at timestamptz NOT NULL,
	sent_at timestamptz,
	finished_at timestamptz NOT NULL
);
COMMENT ON TABLE billing.outbox_finished IS 'Requests that are done or cancelled; kept for the setting outbox_retention.';
COMMENT ON COLUMN billing.outbox_finished.error_code IS
	'Set on a request that was done and declined (a payment was refused), or why it was cancelled.';
CREATE INDEX outbox_finished_object ON billing.outbox_finished (object_id);
CREATE INDEX outbox_finished_at ON billing.outbox_finished (finished_at);

SELECT pg_extension_config_dump('billing.outbox', '');
SELECT pg_extension_config_dump('billing.outbox_finished', '');
SELECT pg_extension_config_dump('billing.outbox_seq', '');

-- One row: where this database's worker is.
CREATE TABLE billing.worker_state
(
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	pid integer,
	lease_token uuid,
	started_at timestamptz,
	last_error text,
	last_error_at timestamptz
) WITH (fillfactor = 20);
COMMENT ON TABLE billing.worker_state IS 'Where the background worker of this database is; see worker_status.';
INSERT INTO billing.worker_state DEFAULT VALUES;

CREATE FUNCTION billing.await(id uuid, timeout interval DEFAULT '10 seconds') RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_await';
COMMENT ON FUNCTION billing.await(uuid, interval) IS
	'Waits until no request about the object (a customer, payment method, subscription, price, ...) is unfinished or the time is over, and '
	'returns the object''s state. Of a subscription or invoice that we bill, also until its number is given and its payment asked for. Errors: JB008 the request belongs to the open transaction (commit first), 25001 in a transaction of '
	'isolation REPEATABLE READ or stricter, JB005 unknown object.';

CREATE FUNCTION billing.retry_request(id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_retry_request';
COMMENT ON FUNCTION billing.retry_request(uuid) IS
	'Sends a dead request again, with its body built anew and a new key on the wire; or one that waits for its next attempt at once. '
	'Errors: JB005 unknown request, JB008 it is done, cancelled or being sent.';

CREATE FUNCTION billing.cancel_request(id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_cancel_request';
COMMENT ON FUNCTION billing.cancel_request(uuid) IS
	'Takes back a request that was never sent, or gives up a dead one that the provider refused. Errors: JB005 unknown request, JB008 it '
	'was sent and its outcome is not known, or it is finished.';

CREATE PROCEDURE billing.run_worker()
LANGUAGE c
AS 'MODULE_PATHNAME', 'billing_run_worker';
COMMENT ON PROCEDURE billing.run_worker() IS
	'Does in this session what the background worker does, until nothing is due: sends requests, applies answers, plays the sandbox. '
	'Commits on its way. Errors: 25001 inside a transaction block.';
