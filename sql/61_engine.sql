-- What the billing engine asks: it has no tables of its own.

ALTER TABLE billing.settings ADD CONSTRAINT settings_proration_unit
	CHECK (name <> 'proration_unit' OR value IN ('second', 'day'));

INSERT INTO billing.settings (name, value, kind, description, builtin) VALUES
	('timezone', 'UTC', 'text', 'zone whose days and months the periods of local subscriptions are in, where the customer has none', true),
	('proration_unit', 'second', 'text', 'a part of a period is counted in seconds, or in days of the subscription''s zone: second or day', true),
	('trial_notice', '3 days', 'interval', 'how long before its end the end of a trial is announced (event subscription.trial_will_end)', true),
	('usage_grace', '1 hour', 'interval',
	 'how long an invoice waits, after the end of its period, for usage that comes late before it is final', true);
