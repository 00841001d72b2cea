-- Views for people: what is on its way, what is stuck and why, what was sold.
-- The views of operation (outbox_status to attention) show every organisation
-- and are read with the rights of the owner; those of subscriptions and
-- invoices are read with the rights of the reader, so that row level security
-- limits a tenant to its own rows.

CREATE INDEX invoices_organization ON billing.invoices (organization_id, issued_at);

CREATE VIEW billing.outbox_status AS
	SELECT o.id, o.operation, o.object_type, o.object_id,
		   CASE WHEN o.key_type = 'customer'
				THEN (SELECT c.organization_id FROM billing.customers AS c WHERE c.id = o.ordering_key) END AS organization_id,
		   o.provider, o.account, o.livemode, o.state, o.attempts, o.next_attempt_at, o.sent_at,
		   o.created_at, now() - o.created_at AS age, o.error_type, o.error_code, o.provider_request_id,
		   CASE
			   WHEN o.state = 'dead' THEN
				   'a person: billing.retry_request() sends it again, billing.cancel_request() gives it up'
			   WHEN o.state = 'sending' AND o.answer IS NOT NULL THEN
				   'a session that holds the customer''s row: the answer is applied when it ends'
			   WHEN o.state = 'sending' THEN
				   'the answer of ' || o.provider
			   WHEN o.state = 'waiting' AND o.blocked_by IS NOT NULL THEN
				   (SELECT format('request %s (%s), which has to be done first', b.id, b.operation)
					|| CASE WHEN b.state = 'dead' THEN ' and is dead' ELSE '' END
					FROM billing.outbox AS b WHERE b.id = o.blocked_by)
			   WHEN o.state = 'waiting' THEN
				   coalesce((SELECT CASE WHEN a.state = 'dead'
										 THEN format('request %s (%s), which is dead and holds this %s: see billing.retry_request() '
													 'and billing.cancel_request()', a.id, a.operation, o.key_type)
										 ELSE format('request %s (%s) of the same %s, which was there first',
													 a.id, a.operation, o.key_type) END
							 FROM billing.outbox AS a
							 WHERE a.ordering_key = o.ordering_key AND a.provider = o.provider AND a.account = o.account
								 AND a.state <> 'waiting' AND (a.state <> 'dead' OR a.holds)
							 ORDER BY a.state = 'dead' DESC, a.seq
							 LIMIT 1),
							'what waits before it')
			   WHEN p.stopped_at IS NOT NULL THEN
				   format('account %s at %s, which is stopped: %s', o.account, o.provider, p.stopped_reason)
			   WHEN p.bound_to IS DISTINCT FROM billing.database_binding() AND NOT v.embedded THEN
				   format('account %s at %s, which is bound to another database: see billing.adopt_database()', o.account, o.provider)
			   WHEN t.state = 'open' THEN
				   format('account %s at %s, whose calls failed: the next one goes out at %s', o.account, o.provider, t.until)
			   WHEN t.throttled_until > now() THEN
				   format('account %s at %s, which asked for a pause until %s', o.account, o.provider, t.throttled_until)
			   WHEN o.next_attempt_at > now() AND o.state = 'unknown' THEN
				   'the time to ask ' || o.provider || ' whether it went through'
			   WHEN o.next_attempt_at > now() THEN
				   'its next attempt'
			   ELSE 'the worker'
		   END AS waiting_for
	FROM billing.outbox AS o
	JOIN billing.providers AS v ON v.name = o.provider
	LEFT JOIN billing.provider_accounts AS p ON p.provider = o.provider AND p.account = o.account
	LEFT JOIN billing.provider_circuits AS t ON t.account_id = p.id AND t.noted_at > p.updated_at;
COMMENT ON VIEW billing.outbox_status IS 'Requests to providers that are not finished, and what each is waiting for.';
COMMENT ON COLUMN billing.outbox_status.organization_id IS 'NULL for requests about the catalogue.';
COMMENT ON COLUMN billing.outbox_status.state IS
	'queued (next of its customer or plan), waiting (behind another one), sending, unknown (sent, the answer was lost: it is looked up), '
	'dead (given up).';
COMMENT ON COLUMN billing.outbox_status.provider_request_id IS 'What to tell the provider''s support.';

CREATE VIEW billing.webhook_status AS
	SELECT e.event_id, e.id, e.provider, e.account, e.livemode, e.type, e.state, e.reason, e.waiting_for, e.attempts,
		   e.next_attempt_at, e.provider_time, e.received_at, e.handled_at,
		   e.received_at - e.provider_time AS delay, e.raw_body IS NOT NULL AS can_be_replayed
	FROM billing.webhook_events AS e;
COMMENT ON VIEW billing.webhook_status IS 'Webhooks that were received, without their bodies.';
COMMENT ON COLUMN billing.webhook_status.event_id IS 'The provider''s id of the event, for replay_webhook().';
COMMENT ON COLUMN billing.webhook_status.waiting_for IS 'The provider''s id of an object that we do not know yet.';
COMMENT ON COLUMN billing.webhook_status.delay IS 'From the provider''s event to us; long after an outage, when it sends again.';
COMMENT ON COLUMN billing.webhook_status.can_be_replayed IS 'Its body is still kept (setting raw_body_retention).';

-- A pid that is left over from before a crash may have another process by now;
-- it counts only if the server has not been restarted since.
CREATE VIEW billing.worker_status AS
	SELECT w.pid,
		   w.pid IS NOT NULL AND w.started_at >= pg_postmaster_start_time()
		   AND EXISTS (SELECT FROM pg_stat_activity AS a
					   WHERE a.pid = w.pid AND a.datname = current_database()) AS running,
		   w.started_at, o.queued, o.waiting, o.sending, o.unknown, o.dead,
		   now() - o.oldest_queued AS oldest_queued_age,
		   pg_stat_get_dead_tuples('billing.outbox'::regclass) AS outbox_dead_rows,
		   h.held, w.last_error, w.last_error_at
	FROM billing.worker_state AS w
	CROSS JOIN (
		SELECT count(*) FILTER (WHERE state = 'queued') AS queued, count(*) FILTER (WHERE state = 'waiting') AS waiting,
			   count(*) FILTER (WHERE state = 'sending') AS sending, count(*) FILTER (WHERE state = 'unknown') AS unknown,
			   count(*) FILTER (WHERE state = 'dead') AS dead, min(created_at) FILTER (WHERE state = 'queued') AS oldest_queued
		FROM billing.outbox) AS o
	CROSS JOIN (
		SELECT string_agg(format(CASE WHEN a.stopped_at IS NOT NULL THEN 'account %s at %s is stopped: %s'
									  ELSE 'account %s at %s is bound to another database: see billing.adopt_database()' END,
								 a.account, a.provider, a.stopped_reason), '; ' ORDER BY a.provider, a.account) AS held
		FROM billing.provider_accounts AS a
		JOIN billing.providers AS p ON p.name = a.provider
		WHERE NOT p.embedded AND (a.stopped_at IS NOT NULL OR a.bound_to IS DISTINCT FROM billing.database_binding())) AS h;
COMMENT ON VIEW billing.worker_status IS 'The background worker of this database and its work; one row.';
COMMENT ON COLUMN billing.worker_status.running IS
	'Without shared_preload_libraries nothing runs after a restart until a function of billing writes something.';
COMMENT ON COLUMN billing.worker_status.outbox_dead_rows IS
	'Dead row versions of the outbox: many slow it down, and long transactions keep vacuum from removing them.';
COMMENT ON COLUMN billing.worker_status.held IS 'Accounts that nothing is sent for, and why; NULL when there is none.';

CREATE VIEW billing.provider_health AS
	SELECT a.provider, a.account, a.livemode, p.embedded OR a.secret_key IS NOT NULL AS configured,
		   p.embedded OR a.bound_to IS NOT DISTINCT FROM billing.database_binding() AS bound_here,
		   a.stopped_at, a.stopped_reason, coalesce(t.state, 'closed') AS circuit, t.until AS circuit_until,
		   CASE WHEN t.throttled_until > now() THEN t.throttled_until END AS throttled_until,
		   o.queued, o.waiting, o.dead, f.finished_last_hour, f.declined_last_hour,
		   e.error_type AS last_error_type, e.error_code AS last_error_code, e.sent_at AS last_error_at,
		   (SELECT max(w.received_at) FROM billing.webhook_events AS w
			WHERE w.provider = a.provider AND w.account = a.account) AS last_webhook_at
	FROM billing.provider_accounts AS a
	JOIN billing.providers AS p ON p.name = a.provider
	LEFT JOIN billing.provider_circuits AS t ON t.account_id = a.id AND t.noted_at > a.updated_at
	CROSS JOIN LATERAL (
		SELECT count(*) FILTER (WHERE r.state IN ('queued', 'sending', 'unknown')) AS queued,
			   count(*) FILTER (WHERE r.state = 'waiting') AS waiting, count(*) FILTER (WHERE r.state = 'dead') AS dead
		FROM billing.outbox AS r WHERE r.provider = a.provider AND r.account = a.account) AS o
	CROSS JOIN LATERAL (
		SELECT count(*) FILTER (WHERE d.state = 'done') AS finished_last_hour,
			   count(*) FILTER (WHERE d.state = 'done' AND d.error_code IS NOT NULL) AS declined_last_hour
		FROM billing.outbox_finished AS d
		WHERE d.finished_at > now() - interval '1 hour' AND d.provider = a.provider AND d.account = a.account) AS f
	LEFT JOIN LATERAL (
		SELECT r.error_type, r.error_code, r.sent_at
		FROM billing.outbox AS r
		WHERE r.provider = a.provider AND r.account = a.account AND r.error_type IS NOT NULL
		ORDER BY r.sent_at DESC NULLS LAST LIMIT 1) AS e ON true;
COMMENT ON VIEW billing.provider_health IS 'Our accounts at the providers and how they do.';
COMMENT ON COLUMN billing.provider_health.bound_here IS
	'False in a copy of a database: nothing is sent from it before adopt_database().';
COMMENT ON COLUMN billing.provider_health.stopped_reason IS 'Why nothing is sent for it: configure_provider() starts it again.';
COMMENT ON COLUMN billing.provider_health.circuit IS
	'closed: all is well; open: calls failed one after the other (setting circuit_threshold), nothing is sent until circuit_until; '
	'half_open: one request is on its way to see whether the provider is back.';
COMMENT ON COLUMN billing.provider_health.throttled_until IS 'The provider asked for a pause (429 with Retry-After).';
COMMENT ON COLUMN billing.provider_health.queued IS 'Requests that can be sent, are being sent or looked up.';
COMMENT ON COLUMN billing.provider_health.declined_last_hour IS 'Of those finished: what the provider did and a bank declined.';
COMMENT ON COLUMN billing.provider_health.last_error_type IS 'The latest trouble of a request that is not finished.';

CREATE VIEW billing.attention (since, severity, what, object_type, object_id, organization_id, detail, hint) AS
	SELECT a.stopped_at, 'critical', 'account is stopped', 'provider_account', a.id, NULL::text,
		   format('account %s at %s: %s', a.account, a.provider, a.stopped_reason),
		   'billing.configure_provider() with a key that works'
	FROM billing.provider_accounts AS a
	WHERE a.stopped_at IS NOT NULL
UNION ALL
	SELECT t.noted_at, 'critical', 'provider does not answer', 'provider_account', a.id, NULL,
		   format('account %s at %s: %s calls failed one after the other, the next one goes out at %s', a.account, a.provider,
				  t.failures, t.until),
		   'see billing.outbox_status; billing.configure_provider() without a new key tries again at once'
	FROM billing.provider_circuits AS t
	JOIN billing.provider_accounts AS a ON a.id = t.account_id AND t.noted_at > a.updated_at
	WHERE t.state <> 'closed'
UNION ALL
	SELECT min(o.created_at), 'critical', 'account is bound to another database', 'provider_account', a.id, NULL,
		   format('account %s at %s: %s requests are held', a.account, a.provider, count(*)),
		   'when the database that this one was copied from sends no more: billing.adopt_database()'
	FROM billing.provider_accounts AS a
	JOIN billing.providers AS p ON p.name = a.provider
	JOIN billing.outbox AS o ON o.provider = a.provider AND o.account = a.account
	WHERE NOT p.embedded AND a.bound_to IS DISTINCT FROM billing.database_binding()
	GROUP BY a.id, a.provider, a.account
UNION ALL
	SELECT now() - w.oldest_queued_age, 'critical', 'worker is not running', 'worker', NULL, NULL,
		   format('%s requests wait to be sent', w.queued),
		   'CALL billing.run_worker(), and see shared_preload_libraries, max_worker_processes and the server''s log'
	FROM billing.worker_status AS w
	WHERE NOT w.running AND w.oldest_queued_age > interval '1 minute'
UNION ALL
	SELECT coalesce(o.sent_at, o.created_at), 'error', 'request is dead', o.object_type, o.object_id, o.organization_id,
		   format('%s at %s: %s', o.operation, o.provider, concat_ws(' ', o.error_type, o.error_code)),
		   format('billing.retry_request(%L) or billing.cancel_request(%1$L)', o.id)
	FROM billing.outbox_status AS o
	WHERE o.state = 'dead'
UNION ALL
	SELECT o.created_at, 'warning', 'request is late', o.object_type, o.object_id, NULL,
		   format('%s at %s: %s attempts, %s', o.operation, o.provider, o.attempts,
				  coalesce(nullif(concat_ws(' ', o.error_type, o.error_code), ''), 'no answer')),
		   'see billing.outbox_status'
	FROM billing.outbox AS o
	WHERE o.state IN ('queued', 'unknown') AND o.attempts > 0 AND o.created_at < now() - interval '1 hour'
UNION ALL
	SELECT c.updated_at, 'warning', 'customer needs data', 'customer', c.id, c.organization_id,
		   format('%s requires %s', c.provider, c.needs_data),
		   format('billing.update_customer(%L, ...)', c.id)
	FROM billing.customers AS c
	WHERE c.needs_data IS NOT NULL AND c.deleted_at IS NULL
UNION ALL
	SELECT e.received_at, 'error', 'webhook failed', 'webhook_event', e.id, NULL,
		   format('%s of %s: %s', e.type, e.provider, e.reason),
		   format('billing.replay_webhook(%L)', e.event_id)
	FROM billing.webhook_events AS e
	WHERE e.state = 'failed'
UNION ALL
	SELECT e.received_at, 'warning', 'webhook waits', 'webhook_event', e.id, NULL,
		   format('%s of %s is about %s, which is not known here', e.type, e.provider, e.waiting_for),
		   'was it made by another application with the same account?'
	FROM billing.webhook_events AS e
	WHERE e.state = 'waiting'
		AND e.received_at < now() - (SELECT coalesce(p.value, '1 hour')::interval FROM billing.settings AS p WHERE p.name = 'webhook_patience')
UNION ALL
	SELECT r.as_of, 'warning', 'object is in doubt', r.object_type, r.object_id, NULL,
		   format('webhooks of %s said different things, and %s was not asked', r.provider, r.provider),
		   format('billing.refresh(%L)', r.object_id)
	FROM billing.provider_refs AS r
	WHERE r.in_doubt AND r.object_type IN ('customer', 'payment_intent', 'refund', 'dispute', 'subscription', 'invoice', 'checkout_session')
		AND NOT EXISTS (SELECT FROM billing.outbox AS o
						WHERE o.object_id = r.object_id AND o.operation = r.object_type || '.fetch' AND o.state <> 'dead')
UNION ALL
	SELECT s.created_at, 'error', 'second live subscription', 'subscription', s.id, s.organization_id,
		   format('plan %s in group %s at %s', p.plan, s.plan_group, s.provider),
		   'both entitle and both are billed: cancel one by billing.cancel_subscription()'
	FROM billing.subscriptions AS s
	JOIN billing.plans AS p ON p.id = s.plan_id
	WHERE s.conflict AND s.status NOT IN ('incomplete', 'canceled', 'incomplete_expired')
UNION ALL
	SELECT coalesce(s.status_since, s.updated_at), CASE s.status WHEN 'unpaid' THEN 'error' ELSE 'warning' END, 'subscription is ' || s.status,
		   'subscription', s.id, s.organization_id,
		   concat_ws(': ', format('plan %s at %s', p.plan, s.provider), s.error_code),
		   'the customer has to pay or to give another payment method'
	FROM billing.subscriptions AS s
	JOIN billing.plans AS p ON p.id = s.plan_id
	WHERE s.status IN ('past_due', 'unpaid')
UNION ALL
	SELECT s.updated_at, 'error', 'subscription cannot be billed', 'subscription', s.id, s.organization_id,
		   format('%s times, next at %s: %s', s.due_failures, s.next_due_at, s.due_error),
		   'put right what it says; the engine tries again by itself'
	FROM billing.subscriptions AS s
	WHERE s.due_failures > 0
UNION ALL
	SELECT i.updated_at, 'error', 'invoice cannot be made final', 'invoice', i.id, i.organization_id,
		   format('%s times, next at %s: %s', i.due_failures, i.finalize_at, i.due_error),
		   'put right what it says; the engine tries again by itself'
	FROM billing.invoices AS i
	WHERE i.due_failures > 0 AND i.status = 'draft' AND i.marked_at IS NULL
UNION ALL
	SELECT w.since, CASE WHEN w.failures > 0 THEN 'error' ELSE 'warning' END, w.what, w.object_type, w.object_id, w.organization_id,
		   concat_ws(': ', CASE WHEN w.failures > 0 THEN format('%s times, next at %s', w.failures, w.retry_at) ELSE format('since %s', w.since) END, w.error),
		   CASE WHEN w.failures = 0 THEN 'a session or a prepared transaction holds a row of it: see pg_locks and pg_prepared_xacts'
				WHEN w.what = 'invoice cannot be numbered'
				THEN format('put right what it says (JB012: billing.update_customer() tells the customer''s data anew); billing.finalize_invoice(%L) tries at once', w.object_id)
				ELSE 'put right what it says; the worker tries again by itself' END
	FROM billing.postponed_work AS w
	WHERE w.failures > 0 OR w.since < now() - interval '10 minutes'
UNION ALL
	-- a row for each seller, as all that he sells waits
	SELECT min(i.marked_at), 'error', 'invoices wait for a seller', 'seller', NULL, NULL,
		   format('%s invoices of live mode have no number, as seller %s has no name', count(*), s.seller),
		   format('billing.set_seller(''...'', seller => %L, ...)', s.seller)
	FROM billing.sellers AS s
	JOIN billing.invoices AS i ON s.seller = i.seller_name OR (i.seller_name IS NULL AND s.is_default)
	JOIN billing.providers AS p ON p.name = i.provider AND NOT p.merchant_of_record
	WHERE s.name IS NULL AND i.livemode AND i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NOT NULL
	GROUP BY s.seller
UNION ALL
	SELECT i.due_at, 'error', 'invoice is past due and nothing is planned', 'invoice', i.id, i.organization_id,
		   concat_ws(': ', format('%s %s of %s are left to pay', i.amount_remaining, i.currency, coalesce(i.number, 'a statement')), i.error_code),
		   format('billing.pay_invoice(%L), billing.mark_invoice_paid(%1$L, ...) or billing.mark_invoice_uncollectible(%1$L)', i.id)
	FROM (SELECT o.id, o.organization_id, o.subscription_id, o.amount_remaining, o.currency, o.number, o.error_code, coalesce(o.due_at, o.issued_at) AS due_at
		  FROM billing.invoices AS o
		  WHERE o.managed_by = 'local' AND o.status = 'open' AND o.next_attempt_at IS NULL) AS i
	WHERE i.due_at < coalesce((SELECT k.now FROM billing.sandbox_clocks AS k WHERE k.organization_id = i.organization_id), now())
		AND NOT EXISTS (SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id AND a.state IN ('planned', 'running'))
		AND EXISTS (SELECT FROM billing.dunning_attempts AS a WHERE a.invoice_id = i.id)
		-- a first payment that does not come ends by itself
		AND NOT EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.id = i.subscription_id AND s.status = 'incomplete')
UNION ALL
	SELECT b.updated_at, 'warning', 'balance is owed and no invoice is coming', 'customer', b.customer_id, b.organization_id,
		   format('%s %s are owed with the next invoice, and nothing is billed any more', -b.balance, b.currency),
		   format('billing.create_invoice(%L, ...) takes it along, billing.adjust_balance(%L, %s, ..., %L) lets it go', b.customer_id, b.organization_id, -b.balance, b.currency)
	FROM billing.customer_balances AS b
	JOIN billing.customers AS c ON c.id = b.customer_id AND c.deleted_at IS NULL
	WHERE b.balance < 0
		AND NOT EXISTS (SELECT FROM billing.subscriptions AS s
						WHERE s.customer_id = b.customer_id AND s.currency = b.currency AND s.managed_by = 'local' AND s.next_due_at IS NOT NULL)
		AND NOT EXISTS (SELECT FROM billing.invoices AS i
						WHERE i.customer_id = b.customer_id AND i.currency = b.currency AND i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NULL)
UNION ALL
	SELECT k.updated_at, 'warning', 'payment pays nothing', 'payment_intent', k.payment_intent_id, p.organization_id,
		   format('%s %s came too late or were too much, and are in the balance of the customer', k.credited - k.withdrawn, p.currency),
		   format('leave it there, or give it back by billing.create_refund(%L, %s)', p.id, k.credited - k.withdrawn
			  + CASE WHEN p.provider_tax = 0 THEN 0 ELSE round((k.credited - k.withdrawn)::numeric * p.provider_tax / (p.amount_received - p.provider_tax))::bigint END)
	FROM billing.invoice_payments AS k
	JOIN billing.payment_intents AS p ON p.id = k.payment_intent_id
	WHERE k.credited > k.withdrawn AND k.updated_at > now() - interval '30 days'
UNION ALL
	SELECT p.paid_at, 'error', 'payment differs from what was asked for', 'payment_intent', p.id, p.organization_id,
		   format('%s %s were asked for at %s, %s %s were paid', p.asked_amount, p.asked_currency, p.provider, p.amount_received,
				  p.currency),
		   'it is booked as paid; refund what is too much by billing.create_refund()'
	FROM billing.payment_intents AS p
	WHERE (p.asked_amount <> p.amount_received OR p.asked_currency <> p.currency) AND p.status IN ('succeeded', 'partially_refunded')
UNION ALL
	SELECT d.created_at, 'error', 'dispute waits for an answer', 'dispute', d.id, d.organization_id,
		   format('%s %s of payment intent %s at %s, %s', d.amount, d.currency, d.payment_intent_id, d.provider,
				  coalesce(format('evidence is due by %s', d.evidence_due_by), 'no date is told')),
		   format('billing.submit_dispute_evidence(%L, ...) or billing.accept_dispute(%1$L)', d.id)
	FROM billing.disputes AS d
	WHERE d.status IN ('needs_response', 'warning_needs_response')
UNION ALL
	SELECT c.finished_at, 'error', CASE c.state WHEN 'failed' THEN 'scheduled change failed' ELSE 'subscription was renewed although it was canceled' END,
		   'subscription', c.subscription_id, c.organization_id,
		   format('%s was due at %s: %s', c.kind, c.due_at, c.error_code),
		   CASE WHEN c.kind = 'change' THEN 'it was billed as it is; billing.update_subscription() changes it'
						WHEN c.state = 'failed' THEN 'billing.cancel_subscription(..., at_period_end => false)'
						ELSE 'look for a charge after the end of the period, and refund it' END
	FROM billing.scheduled_changes AS c
	WHERE c.error_code IS NOT NULL AND c.finished_at > now() - interval '30 days'
UNION ALL
	SELECT coalesce(f.errors_reported_at, f.updated_at), 'error',
		   CASE f.state WHEN 'failed' THEN 'usage is not forwarded' ELSE 'usage was not counted' END, 'meter', f.id, NULL,
		   format('%s at %s: %s', f.metric, f.provider, f.error_code),
		   CASE f.state WHEN 'failed' THEN 'make the provider''s meter right, then billing.forward_usage() once more'
						ELSE 'see the provider''s panel and billing.usage_forwarding_status' END
	FROM billing.usage_forwarding AS f
	WHERE f.enabled AND (f.state = 'failed' OR f.errors_reported_at > now() - interval '30 days')
UNION ALL
	SELECT min(w.at), 'warning', 'usage came too late for the provider', NULL, NULL, w.organization_id,
		   format('%s at %s: %s hours since %s', w.metric, w.provider, count(*), min(w.hour)),
		   'bill it by hand where it matters: billing.usage_forwarding_status'
	FROM billing.usage_forwards AS w
	WHERE (w.state = 'too_old' OR w.after_close) AND w.at > now() - interval '30 days'
	GROUP BY w.organization_id, w.metric, w.provider, w.account
UNION ALL
	SELECT u.period_start, 'warning', 'usage has no price', NULL, NULL, u.organization_id,
		   format('%s of %s since %s', r.quantity, u.metric, date_trunc('second', r.since)),
		   format('sell it (billing.create_price(), billing.update_subscription()), allow it (billing.set_plan_feature()) or bill it by '
				  'billing.create_invoice(); it is told for 30 days: billing.unbilled_usage WHERE organization_id = %L', u.organization_id)
	FROM billing.unbilled_usage AS u
	CROSS JOIN LATERAL (
		SELECT greatest(u.period_start, date_bin('15 minutes', u.period_end, '2000-01-01 00:00+00') - interval '30 days') AS since) AS w
	CROSS JOIN LATERAL (
		SELECT d.quantity, d.events, w.since
		FROM billing.usage_by_dimension(u.organization_id, u.metric, '{}', w.since, u.period_end) AS d) AS r
	WHERE u.reason = 'no_price' AND NOT u.sold_again AND r.events > 0
		-- what a plan allows without a price is meant to cost nothing
		AND NOT CASE WHEN EXISTS (SELECT FROM billing.features AS f WHERE f.feature = u.metric) THEN billing.has_feature(u.organization_id, u.metric)
					 ELSE false END
UNION ALL
	SELECT min(u.period_end), 'warning', 'usage came too late to be billed', NULL, NULL, u.organization_id,
		   format('%s of %s, used from %s to %s', sum(u.quantity), u.metric, date_trunc('second', min(u.period_start)), date_trunc('second', max(u.period_end))),
		   format('bill it by billing.create_invoice(), or leave it: it is told for 90 days; billing.unbilled_usage WHERE organization_id = %L', u.organization_id)
	FROM billing.unbilled_usage AS u
	WHERE u.reason = 'late' AND u.billed_until > billing.now(u.organization_id) - interval '90 days'
	GROUP BY u.organization_id, u.metric;
COMMENT ON VIEW billing.attention IS 'Everything that a person has to look at; empty when all is well.';
COMMENT ON COLUMN billing.attention.severity IS
	'critical (nothing goes out), error (something will not happen without you), warning.';
COMMENT ON COLUMN billing.attention.hint IS 'What to do.';

-- What was sold.

CREATE VIEW billing.subscription_details WITH (security_invoker = true) AS
	SELECT s.id, s.organization_id, s.customer_id, p.plan, p.name AS plan_name, s.plan_group, s.quantity,
		   (SELECT jsonb_object_agg(n.component, n.quantity) FROM billing.subscription_items AS n WHERE n.subscription_id = s.id) AS items,
		   r.amount, r.currency, r."interval", r.interval_count, s.status, s.managed_by, s.provider, s.account, s.livemode,
		   s.provider_status, s.status_since, f.provider_id AS provider_subscription_id, s.payment_method_id, s.trial_start, s.trial_end,
		   s.current_period_start, s.current_period_end, s.cancel_at_period_end, s.cancel_at, s.canceled_at, s.ended_at,
		   s.access_until, s.pause_at_period_end, s.resumes_at, s.pending_price_id, s.error_code, s.conflict, s.superseded_by,
		   ARRAY(SELECT o.operation FROM billing.outbox AS o WHERE o.object_id = s.id ORDER BY o.seq) AS pending,
		   s.metadata, s.created_at, s.updated_at
	FROM billing.subscriptions AS s
	JOIN billing.plans AS p ON p.id = s.plan_id
	JOIN billing.prices AS r ON r.id = s.price_id
	LEFT JOIN billing.provider_refs AS f
		ON f.object_id = s.id AND f.object_type = 'subscription' AND f.provider = s.provider AND f.account = s.account;
COMMENT ON VIEW billing.subscription_details IS 'Subscriptions with plan, price and what is still to be confirmed by the provider.';
COMMENT ON COLUMN billing.subscription_details.items IS
	'Quantity by component, of one that we bill, as update_subscription() takes them; of a metered component it says nothing.';
COMMENT ON COLUMN billing.subscription_details.amount IS 'Minor units of the currency, for one unit of quantity and one interval.';
COMMENT ON COLUMN billing.subscription_details.provider_subscription_id IS
	'The provider''s id, such as sub_...; NULL until it confirms, and for a free plan.';
COMMENT ON COLUMN billing.subscription_details.pending IS
	'Requests about it that are not finished, in their order; the row does not show yet what they ask for.';

CREATE FUNCTION billing.get_subscription(subscription_id uuid) RETURNS SETOF billing.subscription_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.subscription_details AS d WHERE d.id = get_subscription.subscription_id;
END;
COMMENT ON FUNCTION billing.get_subscription(uuid) IS 'The subscription as the provider last told it; no row when there is none.';

CREATE FUNCTION billing.list_subscriptions(organization_id text) RETURNS SETOF billing.subscription_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.subscription_details AS d
	WHERE d.organization_id = list_subscriptions.organization_id
	ORDER BY d.created_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_subscriptions(text) IS 'Subscriptions of an organisation, ended ones too, newest first.';

CREATE VIEW billing.invoice_details WITH (security_invoker = true) AS
	SELECT i.id, i.organization_id, i.number, i.status, i.billing_reason, i.period_start, i.period_end, i.issued_at, i.due_at,
		   i.subtotal, i.discount, i.tax,
		   CASE WHEN i.managed_by = 'local' AND i.status = 'draft' AND i.marked_at IS NULL AND i.finalize_at IS NOT NULL
				THEN (SELECT coalesce(sum(l.amount), 0)::bigint FROM billing.invoice_lines AS l WHERE l.invoice_id = i.id AND l.kind NOT IN ('credit', 'balance'))
				ELSE i.total END AS total,
		   i.credit_used, i.balance_used, i.amount_due, i.amount_paid, i.amount_credited,
		   CASE WHEN i.managed_by = 'local' THEN CASE i.status WHEN 'paid' THEN i.amount_due - i.amount_credited - i.amount_paid ELSE 0 END END AS amount_refunded,
		   i.amount_remaining, i.currency, c.exponent AS currency_exponent, i.collection_method, i.attempt_count, i.next_attempt_at,
		   i.finalize_at, i.marked_at, i.paid_at, i.voided_at, i.customer_id, i.subscription_id, p.plan, i.managed_by, i.provider, i.account,
		   i.livemode, i.merchant_of_record, i.provider_number, f.provider_id AS provider_invoice_id, i.seller, i.metadata, i.created_at, i.updated_at
	FROM billing.invoices AS i
	JOIN billing.currencies AS c ON c.code = i.currency
	LEFT JOIN billing.subscriptions AS s ON s.id = i.subscription_id
	LEFT JOIN billing.plans AS p ON p.id = s.plan_id
	LEFT JOIN billing.provider_refs AS f
		ON f.object_id = i.id AND f.object_type = 'invoice' AND f.provider = i.provider AND f.account = i.account;
COMMENT ON VIEW billing.invoice_details IS 'Invoices: our own (managed_by local) and those of providers. Amounts are minor units of the currency.';
COMMENT ON COLUMN billing.invoice_details.total IS
	'The sum of its lines without credit and balance. Of a draft that waits for late usage: of the lines that it has so far.';
COMMENT ON COLUMN billing.invoice_details.plan IS 'The plan that the subscription has now.';
COMMENT ON COLUMN billing.invoice_details.currency_exponent IS 'An amount divided by 10 to the power of it is in units of the currency.';
COMMENT ON COLUMN billing.invoice_details.provider_number IS 'The number that the provider has printed on it.';
COMMENT ON COLUMN billing.invoice_details.number IS 'The number of our own; none where the provider is the seller.';
COMMENT ON COLUMN billing.invoice_details.merchant_of_record IS
	'The provider that is the seller: the row is a statement of its sale, with its tax and provider_number as soon as it is paid.';
COMMENT ON COLUMN billing.invoice_details.amount_due IS
	'What is to be paid: of our own, the total less credit_used and balance_used. Of these, amount_paid, amount_credited, amount_refunded and amount_remaining '
	'add up to it (a void one asks for nothing).';
COMMENT ON COLUMN billing.invoice_details.amount_paid IS 'What was received for it and is kept: less what refunds gave back, and without what was too much.';
COMMENT ON COLUMN billing.invoice_details.amount_credited IS 'Of our own: what credit notes took off before it was paid. What they give back of a paid one is in its balance or a refund.';
COMMENT ON COLUMN billing.invoice_details.amount_refunded IS
	'Of our own that was paid: what of that was paid back later, by create_refund() or a credit note. It opens nothing again. NULL: of a provider''s.';
COMMENT ON COLUMN billing.invoice_details.amount_remaining IS 'What is still to be paid; 0 once it is paid, whatever is paid back, and of a void one.';

CREATE FUNCTION billing.get_invoice(invoice_id uuid) RETURNS SETOF billing.invoice_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.invoice_details AS d WHERE d.id = get_invoice.invoice_id;
END;
COMMENT ON FUNCTION billing.get_invoice(uuid) IS 'The invoice: our own, or as its provider last told it; no row when there is none.';

CREATE FUNCTION billing.list_invoices(organization_id text) RETURNS SETOF billing.invoice_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.invoice_details AS d
	WHERE d.organization_id = list_invoices.organization_id
	ORDER BY d.issued_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_invoices(text) IS 'Invoices of an organisation, newest first.';

CREATE VIEW billing.invoice_line_details WITH (security_invoker = true) AS
	SELECT i.organization_id, i.number, l.position, l.kind, l.description, trim_scale(l.quantity) AS quantity,
		   trim_scale(l.unit_amount) AS unit_amount, l.amount, l.discount, l.tax, l.tax_inclusive, i.currency, c.exponent AS currency_exponent,
		   l.component, l.metric, l.tier, l.period_start, l.period_end, l.id, l.invoice_id, l.subscription_id, l.price_id, l.tax_rate_id,
		   l.coupon_id, l.grant_id, l.reverses
	FROM billing.invoice_lines AS l
	JOIN billing.invoices AS i ON i.id = l.invoice_id
	JOIN billing.currencies AS c ON c.code = i.currency;
COMMENT ON VIEW billing.invoice_line_details IS
	'The lines of our own invoices. Those of all kinds but credit and balance add up to the total, all of them to amount_due. What waits for '
	'its invoice is in invoice_lines.';

CREATE FUNCTION billing.invoice_lines_of(invoice_id uuid) RETURNS SETOF billing.invoice_line_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 10
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.invoice_line_details AS d WHERE d.invoice_id = invoice_lines_of.invoice_id ORDER BY d.position;
END;
COMMENT ON FUNCTION billing.invoice_lines_of(uuid) IS 'The lines of an invoice of our own, in their order; none of a provider''s.';

-- Checkout sessions and payment links: without their urls, which client_config() shows.

CREATE VIEW billing.checkout_session_details WITH (security_invoker = true) AS
	SELECT c.id, c.kind, c.organization_id, c.customer_id, c.mode, c.status, c.payment_status, c.provider, c.account, c.livemode,
		   c.provider_status, f.provider_id AS provider_checkout_session_id, c.name, c.currency, c.amount_total, c.line_items,
		   c.max_payments, c.success_url, c.cancel_url, c.payment_intent_id, c.subscription_id, c.setup_intent_id, c.invoice_id,
		   c.expires_at, c.completed_at, c.error_code,
		   ARRAY(SELECT o.operation FROM billing.outbox AS o WHERE o.object_id = c.id ORDER BY o.seq) AS pending,
		   c.metadata, c.created_at, c.updated_at
	FROM billing.checkout_sessions AS c
	LEFT JOIN billing.provider_refs AS f
		ON f.object_id = c.id AND f.object_type = 'checkout_session' AND f.provider = c.provider AND f.account = c.account;
COMMENT ON VIEW billing.checkout_session_details IS 'Checkout sessions and payment links, and what is still to be confirmed by the provider.';
COMMENT ON COLUMN billing.checkout_session_details.pending IS 'Requests about it that are not finished, in their order.';

CREATE FUNCTION billing.get_checkout_session(checkout_session_id uuid) RETURNS SETOF billing.checkout_session_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.checkout_session_details AS d WHERE d.id = get_checkout_session.checkout_session_id;
END;
COMMENT ON FUNCTION billing.get_checkout_session(uuid) IS
	'The checkout session or payment link as the provider last told it; no row when there is none.';

CREATE FUNCTION billing.list_checkout_sessions(organization_id text) RETURNS SETOF billing.checkout_session_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.checkout_session_details AS d
	WHERE d.organization_id = list_checkout_sessions.organization_id
	ORDER BY d.created_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_checkout_sessions(text) IS 'Checkout sessions of an organisation, newest first.';

CREATE FUNCTION billing.list_payment_links() RETURNS SETOF billing.checkout_session_details
LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.* FROM billing.checkout_session_details AS d
	WHERE d.kind = 'link'
	ORDER BY d.created_at DESC, d.id DESC;
END;
COMMENT ON FUNCTION billing.list_payment_links() IS 'Payment links, closed ones too, newest first.';
