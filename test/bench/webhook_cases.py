"""Webhooks: verification, and all of handle_webhook()."""

import functools
import os
import statistics
import subprocess
import sys
import time

from frame import (
    QUICK,
    TOLERANCE,
    Database,
    free_port,
    here,
    in_turns,
    pgbench_latencies,
    percentile,
    report,
    report_ratios,
    scratch,
    spread,
    write_script,
)

BODY_WEBHOOK = 2048  # of a webhook whose signature is checked


class Webhooks(Database):
    """A database with accounts at Stripe and Conekta, and the references of webhooks.sql."""

    def __init__(self, name):
        super().__init__(name, free_port())
        with open(os.path.join(here, "webhooks.sql"), encoding="utf-8") as file:
            self.session.rows(file.read())
        self.session.rows("UPDATE billing.settings SET value = '1 day' WHERE name = 'webhook_tolerance'")
        self.delivered = 0

    def subscribe(self, count):
        """Customers with a subscription each, as webhooks make them; the same rows for the reference."""
        self.session.rows("SELECT billing.link_price('00000000-0000-7000-8001-000000000002', 'stripe', 'price_1')")
        self.session.rows(
            "DO $$ DECLARE c uuid; e text; BEGIN "
            f"FOR i IN 1..{count} LOOP "
            "c := billing.create_customer('org_' || i, provider => 'stripe'); "
            "e := reference.event('evt_c' || i, 'customer.updated', jsonb_build_object('object', 'customer', 'id', 'cus_' || i, "
            "'metadata', jsonb_build_object('janua_ref', c)), 1500000000); "
            "PERFORM billing.handle_webhook('stripe', e, reference.headers(e, 'whsec_bench')); "
            "e := reference.event('evt_s' || i, 'customer.subscription.created', reference.subscription(i, 1), 1500000000); "
            "PERFORM billing.handle_webhook('stripe', e, reference.headers(e, 'whsec_bench')); "
            "END LOOP; END $$"
        )
        for table in ("provider_refs", "subscriptions"):
            self.session.rows(f"INSERT INTO reference.{table} SELECT * FROM billing.{table}")
        states = self.session.rows("SELECT state, count(*) FROM billing.webhook_events GROUP BY 1")
        if states != [["applied", str(2 * count)]]:
            sys.exit(f"test/bench/run: webhooks that make subscriptions: {states}")
        self.subscriptions = count

    def store_events(self, count):
        self.session.rows(
            "INSERT INTO billing.webhook_events (provider, account, event_id, livemode, type, provider_time, state, raw_body, "
            "attempts, handled_at, applied_at) SELECT 'stripe', 'default', 'evt_' || md5(i::text), false, 'invoice.paid', now(), 'applied', "
            f"decode(repeat(md5(i::text), 6), 'hex'), 1, now(), now() FROM generate_series(1, {count}) AS i"
        )
        self.session.rows("VACUUM ANALYZE billing.webhook_events")

    def prepare(self, count):
        """What is delivered next, signed beforehand."""
        self.session.rows(
            "INSERT INTO reference.deliveries SELECT n, 'evt_' || n, 'sub_' || i, q, to_timestamp(1600000000 + n), body, "
            "reference.headers(body, 'whsec_bench') FROM (SELECT n, i, q, reference.event('evt_' || n, 'customer.subscription.updated', "
            f"reference.subscription(i, q), 1600000000 + n) AS body FROM (SELECT n, n % {self.subscriptions} + 1 AS i, "
            f"2 + n % 1000 AS q FROM generate_series({self.delivered + 1}, {self.delivered + count}) AS n) AS e) AS d"
        )
        self.delivered += count
        self.session.rows("VACUUM ANALYZE reference.deliveries")

    def rewind(self):
        self.session.rows(f"ALTER SEQUENCE reference.next RESTART WITH {self.delivered + 1}")

    def check(self):
        states = self.session.rows(
            "SELECT DISTINCT state || coalesce(': ' || reason, '') FROM billing.webhook_events WHERE event_id ~ '^evt_[0-9]+$'"
        )
        if states != [["applied"]]:
            sys.exit(f"test/bench/run: webhooks ended as {states}")


@functools.cache
def build_verify_loop():
    program = os.path.join(scratch, "verify_loop")
    subprocess.run(["cc", "-O2", "-o", program, os.path.join(here, "verify_loop.c"), "-lcrypto"], check=True)
    return program


def stripe_body():
    return ('{"id":"evt_1","object":"event","data":"' + "x" * BODY_WEBHOOK)[: BODY_WEBHOOK - 2] + '"}'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def timed(session, sql, count):
    """How many in a second."""
    start = time.monotonic()
    verified = session.value(sql)
    rate = count / (time.monotonic() - start)
    if verified != str(count):
        sys.exit(f"test/bench/run: {verified} of {count} signatures are right")
    return rate


# The series number in the argument keeps the planner from asking once for all rows.
VERIFY_MANY = (
    "PREPARE {name} (text, jsonb, int) AS SELECT count(*) FROM generate_series(1, $3) AS i "
    "WHERE {function}({first}, CASE WHEN i > 0 THEN $1 END, $2)"
)


def signed_now(session, body):
    headers = session.value(f"SELECT reference.headers({literal(body)}, 'whsec_bench')")
    return headers, headers.split("t=")[1].split(",")[0]


def bench_verify_stripe():
    database = Webhooks("bench_verify_stripe")
    session, body, count = database.session, stripe_body(), 400_000
    path = os.path.join(scratch, "body")
    with open(path, "w", encoding="ascii") as file:
        file.write(body)
    headers, timestamp = signed_now(session, body)
    session.rows(VERIFY_MANY.format(name="ours", function="billing.verify_webhook", first="'stripe'"))
    execute = f"EXECUTE ours ({literal(body)}, {literal(headers)}, {count})"
    loop = [build_verify_loop(), "hmac", "whsec_bench", timestamp, path, str(count)]
    ours, theirs = in_turns(
        lambda: timed(session, execute, count),
        lambda: float(subprocess.run(loop, check=True, capture_output=True, text=True).stdout),
    )
    report_ratios("verify_webhook, 2 KiB of Stripe, beside bare HMAC", ours, theirs, 0.55)
    for i, (name, function) in enumerate((("one", "billing.verify_webhook('stripe', $1, $2)"), ("none", "$1 IS NOT NULL AND $2 IS NOT NULL"))):
        session.rows(f"PREPARE {name} (text, jsonb) AS SELECT {function}")
    each = 5_000
    single, empty = in_turns(
        lambda: statements(session, f"EXECUTE one ({literal(body)}, {literal(headers)})", each),
        lambda: statements(session, f"EXECUTE none ({literal(body)}, {literal(headers)})", each),
    )
    report_ratios("verify_webhook, a statement each, beside a statement without it", single, empty, 0)
    database.drop()


def statements(session, sql, count):
    start = time.monotonic()
    for _ in range(count):
        session.rows(sql)
    return count / (time.monotonic() - start)


def bench_verify_vs_pgcrypto():
    database = Webhooks("bench_verify_pgcrypto")
    session, body, count = database.session, stripe_body(), 100_000
    headers, _ = signed_now(session, body)
    session.rows(VERIFY_MANY.format(name="ours", function="billing.verify_webhook", first="'stripe'"))
    session.rows(VERIFY_MANY.format(name="theirs", function="reference.verify_webhook", first="'whsec_bench'"))
    arguments = f"({literal(body)}, {literal(headers)}, {count})"
    ours, theirs = in_turns(
        lambda: timed(session, "EXECUTE ours " + arguments, count),
        lambda: timed(session, "EXECUTE theirs " + arguments, count),
    )
    report_ratios("verify_webhook, 2 KiB of Stripe, beside pgcrypto in SQL", ours, theirs, 2)
    database.drop()


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=scratch).stdout


def bench_verify_conekta():
    database = Webhooks("bench_verify_conekta")
    session, body, count = database.session, stripe_body(), 25_000
    with open(os.path.join(scratch, "body"), "w", encoding="ascii") as file:
        file.write(body)
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "private.pem")
    openssl("pkey", "-in", "private.pem", "-pubout", "-out", "public.pem")
    openssl("dgst", "-sha256", "-sign", "private.pem", "-out", "signature", "body")
    digest = openssl("base64", "-A", "-in", "signature").decode()
    with open(os.path.join(scratch, "public.pem"), encoding="ascii") as file:
        session.rows(f"SELECT billing.configure_provider('conekta', 'key_bench', {literal(file.read())})")
    headers = session.value(f"SELECT reference.headers('', 'x') - 'Stripe-Signature' || jsonb_build_object('Digest', {literal(digest)})")
    session.rows(VERIFY_MANY.format(name="ours", function="billing.verify_webhook", first="'conekta'"))
    execute = f"EXECUTE ours ({literal(body)}, {literal(headers)}, {count})"
    paths = [os.path.join(scratch, name) for name in ("public.pem", "signature", "body")]
    loop = [build_verify_loop(), "rsa", *paths, str(count)]
    ours, theirs = in_turns(
        lambda: timed(session, execute, count),
        lambda: float(subprocess.run(loop, check=True, capture_output=True, text=True).stdout),
    )
    report_ratios("verify_webhook, RSA of Conekta, beside bare RSA", ours, theirs, 0.8)
    database.drop()


HANDLE_OURS = """SELECT (billing.handle_webhook('stripe', d.body, d.headers)).status
FROM reference.deliveries AS d WHERE d.n = (SELECT nextval('reference.next'));
"""
HANDLE_THEIRS = """SELECT reference.handle_webhook(d.event_id, d.subscription, d.quantity, d.happened, d.body)
FROM reference.deliveries AS d WHERE d.n = (SELECT nextval('reference.next'));
"""


def deliver(database, script, clients):
    """Fresh webhooks for about a second: how many in a second, p50 and p99 in ms."""
    database.rewind()
    count = clients * (400 if QUICK else 1000)
    database.prepare(count)
    return pgbench_latencies(database, script, clients, amount=("-t", str(count // clients)))


def report_deliveries(case, ours, theirs, floor, ceiling=None):
    """ceiling: of p99, in ms"""
    ratios = [a[0] / b[0] for a, b in zip(ours, theirs)]
    p99 = statistics.median(run[2] for run in ours)
    report(
        case,
        spread([run[0] for run in ours], 0) + "/s",
        statistics.median(ratios) >= TOLERANCE * floor and (ceiling is None or p99 <= ceiling / TOLERANCE),
        f"{floor:.2f}" + (f", p99 {ceiling} ms" if ceiling else ""),
        reference=f"{statistics.median(run[0] for run in theirs):.0f}/s",
        ratio=spread(ratios, 3),
        p50=f"{statistics.median(run[1] for run in ours):.2f} ms",
        p99=f"{p99:.2f} ms, reference {statistics.median(run[2] for run in theirs):.2f} ms",
    )


def bench_handle_webhook():
    database = Webhooks("bench_handle_webhook")
    database.subscribe(200 if QUICK else 2000)
    scripts = [write_script("handle_ours", HANDLE_OURS), write_script("handle_theirs", HANDLE_THEIRS)]
    for clients in (1, 8):
        ours, theirs = in_turns(*(lambda script=script: deliver(database, script, clients) for script in scripts))
        floors = (0.6, 5) if clients == 8 else (0,)
        report_deliveries(f"handle_webhook, {clients} connection{'s' if clients > 1 else ''}", ours, theirs, *floors)
    database.check()
    database.drop()


def bench_handle_webhook_backlog():
    few, many = Webhooks("bench_webhooks_few"), Webhooks("bench_webhooks_many")
    stored = 100_000 if QUICK else 1_000_000
    for database, count in ((few, 1000), (many, stored)):
        database.subscribe(200 if QUICK else 2000)
        database.store_events(count)
    script = write_script("handle_ours", HANDLE_OURS)
    ours, theirs = in_turns(lambda: deliver(many, script, 8), lambda: deliver(few, script, 8))
    report_deliveries(f"handle_webhook, {stored} stored events beside 1000", ours, theirs, 0.7)
    for database in (few, many):
        database.check()
        database.drop()


CASES = {
    "verify_stripe": bench_verify_stripe,
    "verify_vs_pgcrypto": bench_verify_vs_pgcrypto,
    "verify_conekta": bench_verify_conekta,
    "handle_webhook": bench_handle_webhook,
    "handle_webhook_backlog": bench_handle_webhook_backlog,
}
