-- What a duty of the worker could not do, and when it is tried again: until
-- then it is left out where the duty looks for what is due, so that the others
-- have their turn however many of these there are.

CREATE TABLE billing.postponed_work
(
	object_id uuid PRIMARY KEY,
	object_type text NOT NULL,
	organization_id text,
	what text NOT NULL,
	failures integer NOT NULL CHECK (failures >= 0),
	error text,
	since timestamptz NOT NULL DEFAULT clock_timestamp(),
	retry_at timestamptz NOT NULL,
	CHECK ((failures = 0) = (error IS NULL))
);
COMMENT ON TABLE billing.postponed_work IS
	'What the worker could not do: it is tried again later each time, and stands in billing.attention. A row goes when it is done.';
COMMENT ON COLUMN billing.postponed_work.what IS 'What could not be done, as billing.attention says it.';
COMMENT ON COLUMN billing.postponed_work.failures IS '0: it was kept from it for a moment, such as by a session that holds a row.';
COMMENT ON COLUMN billing.postponed_work.error IS 'The SQLSTATE of the last time and what it means; the message is in the server''s log.';
COMMENT ON COLUMN billing.postponed_work.retry_at IS 'By the server''s clock.';
CREATE INDEX postponed_work_retry ON billing.postponed_work (retry_at);

SELECT pg_extension_config_dump('billing.postponed_work', '');
