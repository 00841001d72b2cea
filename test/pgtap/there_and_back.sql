-- There and back in one instant is nothing, also where an earlier change with proration_behavior none left an item billed otherwise. April has 30 days; changes on the 16th at 00:00 leave half of it.
\ir helpers.psql
\ir paid_helpers.psql
SELECT plan(38);

SELECT billing.configure_provider('sandbox');
SELECT billing.create_plan('small', 'Small', 3000, 'USD') AS p1, billing.create_plan('large', 'Large', 6000, 'USD') AS p2, billing.create_plan('huge', 'Huge', 9000, 'USD') AS p3,
	   billing.create_plan('team', 'Team', 1000, 'USD') AS p4, billing.create_plan('nothing', 'Nothing', 0, 'USD') AS p5 \gset
SELECT billing.create_price('team', 300, 'USD', component => 'seats') AS seats \gset
SELECT billing.create_coupon('third', 33, duration => 'forever') AS third \gset
-- The same component by its number, by another number, and by use; and one price whatever the number.
SELECT billing.create_plan('flat', 'Flat') AS p6, billing.create_plan('lines', 'Lines', 1000, 'USD') AS p7, billing.create_plan('more_lines', 'More lines', 1000, 'USD') AS p8,
	   billing.create_plan('used_lines', 'Used lines', 1000, 'USD') AS p9 \gset
SELECT billing.create_price('flat', 2000, 'USD', model => 'flat') AS r1, billing.create_price('lines', 300, 'USD', component => 'calls') AS r2, billing.create_price('more_lines', 500, 'USD', component => 'calls') AS r3,
	   billing.create_price('used_lines', currency => 'USD', component => 'calls', metric => 'api_calls', unit_amount => 2) AS r4 \gset

CREATE PROCEDURE changes(organization text, plan text DEFAULT NULL, quantity bigint DEFAULT NULL, items jsonb DEFAULT NULL, behavior text DEFAULT 'create_prorations')
LANGUAGE sql
AS $$ SELECT billing.update_subscription(subscription_of(organization), plan => plan, quantity => quantity, items => items, proration_behavior => behavior) $$;
CREATE FUNCTION kept(organization text) RETURNS boolean
LANGUAGE sql
RETURN (SELECT s.items_before_change IS NOT NULL FROM billing.subscriptions AS s WHERE s.id = subscription_of(organization));
-- Of all that was billed and waits, with its tax and discount.
CREATE FUNCTION billed(organization text) RETURNS numeric
LANGUAGE sql
RETURN (SELECT sum(l.amount - l.discount) FROM billing.invoice_lines AS l WHERE l.subscription_id = subscription_of(organization) AND l.kind NOT IN ('discount', 'tax', 'credit', 'balance'));

-- ---------------------------------------------------------------------------
-- Another plan, or another quantity, by none

CALL begin_at('plan', 'small');
CALL billing.set_clock('plan', '2027-04-11 00:00+00');
CALL changes('plan', 'large', behavior => 'none');
CALL billing.set_clock('plan', '2027-04-16 00:00+00');
CALL changes('plan', quantity => 2);
SELECT is(waits('plan'), 'proration_credit -1500, proration_debit 6000', 'what was billed is given back, and what it is now is billed');
CALL changes('plan', quantity => 3);
SELECT is(waits('plan'), 'proration_credit -1500, proration_debit 9000', 'and changed once more in that instant');
CALL changes('plan', quantity => 1);
SELECT is(waits('plan'), NULL, 'back to what it was, nothing is left of it');
SELECT ok(NOT kept('plan'), 'and nothing is kept');
CALL changes('plan', 'small');
SELECT is(waits('plan'), NULL, 'back to what was billed costs nothing either');
CALL changes('plan', 'large', behavior => 'none');
CALL changes('plan', 'huge');
CALL billing.set_clock('plan', '2027-04-21 00:00+00');
CALL changes('plan', 'large');
SELECT is(waits('plan'), 'proration_credit -1500, proration_debit 1500, proration_debit 2000', 'at another moment it is billed as it is: five days of the one, ten of the other');
CALL billing.set_clock('plan', '2027-05-01 00:00+00');
SELECT ok(NOT kept('plan'), 'the next period has forgotten it');

CALL begin_at('quantity', 'small');
CALL billing.set_clock('quantity', '2027-04-11 00:00+00');
CALL changes('quantity', quantity => 3, behavior => 'none');
CALL billing.set_clock('quantity', '2027-04-16 00:00+00');
CALL changes('quantity', 'large');
SELECT is(waits('quantity'), 'proration_credit -1500, proration_debit 9000', 'three of another plan');
SELECT is((SELECT string_agg(l.kind || ' ' || l.amount, ', ') FROM billing.preview_update(subscription_of('quantity'), plan => 'small') AS l WHERE l.kind LIKE 'proration%'), 'proration_credit 1500, proration_debit -9000', 'the way back is told to take off both');
CALL changes('quantity', 'small');
SELECT is(waits('quantity'), NULL, 'and is nothing');

-- ---------------------------------------------------------------------------
-- Seats that came and went by none

CALL begin_at('came', 'team', quantity => 1);
CALL billing.set_clock('came', '2027-04-06 00:00+00');
CALL changes('came', items => '{"seats": 0}');
CALL changes('came', items => '{"seats": 4}', behavior => 'none');
SELECT is(waits('came'), 'proration_credit -250', 'four seats that cost nothing this month');
CALL billing.set_clock('came', '2027-04-16 00:00+00');
CALL changes('came', items => '{"seats": 5}');
SELECT is(waits('came'), 'proration_credit -250, proration_debit 750', 'five are billed');
CALL changes('came', items => '{"seats": 4}');
SELECT is(waits('came'), 'proration_credit -250', 'four are not');

CALL begin_at('went', 'team', quantity => 4);
CALL billing.set_clock('went', '2027-04-06 00:00+00');
CALL changes('went', items => '{"seats": null}', behavior => 'none');
CALL billing.set_clock('went', '2027-04-16 00:00+00');
CALL changes('went', items => '{"seats": 2}');
SELECT is(waits('went'), 'proration_credit -600, proration_debit 300', 'two instead of the four that were paid');
CALL changes('went', items => '{"seats": null}');
SELECT is(waits('went'), NULL, 'none again, as it was');

CALL begin_at('free', 'small');
CALL billing.set_clock('free', '2027-04-11 00:00+00');
CALL changes('free', quantity => 2);
CALL changes('free', quantity => 4, behavior => 'none');
SELECT is(waits('free'), 'proration_credit -2000, proration_debit 4000', 'two are billed in an instant, four by none in the same');
CALL changes('free', quantity => 5);
CALL changes('free', quantity => 4);
SELECT is(waits('free'), 'proration_credit -2000, proration_debit 4000', 'five and back to four leave it so');
CALL changes('free', quantity => 1);
SELECT is(waits('free'), NULL, 'and one is what was paid');

CALL begin_at('again', 'team', quantity => 4);
CALL billing.set_clock('again', '2027-04-06 00:00+00');
CALL changes('again', items => '{"seats": null}', behavior => 'none');
CALL billing.set_clock('again', '2027-04-16 00:00+00');
CALL changes('again', items => '{"seats": 0}');
CALL changes('again', items => '{"seats": null}', behavior => 'none');
SELECT is(waits('again'), 'proration_credit -600', 'what was paid is given back, and it went by none once more');
CALL changes('again', items => '{"seats": 3}');
CALL changes('again', items => '{"seats": null}');
SELECT is(waits('again'), 'proration_credit -600', 'there and back from there does not take that back');

CALL begin_at('flat', 'small');
CALL billing.set_clock('flat', '2027-04-11 00:00+00');
CALL changes('flat', 'flat', behavior => 'none');
CALL billing.set_clock('flat', '2027-04-16 00:00+00');
CALL changes('flat', quantity => 2);
CALL changes('flat', quantity => 1, behavior => 'none');
CALL changes('flat', 'large');
CALL changes('flat', 'flat');
SELECT is(waits('flat'), 'proration_credit -1500, proration_debit 1000', 'nor where another number has the same price');

CALL begin_at('used', 'lines');
CALL billing.set_clock('used', '2027-04-11 00:00+00');
CALL changes('used', 'used_lines', behavior => 'none');
CALL billing.set_clock('used', '2027-04-16 00:00+00');
CALL changes('used', 'more_lines', items => '{"calls": 4}');
SELECT is(waits('used'), 'proration_credit -500, proration_credit -150, proration_debit 500, proration_debit 1000', 'what was paid by number and then by use');
CALL changes('used', 'used_lines');
SELECT is(waits('used'), NULL, 'is left so, too');

-- ---------------------------------------------------------------------------
-- Billed by an invoice that is void, where the period begins

CALL begin_at('void', 'small');
CALL changes('void', 'large', behavior => 'always_invoice');
CALL billing.run_worker();
SELECT billing.void_invoice(i.id) AS void FROM billing.invoices AS i WHERE i.organization_id = 'void' AND i.status = 'open' \gset
CALL changes('void', quantity => 3);
SELECT is(waits('void'), 'proration_credit -3000, proration_debit 18000', 'what was paid is given back');
CALL changes('void', quantity => 1);
SELECT is(waits('void'), NULL, 'and is not');

-- ---------------------------------------------------------------------------
-- What is not final is cut, and billed again from there on; by day, too

CALL begin_at('waits', 'small');
CALL billing.set_clock('waits', '2027-04-06 00:00+00');
CALL changes('waits', 'large');
SELECT is(waits('waits'), 'proration_credit -2500, proration_debit 5000', 'billed and waiting');
CALL billing.set_clock('waits', '2027-04-11 00:00+00');
CALL changes('waits', 'huge', behavior => 'none');
CALL billing.set_clock('waits', '2027-04-16 00:00+00');
CALL changes('waits', quantity => 2);
SELECT is(waits('waits'), 'proration_credit -2500, proration_debit 2000, proration_debit 9000', 'ten days of what was billed, then two of what it is');
CALL changes('waits', quantity => 1);
SELECT is(waits('waits'), 'proration_credit -2500, proration_debit 2000, proration_debit 3000', 'back: the other fifteen of what was billed');
CALL billing.set_clock('waits', '2027-04-21 00:00+00');
CALL changes('waits', 'huge', 2);
SELECT is(waits('waits'), 'proration_credit -2500, proration_debit 2000, proration_debit 1000, proration_debit 6000', 'which is cut as it was');

UPDATE billing.settings SET value = 'day' WHERE name = 'proration_unit';
CALL begin_at('day', 'small');
CALL billing.set_clock('day', '2027-04-16 08:00+00');
CALL changes('day', 'large');
CALL changes('day', 'huge', behavior => 'none');
CALL billing.set_clock('day', '2027-04-16 12:00+00');
CALL changes('day', quantity => 2);
SELECT is(waits('day'), 'proration_credit -1500, proration_debit 9000', 'by day the day of the change is of what it is now');
CALL changes('day', quantity => 1);
SELECT is(waits('day'), 'proration_credit -1500, proration_debit 3000', 'and of what was billed when it is taken back');
UPDATE billing.settings SET value = 'second' WHERE name = 'proration_unit';

-- on a draft that waits for late usage, too
CALL begin_at('grace', 'used_lines');
SELECT billing.record_usage('grace', 'api_calls', 10);
CALL billing.set_clock('grace', '2027-05-01 00:10+00');
SELECT billing.update_subscription(subscription_of('grace'), quantity => 2, proration_behavior => 'none');
CALL changes('grace', quantity => 3);
CALL changes('grace', quantity => 2);
SELECT is((SELECT string_agg(l.description, ', ' ORDER BY l.id) || ' ' || sum(l.amount) FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id
		   WHERE i.organization_id = 'grace' AND i.status = 'draft' AND l.component = 'base'), 'Used lines: remaining time 1000', 'it says what it is there; ten minutes are nothing');

-- ---------------------------------------------------------------------------
-- On invoices, with a discount and a tax

SELECT billing.set_tax_rate('DE', 19, 'VAT', valid_from => '2020-01-01') AS vat \gset
SELECT billing.create_customer('taxed', country => 'DE') AS taxed_customer \gset
CALL billing.set_clock('taxed', '2027-04-01 00:00+00');
SELECT billing.subscribe('taxed', 'small', coupon => 'third', collection_method => 'send_invoice', days_until_due => 60, managed_by => 'local') AS taxed \gset
CALL pays('taxed');
CALL billing.set_clock('taxed', '2027-04-11 00:00+00');
CALL changes('taxed', 'large', behavior => 'none');
CALL billing.set_clock('taxed', '2027-04-16 00:00+00');
SELECT is(billed('taxed'), 2010::numeric, 'a third less');
CALL changes('taxed', quantity => 3, behavior => 'always_invoice');
SELECT is(billed('taxed'), 2010 - 1005 + 6030::numeric, 'what is given back and billed is invoiced at once');
CALL pays('taxed');
CALL changes('taxed', quantity => 1, behavior => 'always_invoice');
SELECT is(billed('taxed'), 2010::numeric, 'and so is the way back');
SELECT results_eq($$SELECT l.description FROM billing.invoice_lines AS l JOIN billing.invoices AS i ON i.id = l.invoice_id WHERE i.organization_id = 'taxed' AND l.reverses IS NOT NULL AND l.kind = 'proration_debit'$$,
	$$VALUES ('Small: remaining time')$$, 'which says what it is');
CALL changes('taxed', quantity => 3);
SELECT billing.cancel_subscription(subscription_of('taxed'), at_period_end => false);
SELECT ok(NOT kept('taxed'), 'one that has ended keeps nothing');
SELECT is_empty('SELECT * FROM billing.ledger_imbalance', 'the ledger balances');

SELECT * FROM finish();
