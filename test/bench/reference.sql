-- The reference of create_customer(): one call of PL/pgSQL that inserts the
-- same rows into copies of the same tables with the same indexes. It checks,
-- encrypts and orders nothing; the sealed values are bytes of the same length.
CREATE SCHEMA reference;
CREATE TABLE reference.customers (LIKE billing.customers INCLUDING ALL);
CREATE TABLE reference.events (LIKE billing.events INCLUDING ALL);
CREATE TABLE reference.events_unsent (LIKE billing.events_unsent INCLUDING ALL);
CREATE TABLE reference.outbox (LIKE billing.outbox INCLUDING ALL);
CREATE SEQUENCE reference.outbox_seq;

CREATE FUNCTION reference.create_customer(organization_id text, email text, name text, country text, provider text) RETURNS uuid
LANGUAGE plpgsql
AS $$
DECLARE
	id uuid := billing.new_id();
	event bigint;
BEGIN
	INSERT INTO reference.customers (id, organization_id, provider, account, livemode, email, email_hash, name, country)
	VALUES (id, organization_id, provider, 'default', false, convert_to(rpad(email, length(email) + 33), 'UTF8'),
			convert_to(rpad(email, 32), 'UTF8'), convert_to(rpad(name, length(name) + 33), 'UTF8'), country);
	INSERT INTO reference.events (type, object, id, organization_id, after_state)
	VALUES ('customer.created', 'customer', id, organization_id, 'active') RETURNING seq INTO event;
	INSERT INTO reference.events_unsent (seq) VALUES (event);
	INSERT INTO reference.outbox (id, seq, provider, account, livemode, operation, object_type, object_id, key_type,
								  ordering_key, holds, state)
	VALUES (billing.new_id(), nextval('reference.outbox_seq'), provider, 'default', false, 'customer.create', 'customer', id,
			'customer', id, true, 'queued');
	RETURN id;
END
$$;
