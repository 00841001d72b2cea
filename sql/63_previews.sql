-- What would be billed: runs of the engine that are not written.

CREATE TYPE billing.preview_line AS (
	invoice integer,
	subscription_id uuid,
	reason text,
	made_at timestamptz,
	"position" integer,
	kind text,
	component text,
	description text,
	quantity numeric,
	unit_amount numeric,
	amount bigint,
	discount bigint,
	tax bigint,
	currency text,
	period_start timestamptz,
	period_end timestamptz,
	total bigint,
	amount_due bigint,
	proration_date timestamptz);
COMMENT ON TYPE billing.preview_line IS
	'A line that would be billed. invoice: 1 for the first that would come, NULL for a line that waits for the next one, or is on the draft that is; made_at: when, by the '
	'organisation''s clock; total and amount_due are of the invoice (total of lines that wait: what they come to together), all amounts in minor units; proration_date: of preview_update().';

CREATE FUNCTION billing.preview_update(
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
RETURNS SETOF billing.preview_line
LANGUAGE c STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_preview_update';
COMMENT ON FUNCTION billing.preview_update(uuid, text, bigint, text, uuid, bigint, text, timestamptz, timestamptz, timestamptz, text, text,
	jsonb) IS
	'The lines that update_subscription() with these arguments would bill for a local subscription; with the proration_date that is '
	'returned it bills exactly these. effective => period_end, and trial_end: those of the invoice that comes then, with what is used so far. Nothing is changed '
	'or locked: no price is made for amount, no coupon is redeemed, and payment_method counts as one that is attached. Lines that wait have the discount and tax that the '
	'next invoice will give them, and in total what they come to with both: what the change costs; NULL where something that is planned changes them before. '
	'Lines of 0 are told as they are printed. One that waited already, or is on a draft that waits for late usage, and is cut by the change is told by what it loses. '
	'Errors: as update_subscription(); JB005 it is no local subscription.';

CREATE FUNCTION billing.preview_invoice(subscription_id uuid DEFAULT NULL, organization_id text DEFAULT NULL)
RETURNS SETOF billing.preview_line
LANGUAGE c STABLE SECURITY DEFINER ROWS 10
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_preview_invoice';
COMMENT ON FUNCTION billing.preview_invoice(uuid, text) IS
	'The lines of the next invoice of a local subscription, or of each one of an organisation, as they will be billed if nothing changes: '
	'usage so far, what waits, discount, tax and credit included. Within usage_grace that is the draft that waits for late usage, also of a subscription that has ended; '
	'what comes after it is told by billing.simulate(). Errors: JB005 it is no local subscription, or an unknown organisation, 23502 neither or both are given.';

CREATE FUNCTION billing.simulate(organization_id text, until timestamptz)
RETURNS SETOF billing.preview_line
LANGUAGE c STABLE SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_simulate';
COMMENT ON FUNCTION billing.simulate(text, timestamptz) IS
	'The lines of all invoices that would come for the local subscriptions of an organisation until then, if everything is paid and '
	'nothing is used or changed beside what is planned. A draft that waits for late usage is the first of them, with the usage so far. Nothing is written. Errors: 23502, JB005 unknown organisation, 22023 until is past or infinite.';

