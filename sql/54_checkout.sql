-- Checkout sessions, payment links and portal sessions: pages of the provider
-- where the buyer pays or looks after his payment methods.

CREATE TABLE billing.checkout_sessions
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	kind text NOT NULL DEFAULT 'session' CHECK (kind IN ('session', 'link')),
	customer_id uuid REFERENCES billing.customers (id),
	organization_id text,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	mode text NOT NULL CHECK (mode IN ('payment', 'subscription', 'setup')),
	status text NOT NULL DEFAULT 'pending'
		CHECK (status IN ('pending', 'open', 'processing', 'complete', 'expired', 'canceled', 'failed')),
	provider_status text,
	payment_status text CHECK (payment_status IN ('paid', 'unpaid', 'no_payment_required')),
	name text CHECK (name <> ''),
	currency text REFERENCES billing.currencies (code),
	amount_total bigint CHECK (amount_total >= 0),
	line_items jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(line_items) = 'array'),
	max_payments integer CHECK (max_payments > 0),
	url bytea,
	client_secret bytea,
	success_url text,
	cancel_url text,
	payment_intent_id uuid REFERENCES billing.payment_intents (id),
	subscription_id uuid REFERENCES billing.subscriptions (id),
	setup_intent_id uuid,
	invoice_id uuid REFERENCES billing.invoices (id),
	expires_at timestamptz,
	completed_at timestamptz,
	error_code text,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((kind = 'session') = (customer_id IS NOT NULL)),
	CHECK (invoice_id IS NULL OR (kind = 'session' AND mode = 'payment' AND payment_intent_id IS NOT NULL AND expires_at IS NOT NULL)),
	CHECK ((customer_id IS NULL) = (organization_id IS NULL)),
	CHECK ((kind = 'link') = (name IS NOT NULL)),
	CHECK (mode = 'setup' OR (currency IS NOT NULL AND amount_total IS NOT NULL)),
	CHECK (status IN ('pending', 'open', 'processing') OR (url IS NULL AND client_secret IS NULL)),
	CHECK (status <> 'complete' OR completed_at IS NOT NULL)
);
COMMENT ON TABLE billing.checkout_sessions IS
	'Pages of the provider on which a customer pays (kind session), and links that anybody may pay (kind link), as the provider last told them.';
COMMENT ON COLUMN billing.checkout_sessions.status IS
	'pending until the provider has made it. complete: the buyer is through; whether it is paid says payment_status.';
COMMENT ON COLUMN billing.checkout_sessions.provider_status IS 'The provider''s word.';
COMMENT ON COLUMN billing.checkout_sessions.payment_status IS 'unpaid after a complete session: a debit or voucher that takes its time; when it comes to nothing the session is failed.';
COMMENT ON COLUMN billing.checkout_sessions.amount_total IS 'Minor units of the currency, taxes that the call named included.';
COMMENT ON COLUMN billing.checkout_sessions.line_items IS
	'[{price or none, name, description, amount, currency, interval, interval_count, quantity}], amounts in minor units of the currency.';
COMMENT ON COLUMN billing.checkout_sessions.url IS 'Encrypted; shown by client_config() only, gone when the session is over.';
COMMENT ON COLUMN billing.checkout_sessions.client_secret IS 'Encrypted; shown by client_config() only, gone when the session is over.';
COMMENT ON COLUMN billing.checkout_sessions.error_code IS 'Why the provider did not make it.';
COMMENT ON COLUMN billing.checkout_sessions.invoice_id IS
	'The invoice of our own that is paid on it, by what was due when it was made; line_items says how much that was.';
COMMENT ON COLUMN billing.checkout_sessions.expires_at IS 'Of a page of an invoice: until the provider says when it ends itself, when we take it to end.';
CREATE INDEX checkout_sessions_customer ON billing.checkout_sessions (customer_id, created_at) WHERE customer_id IS NOT NULL;
CREATE INDEX checkout_sessions_organization ON billing.checkout_sessions (organization_id, created_at) WHERE organization_id IS NOT NULL;
CREATE INDEX checkout_sessions_subscription ON billing.checkout_sessions (subscription_id) WHERE subscription_id IS NOT NULL;
CREATE INDEX checkout_sessions_invoice ON billing.checkout_sessions (invoice_id) WHERE invoice_id IS NOT NULL;
CREATE INDEX checkout_sessions_links ON billing.checkout_sessions (created_at) WHERE kind = 'link';
CREATE INDEX checkout_sessions_secrets ON billing.checkout_sessions (expires_at) WHERE url IS NOT NULL OR client_secret IS NOT NULL;

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.checkout_sessions
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.expire_checkout_session() or billing.cancel_payment_link().');

CREATE TABLE billing.portal_sessions
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'open', 'expired', 'failed')),
	subscription_id uuid REFERENCES billing.subscriptions (id),
	return_url text,
	locale text,
	url bytea,
	token bytea,
	expires_at timestamptz,
	error_code text,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((status = 'open') = (url IS NOT NULL)),
	CHECK (token IS NULL OR status = 'open'),
	CHECK (status <> 'open' OR expires_at IS NOT NULL)
);
COMMENT ON TABLE billing.portal_sessions IS
	'Pages of the provider on which a customer looks after payment methods and subscriptions. Short-lived: emptied when they expire, removed '
	'after the setting outbox_retention.';
COMMENT ON COLUMN billing.portal_sessions.url IS 'Encrypted; shown by client_config() only.';
COMMENT ON COLUMN billing.portal_sessions.token IS 'Encrypted; shown by client_config() only.';
COMMENT ON COLUMN billing.portal_sessions.expires_at IS 'As the provider says, else an hour after it was made.';
CREATE INDEX portal_sessions_customer ON billing.portal_sessions (customer_id);
CREATE INDEX portal_sessions_expiry ON billing.portal_sessions (expires_at) WHERE status = 'open';
CREATE INDEX portal_sessions_created ON billing.portal_sessions (created_at);

SELECT pg_extension_config_dump('billing.checkout_sessions', '');
SELECT pg_extension_config_dump('billing.portal_sessions', '');

CREATE FUNCTION billing.create_checkout_session(
	customer_id uuid,
	line_items jsonb DEFAULT NULL,
	success_url text DEFAULT NULL,
	cancel_url text DEFAULT NULL,
	mode text DEFAULT NULL,
	plan text DEFAULT NULL,
	price uuid DEFAULT NULL,
	quantity bigint DEFAULT NULL,
	trial_days integer DEFAULT NULL,
	currency text DEFAULT NULL,
	methods text[] DEFAULT NULL,
	installments integer[] DEFAULT NULL,
	coupon text DEFAULT NULL,
	allow_promotion_codes boolean DEFAULT NULL,
	collect_tax_id boolean DEFAULT NULL,
	automatic_tax boolean DEFAULT NULL,
	tax_lines jsonb DEFAULT NULL,
	locale text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	combine boolean DEFAULT false,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_checkout_session';
COMMENT ON FUNCTION billing.create_checkout_session(uuid, jsonb, text, text, text, text, uuid, bigint, integer, text, text[], integer[],
	text, boolean, boolean, boolean, jsonb, text, timestamptz, boolean, jsonb, text, text, text) IS
	'Makes a page of the provider on which the customer pays, and returns its id; client_config() tells its url when await() says open. '
	'line_items: [{price, quantity, description}] or [{name, amount, currency, quantity, description}], amounts in minor units, one currency; '
	'or plan or price with quantity. {CHECKOUT_SESSION_ID} in success_url and cancel_url becomes the id. mode: payment, subscription (one '
	'line has a price with an interval) or setup (no lines: a payment method is kept); default by the lines. methods: card, oxxo, spei, ...; '
	'installments: months offered; tax_lines: [{description, amount}]; combine: all lines as one with the sum, for providers that sell one '
	'thing per checkout. Errors: JB005 unknown customer, plan or price, JB008 the organisation has a live subscription in the group, JB004 not '
	'supported by the provider, 22023 a bad value (line_items: which element), 23502 something is missing, JB007 idempotency key reused, '
	'JB009 a card number.';

CREATE FUNCTION billing.expire_checkout_session(checkout_session_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_expire_checkout_session';
COMMENT ON FUNCTION billing.expire_checkout_session(uuid) IS
	'Closes a checkout session, so that it cannot be paid any more. Of one that is over it is harmless. Errors: JB005 unknown session, JB008 '
	'it is complete or being paid, or it is a payment link, JB004 not supported by the provider.';

CREATE FUNCTION billing.refresh_checkout_session(checkout_session_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_refresh_checkout_session';
COMMENT ON FUNCTION billing.refresh_checkout_session(uuid) IS
	'Asks the provider how a checkout session stands, for when a webhook may have been lost. Errors: JB005 unknown session, JB004 not '
	'supported by the provider.';

CREATE FUNCTION billing.create_payment_link(
	name text,
	line_items jsonb,
	currency text DEFAULT NULL,
	methods text[] DEFAULT NULL,
	installments integer[] DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	success_url text DEFAULT NULL,
	max_payments integer DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT 'default',
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_payment_link';
COMMENT ON FUNCTION billing.create_payment_link(text, jsonb, text, text[], integer[], timestamptz, text, integer, jsonb, text, text, text) IS
	'Makes a link that anybody may pay, and returns its id; client_config() tells its url. line_items, methods, installments: as in '
	'create_checkout_session(). max_payments: how often it may be paid. provider: default as for a new customer. Errors: JB004 not supported '
	'by the provider, JB006 provider not configured, 22023 a bad value (line_items: which element), 23502 something is missing, JB007 '
	'idempotency key reused, JB009 a card number.';

CREATE FUNCTION billing.cancel_payment_link(payment_link_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_cancel_payment_link';
COMMENT ON FUNCTION billing.cancel_payment_link(uuid) IS
	'Closes a payment link. Of one that is over it is harmless. Errors: JB005 unknown link, JB008 it is a checkout session, JB004 not supported '
	'by the provider.';

CREATE FUNCTION billing.create_portal_session(
	customer_id uuid,
	return_url text DEFAULT NULL,
	subscription_id uuid DEFAULT NULL,
	locale text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_create_portal_session';
COMMENT ON FUNCTION billing.create_portal_session(uuid, text, uuid, text, jsonb, text, text, text) IS
	'Makes a page of the provider on which the customer looks after payment methods and subscriptions, and returns its id; client_config() '
	'tells its url when await() says open. subscription_id: what the page is about, where the provider wants to know it; default is the only '
	'live one. Errors: JB005 unknown customer or subscription, JB004 not supported by the provider, 23502 subscription_id is needed, 22023 a '
	'bad url, JB007 idempotency key reused.';
