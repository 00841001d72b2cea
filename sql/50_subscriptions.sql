-- Subscriptions and the invoices that providers send for them.

-- The transitions that domain rules allow, as data: the function that applies
-- what a provider says looks here.
CREATE TABLE billing.subscription_transitions
(
	from_state text NOT NULL,
	to_state text NOT NULL,
	PRIMARY KEY (from_state, to_state)
);
COMMENT ON TABLE billing.subscription_transitions IS
	'Which state of a subscription may follow which, in one step or in several: the news between may come later. canceled and incomplete_expired are final.';
INSERT INTO billing.subscription_transitions (from_state, to_state) VALUES
	('incomplete', 'active'), ('incomplete', 'trialing'), ('incomplete', 'incomplete_expired'), ('incomplete', 'canceled'),
	('incomplete', 'past_due'), ('incomplete', 'unpaid'), ('incomplete', 'paused'),
	('trialing', 'active'), ('trialing', 'past_due'), ('trialing', 'paused'), ('trialing', 'canceled'), ('trialing', 'unpaid'),
	('active', 'past_due'), ('active', 'paused'), ('active', 'canceled'), ('active', 'trialing'), ('active', 'unpaid'),
	('past_due', 'active'), ('past_due', 'unpaid'), ('past_due', 'canceled'), ('past_due', 'paused'), ('past_due', 'trialing'),
	('unpaid', 'active'), ('unpaid', 'trialing'), ('unpaid', 'canceled'), ('unpaid', 'past_due'), ('unpaid', 'paused'),
	('paused', 'active'), ('paused', 'past_due'), ('paused', 'trialing'), ('paused', 'unpaid'), ('paused', 'canceled');

CREATE TABLE billing.subscriptions
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	plan_id uuid NOT NULL REFERENCES billing.plans (id),
	plan_group text NOT NULL,
	price_id uuid NOT NULL REFERENCES billing.prices (id),
	quantity bigint NOT NULL DEFAULT 1 CHECK (quantity >= 0),
	status text NOT NULL DEFAULT 'incomplete'
		CHECK (status IN ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled')),
	managed_by text NOT NULL DEFAULT 'provider' CHECK (managed_by IN ('provider', 'local')),
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	provider_status text,
	status_since timestamptz,
	payment_method_id uuid REFERENCES billing.payment_methods (id),
	trial_start timestamptz,
	trial_end timestamptz,
	current_period_start timestamptz,
	current_period_end timestamptz,
	cancel_at_period_end boolean NOT NULL DEFAULT false,
	cancel_at timestamptz,
	canceled_at timestamptz,
	ended_at timestamptz,
	access_until timestamptz,
	pause_at_period_end boolean NOT NULL DEFAULT false,
	resumes_at timestamptz,
	items_before_pause jsonb CHECK (jsonb_typeof(items_before_pause) = 'object'),
	forgone_lines jsonb CHECK (jsonb_typeof(forgone_lines) = 'array'),
	items_before_change jsonb CHECK (jsonb_typeof(items_before_change) = 'object'),
	pending_price_id uuid REFERENCES billing.prices (id),
	client_secret bytea,
	error_code text,
	currency text REFERENCES billing.currencies (code),
	zone text,
	billing_anchor timestamptz,
	schedule_start timestamptz,
	collection_method text CHECK (collection_method IN ('charge_automatically', 'send_invoice')),
	collect_by text CHECK (collect_by IN ('oxxo', 'spei')),
	days_until_due integer CHECK (days_until_due BETWEEN 0 AND 365),
	trial_end_behavior text CHECK (trial_end_behavior IN ('cancel', 'pause', 'create_invoice')),
	trial_notice_at timestamptz,
	incomplete_until timestamptz,
	usage_from timestamptz,
	next_due_at timestamptz,
	due_failures integer NOT NULL DEFAULT 0 CHECK (due_failures >= 0),
	due_error text,
	conflict boolean NOT NULL DEFAULT false,
	superseded_by uuid,
	provider_created_at timestamptz,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK (current_period_end >= current_period_start),
	CHECK (trial_end >= trial_start),
	CHECK (status <> 'canceled' OR ended_at IS NOT NULL),
	CHECK ((status IN ('past_due', 'unpaid', 'paused')) = (status_since IS NOT NULL)),
	CHECK (managed_by = 'local' OR quantity > 0),
	CHECK (items_before_pause IS NULL OR (managed_by = 'local' AND status IN ('paused', 'unpaid'))),
	CHECK (managed_by = 'local' OR (forgone_lines IS NULL AND items_before_change IS NULL)),
	CHECK (managed_by = 'local' OR next_due_at IS NULL),
	CHECK (managed_by <> 'local' OR (currency IS NOT NULL AND zone IS NOT NULL AND billing_anchor IS NOT NULL AND schedule_start IS NOT NULL
		   AND collection_method IS NOT NULL AND trial_end_behavior IS NOT NULL)),
	CHECK (next_due_at IS NULL OR status NOT IN ('canceled', 'incomplete_expired'))
);
COMMENT ON TABLE billing.subscriptions IS
	'Subscriptions as the provider last told them. status, plan, quantity and periods change when the provider confirms.';
COMMENT ON COLUMN billing.subscriptions.managed_by IS
	'Who bills: the provider, or our engine. Fixed at creation. A free subscription is not known to the provider until it is paid for.';
COMMENT ON COLUMN billing.subscriptions.provider_status IS 'The provider''s word where it differs from ours.';
COMMENT ON COLUMN billing.subscriptions.status_since IS
	'Since when it is past_due, unpaid or paused, by the provider''s time: what a grace is counted from. NULL in every other state.';
COMMENT ON COLUMN billing.subscriptions.access_until IS
	'Of one that had to be canceled at the provider a while before its period ended: it gives access until then.';
COMMENT ON COLUMN billing.subscriptions.pause_at_period_end IS 'It is paused when its period ends.';
COMMENT ON COLUMN billing.subscriptions.resumes_at IS 'When a pause ends by itself; NULL: when it is resumed.';
COMMENT ON COLUMN billing.subscriptions.items_before_pause IS
	'Items that were changed in a pause, or while it was unpaid, as they were before that: what the rest of the period is prorated from when it goes on within it.';
COMMENT ON COLUMN billing.subscriptions.forgone_lines IS
	'Invoice lines of a period that was left without a credit and did not begin before the present one: nothing of them is given back later. NULL: none.';
COMMENT ON COLUMN billing.subscriptions.items_before_change IS
	'Items that were not billed as they were when they changed, and what was given back for them: a change back at the same moment (at, in seconds) bills that again. NULL: none.';
COMMENT ON COLUMN billing.subscriptions.pending_price_id IS 'The price of a change that waits: for the next period, or for its payment.';
COMMENT ON COLUMN billing.subscriptions.client_secret IS 'Encrypted; shown by client_config() only.';
COMMENT ON COLUMN billing.subscriptions.error_code IS
	'Why the provider refused or declined the last request about it; of one that we bill, why its last invoice was not paid.';
COMMENT ON COLUMN billing.subscriptions.currency IS 'Of a local one: of all that is billed for it.';
COMMENT ON COLUMN billing.subscriptions.zone IS 'Of a local one: the time zone whose days and months its periods are in.';
COMMENT ON COLUMN billing.subscriptions.billing_anchor IS
	'Of a local one: what its periods are counted from. Period n lies n intervals after it, never after the last period.';
COMMENT ON COLUMN billing.subscriptions.schedule_start IS
	'Of a local one: where the first period by this anchor begins, which may be a part of one.';
COMMENT ON COLUMN billing.subscriptions.trial_start IS 'When its trial began; of one that is to begin later NULL until then, beside the trial_end that it will have.';
COMMENT ON COLUMN billing.subscriptions.collect_by IS
	'Of a local one: its invoices are paid to a reference that is made for each; NULL: its payment method is charged.';
COMMENT ON COLUMN billing.subscriptions.trial_notice_at IS 'When the end of the trial was announced.';
COMMENT ON COLUMN billing.subscriptions.incomplete_until IS 'Of a local one that waits for its first payment: when it gives up. It moves on while a payment is under way.';
COMMENT ON COLUMN billing.subscriptions.usage_from IS 'Of a local one with metered components: from when on usage is not billed yet.';
COMMENT ON COLUMN billing.subscriptions.next_due_at IS
	'Of a local one: when our engine has to do something next. NULL: nothing, ever, unless somebody acts.';
COMMENT ON COLUMN billing.subscriptions.due_failures IS
	'How many times in a row the engine could not do what was due: next_due_at is when it tries again, later each time.';
COMMENT ON COLUMN billing.subscriptions.due_error IS 'Why, by the SQLSTATE and the message of the last time.';
COMMENT ON COLUMN billing.subscriptions.conflict IS
	'Another one of the group comes first: one that lives before one that waits, the older before the younger. It is counted anew when one '
	'of them begins or ends. Two that live are the provider''s doing: both entitle, a person has to decide.';
COMMENT ON COLUMN billing.subscriptions.superseded_by IS
	'The subscription that was made in its place while this one waited for its first payment; NULL again when this one lives and the other '
	'has ended. No foreign key: a table that refers to itself cannot be restored by data alone.';
COMMENT ON COLUMN billing.subscriptions.provider_created_at IS 'When it was made, by the provider''s clock.';

-- At most one that is live or may become so: the rule holds also when two sessions race.
CREATE UNIQUE INDEX subscriptions_one_live ON billing.subscriptions (organization_id, plan_group)
	WHERE status NOT IN ('canceled', 'incomplete_expired') AND NOT conflict AND superseded_by IS NULL;
CREATE INDEX subscriptions_organization ON billing.subscriptions (organization_id);
CREATE INDEX subscriptions_customer ON billing.subscriptions (customer_id);
CREATE INDEX subscriptions_period_end ON billing.subscriptions (current_period_end)
	WHERE status NOT IN ('canceled', 'incomplete_expired');
CREATE INDEX subscriptions_due ON billing.subscriptions (next_due_at) WHERE next_due_at IS NOT NULL;
CREATE INDEX subscriptions_superseded ON billing.subscriptions (superseded_by) WHERE superseded_by IS NOT NULL;

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.subscriptions
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.cancel_subscription().');

-- What a local subscription is billed for.
CREATE TABLE billing.subscription_items
(
	subscription_id uuid NOT NULL REFERENCES billing.subscriptions (id),
	component text NOT NULL CHECK (component ~ '^[a-z][a-zA-Z0-9_.-]{0,68}$'),
	price_id uuid NOT NULL REFERENCES billing.prices (id),
	quantity bigint NOT NULL DEFAULT 1 CHECK (quantity >= 0),
	billed_once boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (subscription_id, component)
);
COMMENT ON TABLE billing.subscription_items IS
	'What a local subscription is billed for: one price for each component, base among them, whose quantity is that of the subscription.';
COMMENT ON COLUMN billing.subscription_items.quantity IS 'Units of each period; of what is metered it means nothing.';
COMMENT ON COLUMN billing.subscription_items.billed_once IS 'Of a price that is paid once: it has been billed.';
CREATE INDEX subscription_items_price ON billing.subscription_items (price_id);

-- Out of order, the news that it was past due on the 3rd may come after that of
-- the 5th: both are needed to know since when it is.
CREATE TABLE billing.subscription_statuses
(
	subscription_id uuid NOT NULL REFERENCES billing.subscriptions (id),
	as_of timestamptz NOT NULL,
	stage integer NOT NULL,
	status text NOT NULL,
	PRIMARY KEY (subscription_id, as_of, stage)
);
COMMENT ON TABLE billing.subscription_statuses IS
	'What was told of the state of a subscription, and when, in whatever order: as much of it as subscriptions.status_since is found by, '
	'which is the news of the present state and the last of another one.';
COMMENT ON COLUMN billing.subscription_statuses.as_of IS 'The provider''s time of the news.';
COMMENT ON COLUMN billing.subscription_statuses.stage IS 'Which of two states told for one moment comes later.';

CREATE TABLE billing.invoices
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	customer_id uuid NOT NULL REFERENCES billing.customers (id),
	organization_id text NOT NULL,
	subscription_id uuid REFERENCES billing.subscriptions (id),
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	status text NOT NULL CHECK (status IN ('draft', 'open', 'paid', 'void', 'uncollectible')),
	managed_by text NOT NULL DEFAULT 'provider' CHECK (managed_by IN ('provider', 'local')),
	number text,
	provider_number text,
	merchant_of_record text,
	billing_reason text,
	currency text NOT NULL REFERENCES billing.currencies (code),
	subtotal bigint,
	discount bigint,
	total bigint NOT NULL,
	tax bigint,
	provider_tax bigint NOT NULL DEFAULT 0 CHECK (provider_tax >= 0),
	provider_tax_paid bigint NOT NULL DEFAULT 0 CHECK (provider_tax_paid >= 0),
	credit_used bigint,
	balance_used bigint,
	amount_due bigint NOT NULL,
	amount_paid bigint NOT NULL DEFAULT 0,
	amount_credited bigint NOT NULL DEFAULT 0 CHECK (amount_credited >= 0),
	amount_remaining bigint NOT NULL,
	attempt_count integer NOT NULL DEFAULT 0,
	period_start timestamptz,
	period_end timestamptz,
	collection_method text CHECK (collection_method IN ('charge_automatically', 'send_invoice')),
	days_until_due integer CHECK (days_until_due BETWEEN 0 AND 365),
	finalize_at timestamptz,
	due_failures integer NOT NULL DEFAULT 0 CHECK (due_failures >= 0),
	due_error text,
	marked_at timestamptz,
	series_id uuid,
	series_number bigint CHECK (series_number > 0),
	seller jsonb,
	buyer bytea,
	usage jsonb CHECK (jsonb_typeof(usage) = 'object'),
	seller_name text,
	memo text,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
	due_at timestamptz,
	paid_at timestamptz,
	paid_outside text,
	paid_elsewhere bigint NOT NULL DEFAULT 0 CHECK (paid_elsewhere >= 0),
	voided_at timestamptz,
	next_attempt_at timestamptz,
	hosted_url bytea,
	pdf_url bytea,
	error_code text,
	issued_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((number IS NULL) = (series_id IS NULL) AND (number IS NULL) = (series_number IS NULL)),
	CHECK (managed_by <> 'local' OR (subtotal IS NOT NULL AND discount IS NOT NULL AND tax IS NOT NULL AND credit_used IS NOT NULL
		   AND balance_used IS NOT NULL AND collection_method IS NOT NULL AND billing_reason IS NOT NULL)),
	CHECK (managed_by <> 'local' OR status = 'draft' OR number IS NOT NULL OR merchant_of_record IS NOT NULL OR total = 0 OR status = 'void'),
	CHECK (merchant_of_record IS NULL OR (number IS NULL AND amount_credited = 0)),
	CHECK (merchant_of_record IS NOT NULL OR (provider_tax = 0 AND provider_tax_paid = 0)),
	UNIQUE (series_id, series_number)
);
COMMENT ON TABLE billing.invoices IS
	'Invoices: our own (managed_by local), and those of providers as they tell them. Amounts are minor units of the currency.';
COMMENT ON COLUMN billing.invoices.billing_reason IS
	'Why there is one: subscription_create, subscription_cycle, subscription_update, subscription_end, manual; of providers their word.';
COMMENT ON COLUMN billing.invoices.subtotal IS 'Of our own: the sum of the lines before discount and added tax.';
COMMENT ON COLUMN billing.invoices.merchant_of_record IS
	'Of our own: the provider that is the seller of what it collects. Then the row is a statement and no invoice of ours: it has no number, '
	'tax or credit note of ours; provider_number is that of the sale at the provider.';
COMMENT ON COLUMN billing.invoices.provider_tax IS
	'Of a statement: the tax that the seller has added, as the payments tell it. It is in tax, total and amount_due from then on, and nobody''s '
	'money but the seller''s.';
COMMENT ON COLUMN billing.invoices.provider_tax_paid IS 'Of amount_paid: that tax, less what of it was refunded.';
COMMENT ON COLUMN billing.invoices.credit_used IS 'Of our own: what prepaid credits pay of the total.';
COMMENT ON COLUMN billing.invoices.balance_used IS
	'Of our own: what the customer''s balance pays of the rest; below 0 where something is owed from before, or it became balance.';
COMMENT ON COLUMN billing.invoices.amount_credited IS
	'Of our own: what credit notes took off the amount due before it was paid. What is paid, credited and remaining adds up to it, and what was paid back.';
COMMENT ON COLUMN billing.invoices.amount_paid IS
	'What was received for it and is kept: of our own it falls when a refund gives something back, and does not have what was too much.';
COMMENT ON COLUMN billing.invoices.amount_remaining IS 'What is still to be paid; of our own 0 once it is paid, whatever is paid back, and of a void one.';
COMMENT ON COLUMN billing.invoices.period_start IS
	'Of our own: the beginning of the period that it opens. There is one of each reason for a subscription and period.';
COMMENT ON COLUMN billing.invoices.finalize_at IS 'Of our own: until then a draft waits for usage that comes late.';
COMMENT ON COLUMN billing.invoices.due_failures IS 'Of a draft of our own: how often it could not be made final; due_error says why. It is tried again later each time.';
COMMENT ON COLUMN billing.invoices.marked_at IS
	'Of our own: when it was made final. It is a draft still until the worker has given it its number, within a second.';
COMMENT ON COLUMN billing.invoices.usage IS 'Of a draft of our own: the periods whose usage is billed when it is made final.';
COMMENT ON COLUMN billing.invoices.seller_name IS 'Of our own: the seller by name; NULL: the default one when it is numbered.';
COMMENT ON COLUMN billing.invoices.issued_at IS 'Of a draft of our own: the time that it bills at; its date comes with its number.';
COMMENT ON COLUMN billing.invoices.seller IS 'The seller as he was when it was issued.';
COMMENT ON COLUMN billing.invoices.buyer IS 'Encrypted: the customer as he was when it was issued.';
COMMENT ON COLUMN billing.invoices.memo IS 'What is printed below the lines. Free text about a customer, in clear: not for level report.';
COMMENT ON COLUMN billing.invoices.paid_outside IS
	'Of one that was paid by other ways: the notes that mark_invoice_paid() was given, printed on it. Free text, in clear: not for level report.';
COMMENT ON COLUMN billing.invoices.paid_elsewhere IS 'Of our own: how much of amount_paid that was.';
COMMENT ON COLUMN billing.invoices.hosted_url IS 'Encrypted: who has it can see the invoice and pay it; shown by invoice_links().';
COMMENT ON COLUMN billing.invoices.pdf_url IS 'Encrypted, as hosted_url.';
COMMENT ON COLUMN billing.invoices.error_code IS 'Why the provider refused or declined the last request about it.';
CREATE INDEX invoices_customer ON billing.invoices (customer_id, issued_at);
CREATE INDEX invoices_subscription ON billing.invoices (subscription_id) WHERE subscription_id IS NOT NULL;
CREATE UNIQUE INDEX invoices_once ON billing.invoices (subscription_id, period_start, billing_reason)
	WHERE managed_by = 'local' AND status <> 'void' AND billing_reason IN ('subscription_create', 'subscription_cycle', 'subscription_end');
CREATE INDEX invoices_waiting ON billing.invoices (subscription_id)
	WHERE managed_by = 'local' AND status = 'draft' AND marked_at IS NULL AND finalize_at IS NOT NULL;
CREATE INDEX invoices_to_finalize ON billing.invoices (finalize_at) WHERE managed_by = 'local' AND status = 'draft' AND marked_at IS NULL;
CREATE INDEX invoices_to_finalize_by_clock ON billing.invoices (organization_id, finalize_at)
	WHERE managed_by = 'local' AND status = 'draft' AND marked_at IS NULL;
CREATE INDEX invoices_to_number ON billing.invoices (marked_at, issued_at, id) WHERE managed_by = 'local' AND status = 'draft' AND marked_at IS NOT NULL;
CREATE INDEX invoices_to_collect ON billing.invoices (next_attempt_at) WHERE managed_by = 'local' AND status = 'open';

-- A draft of our own that waited for usage and got none is nothing.
CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.invoices
	FOR EACH ROW WHEN (OLD.managed_by <> 'local' OR OLD.status <> 'draft' OR OLD.marked_at IS NOT NULL)
	EXECUTE FUNCTION billing.refuse_delete('Invoices are kept. Use billing.void_invoice().');

SELECT pg_extension_config_dump('billing.subscriptions', '');
SELECT pg_extension_config_dump('billing.subscription_items', '');
SELECT pg_extension_config_dump('billing.subscription_statuses', '');
SELECT pg_extension_config_dump('billing.invoices', '');

CREATE FUNCTION billing.subscribe(
	organization_id text,
	plan text,
	payment_method text DEFAULT NULL,
	trial_days integer DEFAULT NULL,
	quantity bigint DEFAULT 1,
	currency text DEFAULT NULL,
	price uuid DEFAULT NULL,
	amount bigint DEFAULT NULL,
	"interval" text DEFAULT NULL,
	collection_method text DEFAULT NULL,
	days_until_due integer DEFAULT NULL,
	cancel_at timestamptz DEFAULT NULL,
	trial_end_behavior text DEFAULT NULL,
	off_session boolean DEFAULT NULL,
	coupon text DEFAULT NULL,
	automatic_tax boolean DEFAULT NULL,
	billing_anchor timestamptz DEFAULT NULL,
	starts_at timestamptz DEFAULT NULL,
	billing_alignment text DEFAULT NULL,
	collect_by text DEFAULT NULL,
	success_url text DEFAULT NULL,
	cancel_url text DEFAULT NULL,
	managed_by text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	provider text DEFAULT NULL,
	account text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_subscribe';
COMMENT ON FUNCTION billing.subscribe(text, text, text, integer, bigint, text, uuid, bigint, text, text, integer, timestamptz, text,
	boolean, text, boolean, timestamptz, timestamptz, text, text, text, text, text, jsonb, text, text, text) IS
	'Subscribes an organisation to a plan and returns the subscription''s id. payment_method: the provider''s token, attached first, or '
	'the id of an attached one. '
	'trial_days: default the plan''s, once per organisation and plan group. price or amount (minor units per interval and unit): for a '
	'plan with a custom price. trial_end_behavior: cancel (default), pause or create_invoice when the trial ends without a payment '
	'method. collection_method: charge_automatically or send_invoice (with days_until_due, which is for it alone). coupon: the provider''s id of a coupon or '
	'discount; of a subscription that we bill, the code of one of billing.coupons. automatic_tax: the provider computes the tax. billing_anchor: the grid of the periods, a moment after the start on which a whole period begins; of one that we bill the first period is a part, to the next moment of the grid, also where that is before billing_anchor. '
	'billing_alignment, of one that we bill: anniversary (periods count from its start, or the end of its trial) or calendar (from the beginning of the day, week, month, quarter '
	'or year), default the setting; not beside billing_anchor. starts_at, of one that we bill: it begins then, at the prices of today; trial, periods and coupon count from there. Until then '
	'it is incomplete, gives no access, bills nothing and holds the place of its plan group; its start is a row of list_scheduled_changes(), and taking that back, or cancel_subscription(), ends it. '
	'Then it is what a subscription of that moment is, and its first invoice is charged without the customer. collect_by, of one that we bill: oxxo or spei, as collect_by() takes it; its first invoice is paid to a reference already. success_url (and '
	'cancel_url): where the provider sells by checkout only, the subscription is made in a checkout whose url client_config() tells. managed_by: provider or local (this database bills: the subscription is trialing, '
	'active, or incomplete for 23 hours until its first invoice is paid, when the call returns; quantity counts seats where the plan has them; success_url, '
	'cancel_url and automatic_tax are refused, off_session says nothing: the first payment is one with the customer present). Default: stripe and polar provider; conekta provider for '
	'one amount by card without coupon, tax or quantity, else local; sandbox local, or as the provider that it behaves as; local wherever usage, tiers or several components are billed. Else a new subscription is incomplete until the '
	'provider confirms; a free one is active at once. Errors: JB005 no customer, unknown plan or token, JB008 the organisation has a '
	'live subscription in the group, or one that is to begin, JB004 not supported by the provider, 22023 bad value, starts_at in the past, JB007 idempotency key reused.';

CREATE FUNCTION billing.update_subscription(
	subscription_id uuid,
	plan text DEFAULT NULL,
	quantity bigint DEFAULT NULL,
	proration_behavior text DEFAULT 'create_prorations',
	price uuid DEFAULT NULL,
	amount bigint DEFAULT NULL,
	payment_method text DEFAULT NULL,
	proration_date timestamptz DEFAULT NULL,
	trial_end timestamptz DEFAULT NULL,
	cancel_at timestamptz DEFAULT NULL,
	effective text DEFAULT 'now',
	coupon text DEFAULT NULL,
	items jsonb DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_update_subscription';
COMMENT ON FUNCTION billing.update_subscription(uuid, text, bigint, text, uuid, bigint, text, timestamptz, timestamptz, timestamptz,
	text, text, jsonb) IS
	'Changes plan, price, quantity, payment method (as in subscribe()), coupon, end of trial or end. Where the provider bills, it is asked, '
	'and the row changes when it confirms. A local subscription changes at once: what was billed for the rest of the period is given back '
	'as it was billed (no more than was paid), the rest is billed anew by second or by day (setting proration_unit). proration_behavior: '
	'create_prorations (lines for the next invoice), always_invoice (an invoice now), none. Another interval, or the first price above 0, '
	'ends the period and begins one with a new anchor. In a trial nothing is prorated, '
	'in a pause, and while it is unpaid, the time from its end on, if that comes within the period (lines for the next invoice then). effective: now, or period_end, of a local one a row '
	'of list_scheduled_changes(), which a later change of plan takes the place of. items, of local ones: quantity and price by component, '
	'{"seats": 7}, {"support": {"price": "...", "quantity": 1}}, {"calls": {}} adds what the plan sells, null removes one, 0 keeps it without units. '
	'quantity is that of the component seats, else of base, which items does not name, too; not named it stays, and is 1 where a plan with seats is left for one without. '
	'proration_date: what preview_update() told, so that exactly those lines are billed. Errors: JB005 unknown subscription, plan, price or '
	'component, JB008 it has ended (subscribe again), is incomplete, has no trial, or the group of the plan has another subscription, '
	'JB004 not supported by the provider, 22003 a quantity that no amount can be made of, 22023 nothing to change, a bad value, another currency or interval, '
	'period_end with always_invoice or proration_date.';

CREATE FUNCTION billing.cancel_subscription(
	subscription_id uuid,
	at_period_end boolean DEFAULT true,
	prorate boolean DEFAULT NULL,
	invoice_now boolean DEFAULT NULL,
	reason text DEFAULT NULL,
	comment text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_cancel_subscription';
COMMENT ON FUNCTION billing.cancel_subscription(uuid, boolean, boolean, boolean, text, text) IS
	'Cancels at the end of the period (of the trial while trialing), or now. From past_due, unpaid, paused and incomplete it always '
	'ends at once. Where the provider cannot wait for the period''s end, we do: it is canceled there the setting cancel_margin ahead, and '
	'gives access until the end. A local one has a row of list_scheduled_changes() until then. prorate, invoice_now: only with '
	'at_period_end => false (22023 else); of a local one prorate => true gives back what was billed for the time that is left, as '
	'balance where it is more than is due, and invoice_now => false leaves out the usage since the last invoice; what waits for the next '
	'invoice is on the last one. Cancelling what is cancelled is harmless. reason: '
	'too_expensive, missing_features, switched_service, unused, customer_service, too_complex, low_quality or other, as providers know '
	'them, or any text. Errors: JB005 unknown subscription, JB009 a card number in reason or comment.';

CREATE FUNCTION billing.resume_subscription(subscription_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_resume_subscription';
COMMENT ON FUNCTION billing.resume_subscription(uuid) IS
	'Takes back a cancellation or a pause that is planned, or lets a paused subscription run again: a local one goes on in the period that was billed; '
	'after its end a new period with a new anchor begins. Errors: JB005 unknown subscription, JB008 '
	'it has ended (subscribe again) or there is nothing to resume.';

CREATE FUNCTION billing.pause_subscription(
	subscription_id uuid,
	at_period_end boolean DEFAULT false,
	resumes_at timestamptz DEFAULT NULL,
	behavior text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_pause_subscription';
COMMENT ON FUNCTION billing.pause_subscription(uuid, boolean, timestamptz, text) IS
	'Pauses a subscription, at once or at the end of its period, as the provider can; resume_subscription() ends the pause, or resumes_at does. '
	'A local one is not billed while it is paused; when it pauses at the period''s end and when it resumes are rows of '
	'list_scheduled_changes(). behavior: void, keep_as_draft or mark_uncollectible, what becomes of invoices meanwhile where the provider asks '
	'(of a local one only void: there are none). '
	'Errors: JB005 unknown subscription, JB008 it is not active, trialing or past due, JB004 it cannot be paused so, 22023 '
	'resumes_at is past.';

CREATE FUNCTION billing.retry_payment(subscription_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_retry_payment';
COMMENT ON FUNCTION billing.retry_payment(uuid) IS
	'Tries the failed payment of a subscription that is past due, unpaid or incomplete again, with its payment method or the customer''s '
	'default. Errors: JB005 unknown subscription, JB008 nothing of it is unpaid, JB004 not supported by the provider.';
