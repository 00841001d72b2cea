-- What the billing engine asks: it has no tables of its own.

ALTER TABLE billing.settings ADD CONSTRAINT settings_proration_unit
	CHECK (name <> 'proration_unit' OR value IN ('second', 'day'));
ALTER TABLE billing.settings ADD CONSTRAINT settings_billing_alignment
	CHECK (name <> 'billing_alignment' OR value IN ('anniversary', 'calendar'));

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('timezone', 'UTC', 'text', 'zone whose days and months the periods of local subscriptions are in, where the customer has none', true),
	('proration_unit', 'second', 'text', 'a part of a period is counted in seconds, or in days of the subscription''s zone: second or day', true),
	('billing_alignment', 'anniversary', 'text',
	 'periods of new local subscriptions count from their start (anniversary), or from the beginning of the day, week, month, quarter or year (calendar)', true),
	('trial_notice', '3 days', 'interval', 'how long before its end the end of a trial is announced (event subscription.trial_will_end)', true),
	('usage_grace', '1 hour', 'interval',
	 'how long an invoice waits, after the end of its period, for usage that comes late before it is final', true);
