-- What was paid back of an invoice is not given back once more as credit of unused time, in whatever order: refunds asked for here or made at the
-- provider, and disputes. Each story has a customer of its own; numbers are computed by hand.
\ir helpers.psql
\ir given_back_helpers.psql
CREATE EXTENSION pgcrypto;
SELECT no_plan();

SELECT billing.configure_provider('sandbox');
SELECT billing.set_tax_rate('DE', 20, 'VAT', valid_from => '2020-01-01') IS NOT NULL AS taxed \gset
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('team', 'Team', 1000, 'USD') AS p3 \gset
SELECT billing.create_price('team', 2000, 'USD', component => 'seats') AS seats \gset

-- An organisation with a local subscription from April 1st on, whose card has paid the first invoice.
CREATE PROCEDURE begin_at(organization text, plan text DEFAULT 'small', country text DEFAULT 'US')
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.attach_payment_method(billing.create_customer(organization, organization || '@back.example', country => country, currency => 'USD'), 'pm_card_visa', set_default => true);
	COMMIT;
	CALL billing.run_worker();
	CALL billing.set_clock(organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, plan, managed_by => 'local');
	COMMIT;
	CALL billing.run_worker();
END
$$;
CREATE PROCEDURE mid_april(organization text)
LANGUAGE plpgsql AS $$ BEGIN CALL billing.set_clock(organization, '2027-04-16 00:00+00'); END $$;
CREATE FUNCTION payment_of(organization text) RETURNS uuid
LANGUAGE sql
RETURN (SELECT p.id FROM billing.payment_intents AS p WHERE p.organization_id = organization ORDER BY p.id LIMIT 1);
CREATE FUNCTION ends(organization text) RETURNS boolean
LANGUAGE sql
RETURN billing.cancel_subscription(subscription_of(organization), at_period_end => false, prorate => true) IS NULL;

-- ---------------------------------------------------------------------------
-- 30.00 for April, paid by card; refunded, and on the 16th half of it is left

CALL begin_at('whole');
SELECT billing.create_refund(payment_of('whole')) IS NOT NULL AS refunded \gset
CALL billing.run_worker();
CALL mid_april('whole');
SELECT ends('whole') AS ended \gset
CALL billing.run_worker();
SELECT is((SELECT total FROM billing.invoices WHERE id = invoice_of('whole', 2)) || ', ' || balance('whole'), '0, 0', 'all of it went back, nothing is given again');
SELECT agrees('refunded as a whole');

CALL begin_at('part');
SELECT billing.create_refund(payment_of('part'), 2000) IS NOT NULL AS refunded \gset
CALL billing.run_worker();
CALL mid_april('part');
SELECT results_eq(format($$SELECT kind, amount FROM billing.preview_update(%L, plan => 'large')$$, subscription_of('part')), $$VALUES ('proration_credit', -1000::bigint), ('proration_debit', 3000)$$, 'a preview tells it');
SELECT change('part', 'large') AS changed \gset
SELECT is(waits('part'), 'proration_credit -1000 0, proration_debit 3000 0', 'of 15.00 the 10.00 that were kept');
SELECT fails(format('SELECT billing.create_refund(%L, 1)', payment_of('part')), 'JB008', 'nothing is left to refund', 'changes and credit notes', 'which are not refunded besides');
SELECT change('part', 'small') AS back \gset
SELECT is(waits('part'), NULL, 'back in the same instant nets to nothing');
SELECT change('part', 'large') AS changed \gset
SELECT is(waits('part'), 'proration_credit -1000 0, proration_debit 3000 0', 'and again it is the same');
SELECT agrees('refunded in part');

CALL begin_at('tax', country => 'DE');
SELECT billing.create_refund(payment_of('tax'), 2400) IS NOT NULL AS refunded \gset
CALL billing.run_worker();
CALL mid_april('tax');
SELECT change('tax', 'large') AS changed \gset
SELECT is(waits('tax'), 'proration_credit -1000 -200, proration_debit 3000 0', 'with its tax: of 36.00 are 12.00 left, which is less than 18.00');

-- what a refund took is of the invoice, not of a line: 30.00 less 17.00 are left for 5.00 and 10.00
CALL begin_at('team', 'team');
SELECT billing.create_refund(payment_of('team'), 1700) IS NOT NULL AS refunded \gset
CALL billing.run_worker();
CALL mid_april('team');
SELECT ends('team') AS ended \gset
CALL billing.run_worker();
SELECT is(balance('team'), 1300::bigint, 'two lines share what is left');
SELECT agrees('two lines');

-- ---------------------------------------------------------------------------
-- A refund that is on its way reserves its amount, and releases it

CALL begin_at('pending');
CALL mid_april('pending');
-- in one transaction, so that it is not sent meanwhile
BEGIN;
SELECT billing.create_refund(payment_of('pending')) AS refund \gset
SELECT change('pending', 'large') AS changed \gset
SELECT is(waits('pending'), 'proration_credit 0 0, proration_debit 3000 0', 'it is as good as gone');
SELECT billing.cancel_refund(:'refund') AS canceled \gset
COMMIT;
SELECT is((SELECT status FROM billing.refunds WHERE id = :'refund') || ': ' || notes('pending'), 'canceled: 1500 0 1500', 'canceled, a credit note gives what the credit could not');
SELECT fails(format('SELECT billing.create_refund(%L, 1501)', payment_of('pending')), '22023', 'left of the payment', 'changes and credit notes', 'then the other half is left');
SELECT agrees('pending');

-- ---------------------------------------------------------------------------
-- The other order: what was given back as credit is not refunded besides

CALL begin_at('after');
CALL mid_april('after');
SELECT ends('after') AS ended \gset
SELECT fails(format('SELECT billing.create_refund(%L, 3000)', payment_of('after')), '22023', 'left of the payment', 'changes and credit notes', 'of 30.00 of which 15.00 are in the balance');
SELECT fails(format('SELECT billing.create_refund(%L, 1501)', payment_of('after')), '22023', 'left of the payment', NULL, 'the rest is 15.00');
SELECT billing.create_refund(payment_of('after')) AS refund \gset
CALL billing.run_worker();
SELECT is((SELECT amount FROM billing.refunds WHERE id = :'refund') || ' ' || balance('after'), '1500 1500', 'all that is left');
SELECT fails(format('SELECT billing.create_refund(%L)', payment_of('after')), 'JB008', 'nothing is left', 'changes and credit notes', 'once');
SELECT agrees('refunded after');

-- what waits counts as given, until it is taken back
CALL begin_at('waits');
CALL mid_april('waits');
SELECT change('waits', 'large') AS changed \gset
SELECT fails(format('SELECT billing.create_refund(%L, 1501)', payment_of('waits')), '22023', 'left of the payment', NULL, 'a credit that waits for the next invoice');
SELECT change('waits', 'small') AS back \gset
SELECT billing.create_refund(payment_of('waits'), 3000) IS NOT NULL AS refunded \gset
SELECT is((SELECT amount FROM billing.refunds WHERE organization_id = 'waits'), 3000::bigint, 'undone, all of it can be refunded');

-- a credit note by hand beside a refund and a credit: never more than was paid
CALL begin_at('note');
CALL mid_april('note');
SELECT ends('note') AS ended, billing.create_refund(payment_of('note'), 1000) IS NOT NULL AS refunded \gset
CALL billing.run_worker();
SELECT fails(format('SELECT billing.create_credit_note(%L, amount => 501)', invoice_of('note')), '22023', 'above what was paid', NULL, '30.00 less 15.00 and 10.00');
SELECT billing.create_credit_note(invoice_of('note'), amount => 500) IS NOT NULL AS noted \gset
SELECT is(balance('note'), 2000::bigint, 'the last 5.00');
SELECT agrees('credit note');

-- ---------------------------------------------------------------------------
-- Disputes: as long as the bank has the money

CALL begin_at('lost');
SELECT billing.sandbox_dispute(payment_of('lost'));
CALL billing.run_worker();
SELECT billing.sandbox_resolve_dispute((SELECT id FROM billing.disputes WHERE organization_id = 'lost'), 'lost');
CALL billing.run_worker();
CALL mid_april('lost');
SELECT ends('lost') AS ended \gset
CALL billing.run_worker();
SELECT is(balance('lost'), 0::bigint, 'what a bank has taken back is not given back');
SELECT agrees('lost');

CALL begin_at('won');
CALL mid_april('won');
SELECT billing.sandbox_dispute(payment_of('won'));
CALL billing.run_worker();
SELECT change('won', 'large') AS changed \gset
SELECT is(waits('won'), 'proration_credit 0 0, proration_debit 3000 0', 'nor what it has until it decides');
SELECT billing.sandbox_resolve_dispute((SELECT id FROM billing.disputes WHERE organization_id = 'won'), 'won');
CALL billing.run_worker();
SELECT is(notes('won') || ', ' || balance('won'), '1500 0 1500, 1500', 'won, a credit note gives it');
SELECT agrees('won');

CALL begin_at('later');
CALL mid_april('later');
SELECT ends('later') AS ended \gset
CALL billing.run_worker();
SELECT is(balance('later'), 1500::bigint, 'given back');
SELECT billing.sandbox_dispute(payment_of('later'));
CALL billing.run_worker();
SELECT is(entries('later') || ', ' || balance('later'), 'invoice 1500, invoice_refunded -1500, 0', 'and then the bank takes all of it: what was given is taken from the balance');
SELECT matches((SELECT string_agg(detail, '; ') FROM billing.explain(invoice_of('later')) WHERE what ~ 'taken back'), '^1500 USD', 'which is explained');
SELECT agrees('disputed later');
SELECT billing.sandbox_resolve_dispute((SELECT id FROM billing.disputes WHERE organization_id = 'later'), 'won');
CALL billing.run_worker();
SELECT is(entries('later') || ', ' || balance('later'), 'invoice 1500, invoice_refunded -1500, invoice_refunded 1500, 1500', 'won, it is given again');
SELECT agrees('won later');

-- ---------------------------------------------------------------------------
-- A refund that somebody makes at the provider cannot be refused

SELECT billing.configure_provider('stripe', 'sk_test_of_nobody', 'whsec_first', base_url => 'http://127.0.0.1:9');
UPDATE billing.settings SET value = '1 hour' WHERE name IN ('retry_base', 'retry_cap');

CREATE FUNCTION tell(n text, day integer, type text, object jsonb) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	body text := jsonb_build_object('id', format('evt_%s_%s', n, day), 'object', 'event', 'created', 1900000000 + day * 86400, 'livemode', false, 'type', type,
		'data', jsonb_build_object('object', object || jsonb_build_object('customer', 'cus_' || n)));
	at text := floor(extract(epoch FROM now()))::text;
BEGIN
	RETURN (SELECT e.status FROM billing.handle_webhook('stripe', body, jsonb_build_object('Stripe-Signature',
		format('t=%s,v1=%s', at, encode(hmac(at || '.' || body, 'whsec_first', 'sha256'), 'hex')))) AS e);
END
$$;
CREATE FUNCTION tell_refund(n text, day integer, status text, amount bigint) RETURNS text
LANGUAGE sql
RETURN tell(n, day, 'refund.updated', jsonb_build_object('object', 'refund', 'id', 're_' || n, 'status', status, 'amount', amount, 'currency', 'usd', 'payment_intent', 'pi_' || n));

-- As begin_at, at Stripe, to the 16th of April.
CREATE PROCEDURE begin_there(organization text)
LANGUAGE plpgsql AS $$
DECLARE
	customer uuid := billing.create_customer(organization, organization || '@back.example', country => 'US', currency => 'USD', provider => 'stripe');
	payment uuid := billing.new_id();
BEGIN
	INSERT INTO billing.sandbox_clocks (organization_id, now) VALUES (organization, '2027-04-01 00:00+00');
	PERFORM billing.subscribe(organization, 'small', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local', provider => 'stripe');
	COMMIT;
	CALL billing.run_worker();
	INSERT INTO billing.payment_intents (id, customer_id, organization_id, provider, account, livemode, status, amount, currency, invoice_id)
	VALUES (payment, customer, organization, 'stripe', 'default', false, 'processing', 3000, 'USD', invoice_of(organization));
	INSERT INTO billing.provider_refs (object_type, object_id, provider, account, provider_id, livemode, as_of)
	VALUES ('payment_intent', payment, 'stripe', 'default', 'pi_' || organization, false, '2020-01-01'), ('customer', customer, 'stripe', 'default', 'cus_' || organization, false, '2020-01-01');
	PERFORM tell(organization, 1, 'payment_intent.succeeded', jsonb_build_object('object', 'payment_intent', 'id', 'pi_' || organization, 'status', 'succeeded', 'amount', 3000, 'amount_received', 3000,
		'currency', 'usd', 'latest_charge', 'ch_' || organization));
	UPDATE billing.sandbox_clocks SET now = '2027-04-16 00:00+00' WHERE organization_id = organization;
END
$$;

CALL begin_there('there');
SELECT ends('there') AS ended \gset
CALL billing.run_worker();
SELECT is(balance('there'), 1500::bigint, 'given back');
SELECT is(tell_refund('there', 2, 'succeeded', 1500), 'applied', 'half is refunded there');
SELECT is(balance('there'), 1500::bigint, 'together what was paid: nothing is taken');
CALL begin_there('more');
SELECT ends('more') AS ended \gset
CALL billing.run_worker();
SELECT is(tell_refund('more', 2, 'pending', 2200), 'applied', 'more is refunded there');
SELECT is(entries('more') || ', ' || balance('more'), 'invoice 1500, invoice_refunded -700, 800', 'what was given beyond the 8.00 that are kept is taken back');
SELECT is(tell_refund('more', 3, 'succeeded', 2200), 'applied', 'it arrives');
SELECT is(balance('more'), 800::bigint, 'which is no second time');
SELECT fails(format('SELECT billing.create_refund(%L, 1)', payment_of('more')), 'JB008', 'nothing is left', NULL, 'and no more is refunded');
SELECT is((SELECT sum(s.amount) FROM billing.ledger_sides AS s WHERE s.organization_id = 'more' AND s.account = 'refunds'), 1500::numeric, 'the refund has cost 22.00 less 7.00');
SELECT agrees('refunded there');
SELECT is(tell_refund('more', 4, 'failed', 2200), 'applied', 'the bank sends it back');
SELECT is(balance('more'), 1500::bigint, 'so all of it is given again');
SELECT agrees('failed there');

CALL begin_there('first');
SELECT is(tell_refund('first', 2, 'succeeded', 2200), 'applied', 'refunded there before the change');
SELECT ends('first') AS ended \gset
CALL billing.run_worker();
SELECT is(balance('first'), 800::bigint, 'comes out the same');
SELECT is(tell_refund('first', 4, 'failed', 2200), 'applied', 'and sent back');
SELECT is(balance('first') || ': ' || notes('first'), '1500: 700 0 700', 'a credit note gives the rest');

-- a credit note to the balance is taken as well
CALL begin_there('noted');
SELECT billing.create_credit_note(invoice_of('noted'), amount => 1000) IS NOT NULL AS noted \gset
SELECT is(tell_refund('noted', 2, 'succeeded', 3000), 'applied', 'all of it is refunded there, after a credit note over 10.00');
SELECT is(entries('noted') || ', ' || balance('noted'), 'credit_note 1000, invoice_refunded -1000, 0', 'which is taken back');
SELECT agrees('credit note and refund');

SELECT * FROM finish();
