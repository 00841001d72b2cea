-- Webhooks in without an application server: what PostgREST can be pointed at.
-- A schema of its own, so that nothing else of billing is on the web with it,
-- and one function for each provider, because PostgREST hands over the raw body
-- as the one unnamed argument and tells nothing else but the headers.  json
-- keeps the text as it was sent, which is what is signed; jsonb would not.

CREATE SCHEMA billing_webhooks;
COMMENT ON SCHEMA billing_webhooks IS
	'entry points of webhooks for PostgREST (db-schemas); nothing else is in it';

-- PostgREST answers an SQLSTATE that it does not know 400, and some of its own
-- meaning 401 to 409: for a provider that is a webhook that is no good.  Only
-- three errors mean that; with any other the webhook was good and we were not.
CREATE FUNCTION billing.webhook_request(provider text, body json) RETURNS json
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	headers jsonb;
	result record;
	message text;
	detail text;
	hint text;
BEGIN
	BEGIN
		headers := nullif(current_setting('request.headers', true), '')::jsonb;
	EXCEPTION WHEN data_exception THEN
		headers := NULL;
	END;
	IF jsonb_typeof(headers) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION 'the setting request.headers has no headers of a request'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'PostgREST sets it for each request, to a JSON object.',
				  HINT = 'From anywhere else call billing.handle_webhook(provider, payload, headers).';
	END IF;

	BEGIN
		SELECT h.event_id, h.type, h.status INTO result
		FROM billing.handle_webhook(provider, body::text, headers) AS h;
	EXCEPTION
		WHEN SQLSTATE 'JB001' OR SQLSTATE 'JB002' OR SQLSTATE 'JB013' OR transaction_rollback THEN
			RAISE;
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
			RAISE EXCEPTION '%', message
				USING ERRCODE = 'PT500', DETAIL = trim(SQLSTATE || ' ' || detail), HINT = hint;
	END;
	RETURN json_build_object('event_id', result.event_id, 'type', result.type, 'status', result.status);
END
$$;
COMMENT ON FUNCTION billing.webhook_request(text, json) IS
	'handle_webhook() for the functions of billing_webhooks: headers from the setting request.headers. Errors: JB001, JB002 and JB013 as '
	'they are (PostgREST: 400), 55000 there are no headers, any other as PT500 (PostgREST: 500) with its SQLSTATE in the detail.';

CREATE FUNCTION billing_webhooks.stripe_webhook(json) RETURNS json
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT billing.webhook_request('stripe', $1);
END;
COMMENT ON FUNCTION billing_webhooks.stripe_webhook(json) IS
	'Takes in a webhook of Stripe from PostgREST: POST /rpc/stripe_webhook with the raw body. Result: {event_id, type, status}, as '
	'handle_webhook() says. Errors: as webhook_request().';

CREATE FUNCTION billing_webhooks.conekta_webhook(json) RETURNS json
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT billing.webhook_request('conekta', $1);
END;
COMMENT ON FUNCTION billing_webhooks.conekta_webhook(json) IS
	'Takes in a webhook of Conekta from PostgREST; see stripe_webhook().';

CREATE FUNCTION billing_webhooks.polar_webhook(json) RETURNS json
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT billing.webhook_request('polar', $1);
END;
COMMENT ON FUNCTION billing_webhooks.polar_webhook(json) IS
	'Takes in a webhook of Polar from PostgREST; see stripe_webhook().';
