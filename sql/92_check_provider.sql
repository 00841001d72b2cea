-- What can be told of an account without asking the provider.

CREATE FUNCTION billing.check_provider(provider text, account text DEFAULT 'default')
RETURNS TABLE (item text, ok boolean, value text, hint text)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 15
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	p billing.providers;
	a billing.provider_accounts;
	h billing.provider_health;
	endpoint billing.webhook_endpoints;
	url text;
	seller billing.sellers;
	billed boolean; -- by us
BEGIN
	SELECT * INTO p FROM billing.providers AS v WHERE v.name = check_provider.provider;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'unknown provider "%"', check_provider.provider
			USING ERRCODE = 'JB005', HINT = 'billing.providers lists them.';
	END IF;
	SELECT * INTO a FROM billing.provider_accounts AS v
	WHERE v.provider = check_provider.provider AND v.account = check_provider.account;
	RETURN QUERY SELECT 'configured', a.id IS NOT NULL AND NOT p.retired,
		CASE WHEN a.id IS NULL THEN 'no' WHEN p.retired THEN 'the provider is retired' ELSE 'yes' END,
		CASE WHEN a.id IS NULL THEN format('SELECT billing.configure_provider(%L, secret_key => ..., account => %L)', p.name, check_provider.account)
			 WHEN p.retired THEN format('UPDATE billing.providers SET retired = false WHERE name = %L', p.name) END;
	IF a.id IS NULL THEN
		RETURN;
	END IF;
	SELECT * INTO h FROM billing.provider_health AS v WHERE v.provider = a.provider AND v.account = a.account;
	SELECT * INTO endpoint FROM billing.webhook_endpoints AS e
	WHERE e.provider = a.provider AND e.account = a.account AND e.state <> 'deleted'
	ORDER BY e.registered DESC, e.state = 'active' DESC, e.created_at DESC LIMIT 1;
	SELECT * INTO seller FROM billing.sellers AS v WHERE v.is_default;
	billed := EXISTS (SELECT FROM billing.subscriptions AS v WHERE v.provider = a.provider AND v.account = a.account AND v.managed_by = 'local')
		OR EXISTS (SELECT FROM billing.invoices AS v WHERE v.provider = a.provider AND v.account = a.account AND v.managed_by = 'local');
	url := coalesce(rtrim((SELECT s.value FROM billing.settings AS s WHERE s.name = 'webhook_url'), '/') || '/' || p.name, 'https://...');

	RETURN QUERY VALUES
		('secret_key', h.configured, CASE WHEN p.embedded THEN 'not needed' WHEN h.configured THEN 'present' ELSE 'missing' END,
		 CASE WHEN NOT h.configured THEN format('SELECT billing.configure_provider(%L, secret_key => ..., account => %L)', a.provider, a.account) END),
		('mode', NULL::boolean, CASE WHEN a.livemode THEN 'live' ELSE 'test' END, NULL),
		('seller', CASE WHEN seller.name IS NOT NULL THEN true WHEN a.livemode AND billed THEN false END, coalesce(seller.name, 'has no name'),
		 CASE WHEN seller.name IS NULL THEN 'SELECT billing.set_seller(...): who issues our own invoices; in live mode they wait for it' END),
		('base_url', NULL, a.base_url, NULL),
		('bound_here', h.bound_here, CASE WHEN h.bound_here THEN 'yes' ELSE 'no' END,
		 CASE WHEN NOT h.bound_here THEN 'when the database that this one was copied from sends no more: SELECT billing.adopt_database()' END),
		('running', h.stopped_at IS NULL, coalesce('stopped: ' || h.stopped_reason, 'yes'),
		 CASE WHEN h.stopped_at IS NOT NULL THEN format('SELECT billing.configure_provider(%L, secret_key => ..., account => %L)', a.provider, a.account) END),
		('circuit', h.circuit = 'closed', h.circuit || coalesce(' until ' || h.circuit_until, ''),
		 CASE WHEN h.circuit <> 'closed' THEN 'calls failed one after the other: see billing.outbox_status for their errors' END),
		('throttled', h.throttled_until IS NULL, coalesce('until ' || h.throttled_until, 'no'),
		 CASE WHEN h.throttled_until IS NOT NULL THEN 'the provider asked for a pause: lower the option rate_per_second if that happens often' END),
		('dead_requests', h.dead = 0, h.dead::text,
		 CASE WHEN h.dead > 0 THEN 'billing.attention lists them' END),
		('webhook_secret', p.embedded OR a.webhook_secret IS NOT NULL,
		 CASE WHEN p.embedded THEN 'not needed' WHEN a.webhook_secret IS NOT NULL THEN 'present'
			  WHEN a.options ->> 'verify' = 'api' THEN 'missing: every webhook costs a request' ELSE 'missing' END,
		 CASE WHEN NOT p.embedded AND a.webhook_secret IS NULL
			  THEN format('SELECT billing.register_webhook(%L, %L, account => %L)', a.provider, url, a.account) END),
		('webhook_endpoint',
		 coalesce(p.embedded OR endpoint.state = 'active' AND endpoint.enabled, false) OR endpoint.id IS NULL AND h.last_webhook_at IS NOT NULL,
		 CASE WHEN p.embedded THEN 'not needed' WHEN endpoint.id IS NULL THEN 'none is known here'
			  ELSE concat_ws(' ', endpoint.url, endpoint.state, CASE WHEN NOT endpoint.enabled THEN 'disabled' END, endpoint.error_code) END,
		 CASE WHEN p.embedded OR endpoint.state = 'active' AND endpoint.enabled OR endpoint.id IS NULL AND h.last_webhook_at IS NOT NULL THEN NULL
			  WHEN endpoint.state = 'active' THEN format('SELECT billing.update_webhook(%L, enabled => true)', endpoint.id)
			  WHEN endpoint.state = 'pending' THEN 'wait for the provider''s answer'
			  ELSE format('SELECT billing.register_webhook(%L, %L, account => %L), or billing.refresh_webhooks() to see those made there',
						  a.provider, url, a.account) END),
		('last_webhook', CASE WHEN NOT p.embedded THEN h.last_webhook_at IS NOT NULL END, coalesce(h.last_webhook_at::text, 'never'),
		 CASE WHEN NOT p.embedded AND h.last_webhook_at IS NULL THEN 'have the provider send a test event to the endpoint' END),
		('capabilities', NULL,
		 coalesce((SELECT string_agg(c.v, ', ') FROM jsonb_array_elements_text(a.options -> 'capabilities') AS c (v)), 'none listed'),
		 (SELECT 'options => ''{"capabilities": [...]}'' for what this account has of: ' || string_agg(o.method, ', ' ORDER BY o.method)
		  FROM billing.optional_methods AS o
		  WHERE o.provider = a.provider AND o.optional AND NOT coalesce(a.options -> 'capabilities' ? o.method, false)));
END
$$;
COMMENT ON FUNCTION billing.check_provider(text, text) IS
	'What can be told of an account without asking the provider, a row for each item: configured, key, mode, who sells, binding, whether it is stopped, '
	'does not answer or asked for a pause, webhook secret, endpoint and last webhook, capabilities. ok is NULL where nothing can be wrong; '
	'hint says what to do. Errors: JB005 unknown provider.';
