-- Why something is not active or not paid, and what to do.

-- What is said of a state alone. Rows are in English, as errors and hints are.
CREATE FUNCTION billing.hint_for_payment(status text, id uuid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN CASE status
	WHEN 'pending' THEN format('wait for the provider; without a method: billing.confirm_payment_intent(%L, ...)', id)
	WHEN 'requires_action' THEN format('the customer has to act: billing.client_config(%L) says how, and until when', id)
	WHEN 'processing' THEN 'wait: direct debits take days'
	WHEN 'requires_capture' THEN format('billing.capture_payment_intent(%L) or billing.cancel_payment_intent(%1$L)', id)
	WHEN 'failed' THEN format('another payment method: billing.confirm_payment_intent(%L, ...); of an invoice: billing.pay_invoice()', id)
	WHEN 'canceled' THEN 'make another one'
END;
COMMENT ON FUNCTION billing.hint_for_payment(text, uuid) IS 'What to do about a payment intent in this state, for explain(); NULL: nothing.';

CREATE FUNCTION billing.explain_payment(p billing.payment_intents) RETURNS TABLE (what text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'payment is ' || (p).status,
		   concat_ws(', ', format('%s %s at %s', (p).amount, (p).currency, (p).provider), (p).method, (p).error_code,
					 nullif((p).decline_code, (p).error_code), 'until ' || (p).expires_at,
					 CASE WHEN (p).amount_refunded > 0 THEN format('%s paid back', (p).amount_refunded) END,
					 CASE WHEN (p).fee_amount IS NOT NULL THEN format('fee %s %s', (p).fee_amount, (p).fee_currency) END),
		   billing.hint_for_payment((p).status, (p).id)
	UNION ALL
	SELECT 'bank said no', format('%s: %s', r.code, r.action),
		   CASE r.action WHEN 'retry' THEN 'it may succeed later' WHEN 'new_method' THEN 'the customer has to give another payment method'
						 ELSE 'it is not tried again by itself' END
	FROM (SELECT d.code, d.action FROM billing.decline_rules AS d
		  WHERE (p).status = 'failed' AND d.provider IN ((p).provider, '') AND d.code IN ((p).decline_code, (p).error_code)
		  ORDER BY d.code = (p).decline_code DESC, d.provider <> '' DESC LIMIT 1) AS r;
END;
COMMENT ON FUNCTION billing.explain_payment(billing.payment_intents) IS 'What explain() says of a payment intent itself.';

CREATE FUNCTION billing.explain_invoice(i billing.invoices) RETURNS TABLE (what text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'invoice is ' || (i).status,
		   concat_ws(', ', (i).number, format('%s %s', (i).total, (i).currency), CASE WHEN (i).amount_remaining > 0 THEN format('%s left to pay', (i).amount_remaining) END,
					 CASE WHEN (i).managed_by = 'local' AND (i).status = 'paid' AND (i).amount_due - (i).amount_credited > (i).amount_paid
						  THEN format('%s of it paid back', (i).amount_due - (i).amount_credited - (i).amount_paid) END,
					 'due ' || (i).due_at, (i).error_code),
		   CASE WHEN (i).managed_by = 'provider' AND (i).status IN ('draft', 'open') THEN format('%s collects it', (i).provider)
				WHEN (i).status = 'draft' AND (i).marked_at IS NOT NULL AND EXISTS (SELECT FROM billing.postponed_work AS w WHERE w.object_id = (i).id)
				THEN 'it cannot be numbered: billing.attention says why'
				WHEN (i).status = 'draft' AND (i).marked_at IS NOT NULL THEN 'it waits for its number: the worker gives it, see billing.worker_status'
				WHEN (i).status = 'draft' AND (i).finalize_at IS NOT NULL
				THEN format('it waits for late usage until %s; billing.finalize_invoice(%L) does not wait', (i).finalize_at, (i).id)
				WHEN (i).status = 'draft' THEN format('billing.finalize_invoice(%L)', (i).id)
				WHEN (i).status = 'open' THEN format('billing.pay_invoice(%L), or billing.mark_invoice_paid(%1$L, ...) for what came by other ways', (i).id)
				WHEN (i).status = 'uncollectible' THEN format('it was given up; what comes all the same: billing.mark_invoice_paid(%L, ...)', (i).id) END
	UNION ALL
	SELECT 'unused time is not given back', format('%s %s of "%s" from %s', n.amount, (i).currency, n.description, n.period_start),
		   'when the invoice is paid, a credit note gives it to the balance'
	FROM billing.not_given_back((i).id) AS n
	WHERE (i).status IN ('open', 'uncollectible')
	UNION ALL
	SELECT 'balance was taken back', format('%s %s that changes had given back of it', - sum(b.amount), (i).currency), 'it is given again as the invoice is paid'
	FROM billing.customer_balance_entries AS b
	WHERE b.source_id = (i).id AND b.reason = 'invoice_given_up'
	HAVING sum(b.amount) <> 0
	UNION ALL
	SELECT 'balance was taken back', format('%s %s that changes and credit notes had given back of what was refunded or disputed', - sum(b.amount), (i).currency),
		   'it is given again where a refund fails or a dispute is won'
	FROM billing.customer_balance_entries AS b
	WHERE b.source_id = (i).id AND b.reason = 'invoice_refunded'
	HAVING sum(b.amount) <> 0
	UNION ALL
	SELECT 'customer has no payment method', 'nothing can be charged', format('billing.attach_payment_method(%L, ..., set_default => true)', (i).customer_id)
	FROM billing.customers AS c
	WHERE c.id = (i).customer_id AND (i).managed_by = 'local' AND (i).status = 'open' AND (i).collection_method = 'charge_automatically'
		AND NOT EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.id = (i).subscription_id AND s.collect_by IS NOT NULL)
		AND NOT EXISTS (SELECT FROM billing.payment_methods AS m WHERE m.customer_id = c.id AND m.state = 'attached' AND m.is_default)
		AND NOT EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.id = (i).subscription_id AND s.payment_method_id IS NOT NULL)
	UNION ALL
	SELECT * FROM (SELECT format('attempt %s %s', a.attempt, a.state),
						  concat_ws(', ', a.kind, a.cause, a.decline_code, CASE a.state WHEN 'planned' THEN 'due ' || a.due_at ELSE 'at ' || coalesce(a.finished_at, a.started_at) END),
						  CASE a.state WHEN 'planned' THEN format('billing.pay_invoice(%L) does not wait', (i).id) END
				   FROM billing.dunning_attempts AS a
				   WHERE a.invoice_id = (i).id AND (i).status IN ('open', 'uncollectible') AND a.state <> 'canceled'
				   ORDER BY a.due_at, a.attempt) AS a
	UNION ALL
	SELECT e.* FROM billing.payment_intents AS p CROSS JOIN LATERAL billing.explain_payment(p) AS e
	WHERE p.invoice_id = (i).id AND (i).status = 'open' AND p.status IN ('pending', 'requires_action', 'processing', 'requires_capture');
END;
COMMENT ON FUNCTION billing.explain_invoice(billing.invoices) IS 'What explain() says of an invoice itself, and of what collects it.';

CREATE FUNCTION billing.explain_subscription(s billing.subscriptions) RETURNS TABLE (what text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN t.starts_at IS NULL THEN 'subscription is ' || (s).status ELSE 'subscription is to begin' END,
		   concat_ws(', ', (SELECT p.plan FROM billing.plans AS p WHERE p.id = (s).plan_id),
					 CASE (s).managed_by WHEN 'local' THEN 'billed by us' ELSE 'billed by ' || (s).provider END, 'since ' || (s).status_since,
					 'at ' || t.starts_at,
					 CASE (s).status WHEN 'incomplete' THEN 'until ' || (s).incomplete_until WHEN 'trialing' THEN 'until ' || (s).trial_end END, (s).error_code),
		   CASE (s).status WHEN 'incomplete' THEN CASE WHEN t.starts_at IS NOT NULL THEN format('it begins by itself; billing.cancel_subscription(%L) ends it before', (s).id)
														   ELSE 'its first invoice has to be paid' END
						   WHEN 'past_due' THEN 'its invoice has to be paid, or another payment method given'
						   WHEN 'unpaid' THEN 'nothing is tried any more: when its invoice is paid it goes on'
						   WHEN 'paused' THEN format('billing.resume_subscription(%L)', (s).id)
						   WHEN 'trialing' THEN CASE WHEN (s).cancel_at_period_end THEN format('it ends with its trial; billing.resume_subscription(%L) undoes that', (s).id) END
						   WHEN 'active' THEN CASE WHEN (s).cancel_at_period_end THEN format('it ends with its period; billing.resume_subscription(%L) undoes that', (s).id) END
						   ELSE 'it is over: billing.subscribe() makes another one' END
	FROM (SELECT min(c.due_at) AS starts_at FROM billing.scheduled_changes AS c
		  WHERE c.subscription_id = (s).id AND c.kind = 'start' AND c.state = 'pending') AS t
	UNION ALL
	SELECT * FROM (SELECT e.* FROM billing.invoices AS i CROSS JOIN LATERAL billing.explain_invoice(i) AS e
				   WHERE i.subscription_id = (s).id AND i.status IN ('draft', 'open') AND (s).status NOT IN ('canceled', 'incomplete_expired')
				   ORDER BY i.issued_at, i.id) AS i;
END;
COMMENT ON FUNCTION billing.explain_subscription(billing.subscriptions) IS 'What explain() says of a subscription itself, and of its open invoices.';

CREATE FUNCTION billing.explain(id uuid) RETURNS TABLE (what text, detail text, hint text)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	subscription billing.subscriptions;
	invoice billing.invoices;
	payment billing.payment_intents;
BEGIN
	SELECT * INTO subscription FROM billing.subscriptions AS o WHERE o.id = explain.id;
	SELECT * INTO invoice FROM billing.invoices AS o WHERE o.id = explain.id;
	SELECT * INTO payment FROM billing.payment_intents AS o WHERE o.id = explain.id;
	IF subscription.id IS NOT NULL THEN
		RETURN QUERY SELECT * FROM billing.explain_subscription(subscription);
	ELSIF invoice.id IS NOT NULL THEN
		RETURN QUERY SELECT * FROM billing.explain_invoice(invoice);
	ELSIF payment.id IS NOT NULL THEN
		RETURN QUERY SELECT * FROM billing.explain_payment(payment);
	ELSE
		RAISE EXCEPTION 'unknown subscription, invoice or payment intent "%"', explain.id
			USING ERRCODE = 'JB005', HINT = 'billing.list_subscriptions(), list_invoices() and list_payment_intents() list them.';
	END IF;
	RETURN QUERY
	SELECT 'request is ' || o.state, concat_ws(', ', o.operation, 'next at ' || o.next_attempt_at, o.error_type, o.error_code), 'see billing.outbox_status'
	FROM billing.outbox AS o
	WHERE o.object_id = explain.id AND o.state <> 'dead'
	UNION ALL
	-- its account, too: what is stopped or held is neither sent nor collected
	SELECT a.what, a.detail, a.hint
	FROM billing.attention AS a
	WHERE a.object_id = explain.id
		OR a.object_type = 'provider_account' AND a.object_id = (SELECT n.id FROM billing.provider_accounts AS n
			WHERE n.provider = coalesce(subscription.provider, invoice.provider, payment.provider)
				AND n.account = coalesce(subscription.account, invoice.account, payment.account));
END
$$;
COMMENT ON FUNCTION billing.explain(uuid) IS
	'Why a subscription, an invoice or a payment intent is not active or paid, and what to do: its own state first, then its open invoices, '
	'attempts to collect them, payments and requests under way, and what the view attention has of it and of its account. hint is NULL where '
	'nothing has to be done. Asks no provider. Errors: JB005 unknown id.';
