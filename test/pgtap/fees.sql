-- What providers keep of a payment, a refund, a dispute: told at once, later,
-- otherwise than before, in another currency, or never; and how it is booked.
\ir helpers.psql
\ir stripe_news.psql
CREATE EXTENSION pgcrypto;
SELECT plan(53);

-- "<credit>><debit> <amount> <currency>" of the fees of an organisation, in the order in which they were booked
CREATE FUNCTION fees_booked(organization text) RETURNS text
LANGUAGE sql
RETURN (SELECT string_agg(format('%s>%s %s %s', l.credit, l.debit, l.amount, l.currency), ', ' ORDER BY l.id)
		FROM billing.ledger AS l WHERE l.organization_id = organization AND l.kind = 'fee');

-- ---------------------------------------------------------------------------
-- The sandbox keeps nothing, unless its account says so

SELECT billing.create_customer('free', 'free@example.com', 'Free', 'US', currency => 'USD') AS free \gset
SELECT billing.create_payment_intent(:'free', 5000, 'USD', payment_method => 'pm_card_visa') AS paid \gset
CALL billing.run_worker();
SELECT is((SELECT p.fee_amount IS NULL AND p.fee_currency IS NULL FROM billing.payment_intents AS p WHERE p.id = :'paid'), true, 'a fee that is not told is not known');
SELECT is(fees_booked('free'), NULL, 'and not booked');

SELECT fails($$SELECT billing.configure_provider('sandbox', options => '{"fees": 3}')$$, '22023', 'options cannot be right', NULL, 'fees are an object');
SELECT fails($$SELECT billing.configure_provider('sandbox', options => '{"fees": {"fixed": 1.5}}')$$, '22023', 'options cannot be right', NULL, 'of whole minor units');
SELECT fails($$SELECT billing.configure_provider('sandbox', options => '{"fees": {"basis_points": 10001}}')$$, '22023', 'options cannot be right', NULL, 'of no more than the payment');
SELECT fails($$SELECT billing.configure_provider('sandbox', options => '{"fees": {"currency": "usd"}}')$$, '22023', 'options cannot be right', NULL, 'in a currency');
SELECT fails($$SELECT billing.configure_provider('sandbox', options => '{"fees": {"tip": 1}}')$$, '22023', 'options cannot be right', NULL, 'and of what there is');

SELECT billing.configure_provider('sandbox', options => '{"fees": {"basis_points": 290, "fixed": 30, "dispute": 1500}}');
SELECT billing.create_customer('shop', 'shop@example.com', 'Shop', 'US', currency => 'USD') AS shop \gset
SELECT billing.create_payment_intent(:'shop', 5050, 'USD', payment_method => 'pm_card_visa') AS paid \gset
CALL billing.run_worker();
SELECT is((SELECT p.fee_amount || ' ' || p.fee_currency FROM billing.get_payment_intent(:'paid') AS p), '176 USD', 'a payment shows its fee');
SELECT is(fees_booked('shop'), 'cash>provider_fees 176 USD', 'it leaves the cash at the provider');
SELECT is((SELECT count(DISTINCT l.booked_at) FROM billing.ledger AS l WHERE l.payment_intent_id = :'paid'), 1::bigint, 'at the time of the payment');
SELECT matches((SELECT string_agg(e.detail, ' ') FROM billing.explain(:'paid') AS e), 'fee 176 USD', 'explain() says it');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');

SELECT billing.create_refund(:'paid') AS refund \gset
CALL billing.run_worker();
SELECT is(fees_booked('shop'), 'cash>provider_fees 176 USD', 'giving the payment back gives no fee back');
SELECT is((SELECT r.fee_amount FROM billing.refunds AS r WHERE r.id = :'refund'), NULL::bigint, 'what is not told of the refund is not known');
SELECT billing.create_payment_intent(:'shop', 1000, 'USD', payment_method => 'pm_card_visa') AS paid \gset
CALL billing.run_worker();
SELECT billing.sandbox_dispute(:'paid', 700);
CALL billing.run_worker();
SELECT is((SELECT l.amount || ' ' || (l.payment_intent_id = :'paid') FROM billing.ledger AS l WHERE l.kind = 'fee' AND l.dispute_id IS NOT NULL), '1500 true', 'a dispute has a fee of its own');
SELECT billing.configure_provider('sandbox', options => '{"fees": {"fixed": 30, "refund": -20}}');
SELECT billing.create_payment_intent(:'shop', 1000, 'USD', payment_method => 'pm_card_visa') AS paid \gset
CALL billing.run_worker();
SELECT billing.create_refund(:'paid') AS refund \gset
CALL billing.run_worker();
SELECT is((SELECT l.debit || ' ' || l.amount FROM billing.ledger AS l WHERE l.refund_id = :'refund' AND l.kind = 'fee'), 'cash 20', 'what the provider gives back comes back');
SELECT is((SELECT string_agg(f.object_type || ' ' || f.fee_amount, ', ' ORDER BY f.object_type, f.fee_amount) FROM billing.provider_fees AS f),
	'dispute 1500, payment_intent 30, payment_intent 59, payment_intent 176, refund -20', 'provider_fees lists them');
SELECT is((SELECT sum(r.fees) FROM billing.ledger_revenue AS r), 1745::numeric, 'the months have their sum');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');

-- ---------------------------------------------------------------------------
-- Of an invoice of ours, in another currency

SELECT billing.configure_provider('sandbox', options => '{"fees": {"basis_points": 500, "currency": "MXN"}}');
SELECT billing.create_customer('abroad', 'abroad@example.com', 'Abroad', 'US', currency => 'USD') AS abroad \gset
SELECT billing.attach_payment_method(:'abroad', 'pm_card_visa');
SELECT billing.create_invoice(:'abroad', '[{"description": "a", "amount": 2000}]', 'USD', collection_method => 'charge_automatically') AS invoice \gset
CALL billing.run_worker();
SELECT is((SELECT i.status FROM billing.invoices AS i WHERE i.id = :'invoice'), 'paid', 'an invoice is paid in one currency');
SELECT is(fees_booked('abroad'), 'cash>provider_fees 100 MXN', 'its fee is a movement in another');
SELECT is((SELECT l.invoice_id::text FROM billing.ledger AS l WHERE l.organization_id = 'abroad' AND l.kind = 'fee'), :'invoice', 'and names the invoice');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'each currency is in balance');
SELECT is((SELECT b.balance FROM billing.ledger_balances AS b WHERE b.account = 'cash' AND b.currency = 'MXN'), -100::numeric, 'the cash of that currency is owed');

-- ---------------------------------------------------------------------------
-- Told later, or otherwise than before: by webhooks of Stripe, which in truth names the movement of the balance there by its id alone

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');
SELECT billing.create_customer('acme', 'a@acme.example', provider => 'stripe') AS acme \gset
INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
VALUES ('customer', :'acme', 'stripe', 'default', 'cus_1', false, '2020-01-01');

-- The payment "id" as it is after so many seconds, its charge in this state, with this movement of the balance.
CREATE FUNCTION told(id text, movement jsonb, after integer, state text DEFAULT 'succeeded') RETURNS text
LANGUAGE sql
RETURN tell('payment_intent.succeeded', jsonb_build_object('object', 'payment_intent', 'id', id, 'livemode', false, 'status',
		CASE state WHEN 'succeeded' THEN 'succeeded' ELSE 'processing' END, 'amount', 10000, 'currency', 'usd', 'customer', 'cus_1', 'amount_received', 10000,
		'latest_charge', jsonb_build_object('id', 'ch_' || id, 'object', 'charge', 'amount', 10000, 'captured', true, 'created', 1900000000, 'status', state,
			'balance_transaction', movement)), after);
CREATE FUNCTION fee_of(provider_id text) RETURNS text
LANGUAGE sql
RETURN (SELECT p.fee_amount || ' ' || p.fee_currency FROM billing.payment_intents AS p JOIN billing.provider_refs AS r ON r.object_id = p.id
		WHERE r.object_type = 'payment_intent' AND r.provider_id = fee_of.provider_id);

SELECT is(told('pi_1', '"txn_1"', 10), 'applied', 'a payment comes');
SELECT is(fee_of('pi_1'), NULL, 'an id tells no fee');
SELECT told('pi_1', '{"id": "txn_1", "fee": 320, "currency": "usd"}', 20) AS told \gset
SELECT is(fee_of('pi_1'), '320 USD', 'it is told later');
SELECT is(fees_booked('acme'), 'cash>provider_fees 320 USD', 'and booked then');
SELECT told('pi_1', '{"id": "txn_1", "fee": 320, "currency": "usd"}', 30) AS told \gset
SELECT told('pi_1', '"txn_1"', 35) AS told \gset
SELECT is(fees_booked('acme'), 'cash>provider_fees 320 USD', 'once');
SELECT told('pi_1', '{"id": "txn_1", "fee": 300, "currency": "usd"}', 40) AS told \gset
SELECT is(fees_booked('acme'), 'cash>provider_fees 320 USD, provider_fees>cash 20 USD', 'of another one the difference moves');
SELECT told('pi_1', '{"id": "txn_1", "fee": 900, "currency": "usd"}', 25) AS told \gset
SELECT is(fee_of('pi_1'), '300 USD', 'what is older is not newer');
SELECT told('pi_1', '{"id": "txn_1", "fee": 310, "currency": "usd"}', 40) AS told \gset
SELECT told('pi_1', '{"id": "txn_1", "fee": 305, "currency": "usd"}', 40) AS told \gset
SELECT is(fee_of('pi_1'), '310 USD', 'of two of one second it is the greater, whoever comes first');
SELECT told('pi_1', '{"id": "txn_1", "fee": 5600, "currency": "mxn"}', 50) AS told \gset
SELECT is((SELECT string_agg(f.fee, ', ' ORDER BY f.fee) FROM (SELECT sum(s.amount) || ' ' || s.currency AS fee FROM billing.ledger_sides AS s
	WHERE s.organization_id = 'acme' AND s.account = 'provider_fees' GROUP BY s.currency) AS f), '0 USD, 5600 MXN', 'in another currency the whole of it moves');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT told('pi_1', '{"id": "txn_1", "fee": 1, "currency": "xau"}', 60) AS told \gset
SELECT is(fee_of('pi_1'), '5600 MXN', 'a currency that we do not know says nothing');
SELECT told('pi_1', '{"id": "txn_1", "fee": 0, "currency": "mxn"}', 70) AS told \gset
SELECT is(fee_of('pi_1'), '0 MXN', 'none is a fee, too');

-- An answer with the fee that comes after a webhook with more of the state.
SELECT told('pi_2', '"txn_2"', 20) AS told \gset
SELECT told('pi_2', '{"id": "txn_2", "fee": 44, "currency": "usd"}', 10) AS told \gset
SELECT is(fee_of('pi_2'), '44 USD', 'news that are late tell it all the same');
SELECT told('pi_3', '{"id": "txn_3", "fee": 80, "currency": "usd"}', 10, 'pending') AS told \gset
SELECT is(fee_of('pi_3'), NULL, 'of a charge that is on its way it is none yet');
SELECT told('pi_3', '{"id": "txn_3", "fee": 80, "currency": "usd"}', 20) AS told \gset
SELECT is(fee_of('pi_3'), '80 USD', 'it is when the money is there');

-- A charge tells it by itself, too; a refund and a dispute have theirs.
SELECT told('pi_4', '"txn_4"', 10) AS told \gset
SELECT tell('charge.updated', '{"object": "charge", "id": "ch_pi_4", "payment_intent": "pi_4", "livemode": false, "status": "succeeded", "created": 1900000000, "currency": "usd",
	"balance_transaction": {"id": "txn_4", "fee": 61, "currency": "usd"}}', 30) AS told \gset
SELECT is(fee_of('pi_4'), '61 USD', 'by a charge');
SELECT tell('refund.created', '{"object": "refund", "id": "re_4", "payment_intent": "pi_4", "status": "succeeded", "amount": 500, "currency": "usd",
	"balance_transaction": {"id": "txn_5", "fee": -15, "currency": "usd"}}', 40) AS told \gset
SELECT is((SELECT r.fee_amount FROM billing.refunds AS r WHERE r.organization_id = 'acme'), -15::bigint, 'a refund says what of it comes back');
SELECT tell('charge.dispute.funds_withdrawn', '{"object": "dispute", "id": "du_4", "charge": "ch_pi_4", "status": "needs_response", "amount": 9500, "currency": "usd",
	"balance_transactions": [{"amount": -9500, "fee": 1500, "currency": "usd"}]}', 50) AS told \gset
SELECT tell('charge.dispute.funds_reinstated', '{"object": "dispute", "id": "du_4", "charge": "ch_pi_4", "status": "won", "amount": 9500, "currency": "usd",
	"balance_transactions": [{"amount": -9500, "fee": 1500, "currency": "usd"}, {"amount": 9500, "fee": -1500, "currency": "usd"}]}', 60) AS told \gset
SELECT is((SELECT d.fee_amount FROM billing.disputes AS d WHERE d.organization_id = 'acme'), 0::bigint, 'the movements of a dispute are added up');
SELECT is((SELECT string_agg(l.debit || ' ' || l.amount, ', ' ORDER BY l.id) FROM billing.ledger AS l WHERE l.dispute_id IS NOT NULL AND l.kind = 'fee' AND l.organization_id = 'acme'),
	'provider_fees 1500, cash 1500', 'and booked as they come');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');

-- ---------------------------------------------------------------------------
-- It is checked, and not everybody's business

BEGIN;
ALTER TABLE billing.payment_intents DISABLE TRIGGER ledger_changed_fee;
UPDATE billing.payment_intents SET fee_amount = fee_amount + 1 WHERE organization_id = 'shop';
SELECT is((SELECT string_agg(DISTINCT b.what, ', ' ORDER BY b.what) FROM billing.ledger_imbalance AS b), 'payment: cash, payment: fees', 'a fee that is not booked is seen');
ROLLBACK;
SELECT throws_ok($$UPDATE billing.payment_intents SET fee_currency = NULL WHERE fee_amount IS NOT NULL$$, '23514', NULL, 'a fee has a currency');
SELECT is((SELECT bool_or('fee_amount' = ANY (a.columns)) FROM billing.access_levels AS a WHERE a.level = 'tenant'), false, 'tenants do not see what they cost us');
CREATE ROLE fees_report;
SELECT billing.grant_access('fees_report', 'report');
SET ROLE fees_report;
SELECT isnt_empty('SELECT * FROM billing.provider_fees', 'reports do');
RESET ROLE;

-- ---------------------------------------------------------------------------
-- Absurd amounts

SELECT fails($$SELECT billing.grant_credit('shop', 1000000000000000, 'USD')$$, '22023', 'amount is too large', '15 digits', 'a credit has at most 15 digits');
SELECT fails($$SELECT billing.adjust_balance('shop', -9223372036854775807, 'slip', 'USD')$$, '22023', 'amount is too large', '15 digits', 'a balance, too');
SELECT billing.grant_credit('shop', 999999999999999, 'USD') IS NOT NULL AS granted \gset
INSERT INTO billing.ledger (booked_at, organization_id, customer_id, livemode, kind, debit, credit, amount, currency)
SELECT now(), 'shop', :'shop', false, 'payment', 'cash', 'sales', 9223372036854775807, 'USD' FROM generate_series(1, 2);
SELECT lives_ok($$SELECT count(b.balance), count(b.debited) FROM billing.ledger_balances AS b$$, 'no sum of the ledger is too large for its views');
SELECT lives_ok($$TABLE billing.ledger_imbalance$$, 'nor for the check');
SELECT lives_ok($$TABLE billing.ledger_revenue$$, 'nor for the months');
SELECT * FROM finish();
