-- What is due and too little for the provider to charge: owed with the next invoice, written off on the last one.
\ir helpers.psql
SELECT plan(32);

SELECT billing.configure_provider('sandbox');
INSERT INTO billing.provider_currencies (provider, currency, wire_exponent, min_amount) VALUES ('sandbox', 'USD', 2, 50);
SELECT billing.create_plan('cents', 'Cents', 20, 'USD') AS p1, billing.create_plan('calls', 'Calls', 0, 'USD') AS p2 \gset
SELECT billing.create_meter('calls', 'sum');
SELECT billing.create_price('calls', component => 'calls', metric => 'calls', currency => 'USD', unit_amount => 1) AS calls \gset
SELECT count(billing.create_customer(o)) AS customers FROM string_to_table('carried sent ended owing byhand rest alone two stamps', ' ') AS o \gset
CALL billing.run_worker();
SELECT count(billing.attach_payment_method(billing.find_customer(o), 'pm_card_visa', set_default => true)) AS methods FROM string_to_table('carried sent ended owing byhand', ' ') AS o \gset
CALL billing.run_worker();

CREATE FUNCTION billed(organization text) RETURNS SETOF text
LANGUAGE sql
BEGIN ATOMIC
	SELECT concat_ws(' ', i.total, i.balance_used, i.amount_due, i.status || ':', (SELECT string_agg(l.kind || ' ' || l.amount, ', ' ORDER BY l.position)
		FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id))
	FROM billing.invoices AS i WHERE i.organization_id = organization ORDER BY i.issued_at, i.id;
END;
CREATE FUNCTION balance_of(organization text) RETURNS bigint
LANGUAGE sql
RETURN (SELECT b.balance FROM billing.customer_balances AS b WHERE b.organization_id = organization);

-- ---------------------------------------------------------------------------
-- Carried until it is enough

CALL billing.set_clock('carried', '2031-01-01 00:00+00');
SELECT billing.subscribe('carried', 'cents', managed_by => 'local') AS carried \gset
SELECT is(status_of('carried'), 'active', 'nothing has to be paid first');
CALL billing.run_worker();
SELECT results_eq($$SELECT billed('carried')$$, $$VALUES ('20 20 0 paid: base 20, balance -20')$$, 'what is too little is not asked for: a line makes it paid');
SELECT is((SELECT l.description FROM billing.invoice_lines AS l WHERE l.kind = 'balance'), 'Owed with the next invoice', 'which says so');
SELECT is(balance_of('carried'), -20::bigint, 'the customer owes it');
CREATE TEMP TABLE told AS SELECT p FROM billing.preview_invoice(:'carried') AS p;
SELECT is((SELECT string_agg((p).kind || ' ' || (p).amount, ', ' ORDER BY (p).position) FROM told), 'base 20, balance -20', 'the next one will be carried, too');
CALL billing.set_clock('carried', '2031-02-02 00:00+00');
SELECT is(balance_of('carried'), -40::bigint, 'twice is 40');
SELECT is((SELECT count(*) FROM billing.payment_intents WHERE organization_id = 'carried'), 0::bigint, 'and nothing was charged');
CALL billing.set_clock('carried', '2031-03-02 00:00+00');
SELECT results_eq($$SELECT billed('carried')$$,
	$$VALUES ('20 20 0 paid: base 20, balance -20'), ('20 20 0 paid: base 20, balance -20'), ('20 -40 60 paid: base 20, balance 40')$$, 'three times is enough');
SELECT results_eq($$SELECT amount, status FROM billing.payment_intents WHERE organization_id = 'carried'$$, $$VALUES (60::bigint, 'succeeded')$$, 'and is charged');
SELECT is(balance_of('carried'), 0::bigint, 'nothing is owed any more');

CALL billing.set_clock('sent', '2031-01-01 00:00+00');
SELECT billing.subscribe('sent', 'cents', managed_by => 'local', collection_method => 'send_invoice', days_until_due => 10) AS sent \gset
CALL billing.run_worker();
SELECT results_eq($$SELECT billed('sent')$$, $$VALUES ('20 0 20 open: base 20')$$, 'an invoice that is sent can be paid whatever it is');
SELECT billing.create_invoice(billing.find_customer('byhand'), '[{"description": "A stamp", "amount": 49}]', collection_method => 'charge_automatically') AS by_hand \gset
CALL billing.run_worker();
SELECT billing.create_invoice(billing.find_customer('byhand'), '[{"description": "A card", "amount": 1}]', collection_method => 'charge_automatically') AS enough \gset
CALL billing.run_worker();
SELECT results_eq($$SELECT billed('byhand')$$, $$VALUES ('49 49 0 paid: one_time 49, balance -49'), ('1 -49 50 paid: one_time 1, balance 49')$$, 'the least that is charged is charged');

-- ---------------------------------------------------------------------------
-- Written off on the last one

CALL billing.set_clock('ended', '2031-01-01 00:00+00');
SELECT billing.subscribe('ended', 'calls', managed_by => 'local') AS ended \gset
SELECT billing.record_usage('ended', 'calls', 30, occurred_at => '2031-01-01 00:00+00');
CALL settle();
CALL billing.set_clock('ended', '2031-01-11 00:00+00');
SELECT billing.cancel_subscription(:'ended', at_period_end => false);
CALL billing.set_clock('ended', '2031-01-12 00:00+00');
SELECT results_eq($$SELECT billed('ended')$$, $$VALUES ('0 0 0 paid: usage 30, adjustment -30')$$, 'there is no next invoice: a line writes it off');
SELECT is((SELECT l.description FROM billing.invoice_lines AS l WHERE l.kind = 'adjustment'), 'Too little to be charged', 'which says why');

CALL billing.set_clock('owing', '2031-01-01 00:00+00');
SELECT billing.adjust_balance('owing', -15, 'carried from before', 'USD') AS owing \gset
SELECT billing.subscribe('owing', 'calls', managed_by => 'local') AS owing \gset
SELECT billing.record_usage('owing', 'calls', 30, occurred_at => '2031-01-01 00:00+00');
CALL settle();
CALL billing.set_clock('owing', '2031-01-11 00:00+00');
SELECT billing.cancel_subscription(:'owing', at_period_end => false);
CALL billing.set_clock('owing', '2031-01-12 00:00+00');
SELECT results_eq($$SELECT billed('owing')$$, $$VALUES ('-15 -15 0 paid: usage 30, balance 15, adjustment -45')$$, 'with what was carried to it');
SELECT is(balance_of('owing'), 0::bigint, 'so that nothing is owed');
SELECT is((SELECT count(*) FROM billing.payment_intents WHERE organization_id IN ('ended', 'owing', 'sent')), 0::bigint, 'nothing was charged');
-- nothing else is on it
CALL billing.set_clock('alone', '2031-01-01 00:00+00');
SELECT billing.subscribe('alone', 'cents', managed_by => 'local') AS alone \gset
CALL billing.run_worker();
SELECT is(balance_of('alone'), -20::bigint, 'what is carried');
SELECT is((SELECT count(*) FROM billing.attention), 0::bigint, 'is with the next invoice while there will be one');
SELECT billing.cancel_subscription(:'alone', at_period_end => false);
CALL billing.run_worker();
SELECT results_eq($$SELECT billed('alone')$$, $$VALUES ('20 20 0 paid: base 20, balance -20'), ('-20 -20 0 paid: balance 20, adjustment -20')$$, 'is written off when it ends');
SELECT is(balance_of('alone'), 0::bigint, 'nobody owes it');

-- another one goes on
SELECT billing.create_plan('more', 'More', 20, 'USD', plan_group => 'more') AS p3 \gset
CALL billing.set_clock('two', '2031-01-01 00:00+00');
SELECT billing.subscribe('two', 'cents', managed_by => 'local') AS two, billing.subscribe('two', 'more', managed_by => 'local') AS more \gset
CALL billing.run_worker();
SELECT is(balance_of('two'), -40::bigint, 'each of two carries');
SELECT billing.cancel_subscription(:'two', at_period_end => false);
CALL billing.run_worker();
SELECT is(balance_of('two'), -40::bigint, 'what is carried goes to the next invoice of the other one');
SELECT billing.cancel_subscription(:'more', at_period_end => false);
CALL billing.run_worker();
SELECT is(balance_of('two') || ' ' || (SELECT count(*) FROM billing.invoices WHERE organization_id = 'two'), '0 3', 'and is written off with the last');

-- nothing will come
SELECT is((SELECT string_agg(concat_ws(' ', a.severity, a.organization_id, a.detail), ', ') FROM billing.attention AS a WHERE a.what = 'balance is owed and no invoice is coming'), NULL, 'all is taken care of');
SELECT billing.create_invoice(billing.find_customer('stamps'), '[{"description": "A stamp", "amount": 49}]', collection_method => 'charge_automatically') AS stamps \gset
CALL billing.run_worker();
SELECT is((SELECT string_agg(concat_ws(' ', a.severity, a.organization_id, a.detail), ', ') FROM billing.attention AS a WHERE a.what = 'balance is owed and no invoice is coming'),
		  'warning stamps 49 USD are owed with the next invoice, and nothing is billed any more', 'what no invoice will take along a person has to see');
SELECT billing.adjust_balance('stamps', 49, 'let go', 'USD') AS let_go \gset
SELECT is((SELECT count(*) FROM billing.attention WHERE what = 'balance is owed and no invoice is coming'), 0::bigint, 'who may let it go');

-- ---------------------------------------------------------------------------
-- Left of one that was paid in part

SELECT billing.create_invoice(billing.find_customer('rest'), '[{"description": "Work", "amount": 5000}]', collection_method => 'charge_automatically') AS rest \gset
CALL billing.run_worker();
SELECT billing.mark_invoice_paid(:'rest', 'in cash', amount => 4980);
SELECT billing.attach_payment_method(billing.find_customer('rest'), 'pm_card_visa', set_default => true) AS method \gset
CALL billing.run_worker();
SELECT is((SELECT concat_ws(' ', i.status, i.amount_remaining, i.error_code) FROM billing.invoices AS i WHERE i.id = :'rest'), 'open 20 below_minimum', 'a rest that is too little is not charged');
SELECT is((SELECT string_agg(concat_ws(' ', a.cause, a.state, a.decline_code), ', ' ORDER BY a.attempt) FROM billing.dunning_attempts AS a WHERE a.invoice_id = :'rest'),
	'issue failed no_payment_method, schedule planned, schedule planned, schedule planned, new_method canceled below_minimum', 'which is no failure');
SELECT is((SELECT count(*) FROM billing.payment_intents WHERE organization_id = 'rest'), 0::bigint, 'nobody is asked for it');
SELECT billing.create_credit_note(:'rest', amount => 20) AS note \gset
SELECT is((SELECT i.status || ' ' || i.amount_remaining FROM billing.invoices AS i WHERE i.id = :'rest'), 'paid 0', 'a person may let it go');

SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'ledger and documents agree');
SELECT * FROM finish();
