-- Webhook endpoints: where the providers send their events to.

CREATE TABLE billing.webhook_endpoints
(
	id uuid PRIMARY KEY DEFAULT billing.new_id(),
	provider text NOT NULL,
	account text NOT NULL,
	livemode boolean NOT NULL,
	url text NOT NULL CHECK (url ~ '^https?://'),
	state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'active', 'failed', 'deleted')),
	registered boolean NOT NULL DEFAULT true,
	enabled boolean NOT NULL DEFAULT true,
	events text[] NOT NULL DEFAULT '{}',
	api_version text,
	error_code text,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE billing.webhook_endpoints IS
	'Webhook endpoints at the providers, made by register_webhook() or found there by refresh_webhooks(). Their secret is the '
	'account''s (provider_accounts.webhook_secret).';
COMMENT ON COLUMN billing.webhook_endpoints.registered IS 'Made by register_webhook(); false: found at the provider.';
COMMENT ON COLUMN billing.webhook_endpoints.events IS 'Types of events that it is sent; empty: all that billing reads.';
COMMENT ON COLUMN billing.webhook_endpoints.error_code IS 'Why the provider did not do what was asked for last.';
-- Only one of ours for each address; what others made there may be there twice.
CREATE UNIQUE INDEX webhook_endpoints_url ON billing.webhook_endpoints (provider, account, url)
	WHERE registered AND state IN ('pending', 'active');

CREATE TRIGGER refuse_delete BEFORE DELETE ON billing.webhook_endpoints
	FOR EACH ROW EXECUTE FUNCTION billing.refuse_delete('Use billing.delete_webhook().');

SELECT pg_extension_config_dump('billing.webhook_endpoints', '');

CREATE FUNCTION billing.register_webhook(
	provider text,
	url text DEFAULT NULL,
	account text DEFAULT 'default',
	events text[] DEFAULT '{}')
RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_register_webhook';
COMMENT ON FUNCTION billing.register_webhook(text, text, text, text[]) IS
	'Makes a webhook endpoint at the provider and returns its id (await() tells its state: pending, active, failed). The secret that the '
	'provider makes for it is stored encrypted as that of the account; the one before stays valid for 24 hours. An account has one secret: '
	'a second endpoint takes the place of the first. url: https (http on loopback), default the setting webhook_url, a slash and the '
	'provider''s name. events: types as the provider calls them, empty for all that billing reads. One that is there already is returned, '
	'with its events changed where they differ. Errors: JB004 the provider has no endpoints, JB005 unknown provider, JB006 not '
	'configured, 22023 a URL that cannot be used, 23502 neither url nor webhook_url.';

CREATE FUNCTION billing.update_webhook(
	webhook_id uuid,
	url text DEFAULT NULL,
	enabled boolean DEFAULT NULL,
	events text[] DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_update_webhook';
COMMENT ON FUNCTION billing.update_webhook(uuid, text, boolean, text[]) IS
	'Changes a webhook endpoint at the provider; NULL leaves what is there. Errors: JB004 the provider cannot do it, JB005 unknown '
	'endpoint, JB008 it is deleted or was never made, 22023 a URL that cannot be used.';

CREATE FUNCTION billing.refresh_webhooks(provider text, account text DEFAULT 'default') RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_refresh_webhooks';
COMMENT ON FUNCTION billing.refresh_webhooks(text, text) IS
	'Asks the provider which webhook endpoints there are; list_webhooks() shows them when it has answered. Returns the id of the account, '
	'for await(). Errors: JB004 the provider has no endpoints, JB005 unknown provider, JB006 not configured.';

CREATE FUNCTION billing.rotate_webhook_secret(webhook_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_rotate_webhook_secret';
COMMENT ON FUNCTION billing.rotate_webhook_secret(uuid) IS
	'Has the provider make a new secret for the endpoint; it becomes the account''s, and the old one stays valid for 24 hours. Errors: '
	'JB004 the provider cannot do it, JB005 unknown endpoint, JB008 it is deleted or was never made.';

CREATE FUNCTION billing.revoke_webhook_secret(provider text, account text DEFAULT 'default') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	had boolean;
BEGIN
	SELECT a.previous_webhook_secret_until > clock_timestamp() INTO had
	FROM billing.provider_accounts AS a
	WHERE a.provider = revoke_webhook_secret.provider AND a.account = revoke_webhook_secret.account
	FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no account "%" at provider "%"', account, provider
			USING ERRCODE = 'JB005', HINT = 'billing.provider_accounts lists them.';
	END IF;
	UPDATE billing.provider_accounts AS a SET previous_webhook_secret = NULL, previous_webhook_secret_until = NULL, updated_at = now()
	WHERE a.provider = revoke_webhook_secret.provider AND a.account = revoke_webhook_secret.account
		AND a.previous_webhook_secret IS NOT NULL;
	RETURN coalesce(had, false);
END
$$;
COMMENT ON FUNCTION billing.revoke_webhook_secret(text, text) IS
	'The webhook secret that the account had before its present one is valid no more, as when it became known to others: without this it '
	'is for 24 hours. True when it still was. Give the account a new secret first. Errors: JB005 unknown account.';

CREATE FUNCTION billing.delete_webhook(webhook_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'billing_delete_webhook';
COMMENT ON FUNCTION billing.delete_webhook(uuid) IS
	'Deletes the endpoint at the provider; its row stays, with state deleted. The secret stays until another one takes its place. Errors: '
	'JB005 unknown endpoint, JB008 it is being made and nobody knows yet whether it is there.';

CREATE FUNCTION billing.list_webhooks(provider text DEFAULT NULL, account text DEFAULT NULL) RETURNS SETOF billing.webhook_endpoints
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT e.* FROM billing.webhook_endpoints AS e
	WHERE e.state <> 'deleted' AND e.provider = coalesce(list_webhooks.provider, e.provider)
		AND e.account = coalesce(list_webhooks.account, e.account)
	ORDER BY e.provider, e.account, e.created_at, e.id;
END;
COMMENT ON FUNCTION billing.list_webhooks(text, text) IS
	'Webhook endpoints that are known here, of one provider and account or of all; refresh_webhooks() asks the provider.';
