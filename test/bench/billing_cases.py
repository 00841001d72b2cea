"""The billing engine: an invoice run beside the same rows written by plain SQL, and single calls."""

import os
import statistics
import sys
import threading

from frame import (
    PAIRS,
    QUICK,
    TOLERANCE,
    Database,
    free_port,
    in_turns,
    percentile,
    report,
    report_ratios,
    seconds_of,
    spread,
    wait_for,
)
from postgres import Session

SUBSCRIPTIONS = 10_000 if QUICK else 100_000
RUNS = 3  # of a minute each
NUMBERED = 5_000 if QUICK else 20_000
CALLS = 50 if QUICK else 200

# Customers whose provider is told nothing, and subscriptions that are sent an
# invoice of three lines: 29.00, 5 seats of 9.00, 5.00.
CATALOGUE = """
SELECT billing.create_plan('team', 'Team', 2900, 'USD');
SELECT billing.create_price('team', 900, 'USD', component => 'seats');
SELECT billing.create_price('team', 500, 'USD', component => 'storage');
SELECT billing.set_seller('Seller Ltd', country => 'US');
"""
CUSTOMERS = """
SELECT count(billing.create_customer('org_' || i, 'user' || i || '@example.com', 'Name ' || i, 'US', 'stripe', currency => 'USD'))
FROM generate_series(1, {count}) AS i;
"""
FORGET_REQUESTS = """
DELETE FROM billing.outbox;
UPDATE billing.provider_accounts SET stopped_at = NULL, stopped_reason = NULL WHERE provider = 'stripe';
"""
FILL = """
INSERT INTO billing.subscriptions (customer_id, organization_id, plan_id, plan_group, price_id, status, managed_by, provider, account, livemode,
	currency, zone, billing_anchor, schedule_start, collection_method, trial_end_behavior, current_period_start, current_period_end)
SELECT c.id, c.organization_id, p.id, p.plan_group, r.id, 'active', 'local', c.provider, c.account, c.livemode,
	'USD', 'UTC', now(), now(), 'send_invoice', 'cancel', now(), now() + interval '1 month'
FROM billing.customers AS c
CROSS JOIN billing.plans AS p
JOIN billing.prices AS r ON r.plan_id = p.id AND r.component = 'base'
WHERE p.plan = 'team';
INSERT INTO billing.subscription_items (subscription_id, component, price_id, quantity)
SELECT s.id, r.component, r.id, CASE r.component WHEN 'seats' THEN 5 ELSE 1 END
FROM billing.subscriptions AS s
JOIN billing.prices AS r ON r.plan_id = s.plan_id;
"""

# Each run has a moment of its own at which all periods end.
END_PERIODS = """
UPDATE billing.subscriptions SET billing_anchor = {moment}, schedule_start = {moment} - interval '1 month',
	current_period_start = {moment} - interval '1 month', current_period_end = {moment}, next_due_at = {due}
"""

# What an engine run leaves behind, as rows that are there already: the script has nothing to compute.
REFERENCE_ROWS = """
CREATE TEMP TABLE renewed AS
SELECT s.*, billing.new_id() AS invoice_id, s.current_period_end AS starts, s.current_period_end + interval '1 month' AS ends
FROM billing.subscriptions AS s;
CREATE TEMP TABLE billed AS
SELECT r.price_id, r.component, v.*
FROM (VALUES ('base', 1, 'base', 'Team', 1, 2900), ('seats', 2, 'seats', 'Team: seats', 5, 900), ('storage', 3, 'component', 'Team: storage', 1, 500))
	AS v (name, position, kind, description, quantity, unit_amount)
JOIN (SELECT DISTINCT component, price_id FROM billing.subscription_items) AS r ON r.component = v.name;
ANALYZE renewed, billed;
"""
REFERENCE = """
BEGIN;
UPDATE billing.subscriptions AS s
SET current_period_start = r.starts, current_period_end = r.ends, next_due_at = r.ends, due_failures = 0, due_error = NULL, updated_at = now()
FROM renewed AS r
WHERE s.id = r.id;
INSERT INTO billing.invoices (id, customer_id, organization_id, subscription_id, provider, account, livemode, status, managed_by, billing_reason,
	currency, subtotal, discount, total, tax, credit_used, balance_used, amount_due, amount_remaining, period_start, period_end, collection_method,
	marked_at, issued_at)
SELECT r.invoice_id, r.customer_id, r.organization_id, r.id, r.provider, r.account, r.livemode, 'draft', 'local', 'subscription_cycle',
	r.currency, 7900, 0, 7900, 0, 0, 0, 7900, 7900, r.starts, r.ends, 'send_invoice', r.starts, r.starts
FROM renewed AS r;
INSERT INTO billing.invoice_lines (invoice_id, position, kind, subscription_id, component, price_id, description, quantity, unit_amount, amount,
	period_start, period_end, whole_start, whole_end, whole_price)
SELECT r.invoice_id, b.position, b.kind, r.id, b.component, b.price_id, b.description, b.quantity, b.unit_amount, b.quantity * b.unit_amount,
	r.starts, r.ends, r.starts, r.ends, b.quantity * b.unit_amount
FROM renewed AS r CROSS JOIN billed AS b;
UPDATE billing.invoices AS i
SET status = 'open', number = 'REF-' || n.number, series_id = '{series}', series_number = n.number, due_at = n.starts + interval '30 days',
	next_attempt_at = n.starts + interval '30 days', seller_name = 'default', seller = '{{"name": "Seller Ltd", "country": "US"}}',
	buyer = '\\x{buyer}', updated_at = now()
FROM (SELECT r.invoice_id, r.starts, row_number() OVER (ORDER BY r.starts, r.invoice_id) AS number FROM renewed AS r) AS n
WHERE i.id = n.invoice_id;
INSERT INTO billing.dunning_attempts (invoice_id, organization_id, attempt, kind, cause, due_at, state, started_at, finished_at)
SELECT r.invoice_id, r.organization_id, 1, 'reminder', 'issue', r.starts, 'succeeded', r.starts, r.starts
FROM renewed AS r;
WITH event AS (
	INSERT INTO billing.events (type, object, id, organization_id, before_state, after_state)
	SELECT e.type, 'invoice', r.invoice_id, r.organization_id, e.before, 'open'
	FROM renewed AS r CROSS JOIN (VALUES ('invoice.finalized', 'draft'), ('invoice.sent', 'open')) AS e (type, before)
	RETURNING seq)
INSERT INTO billing.events_unsent (seq) SELECT seq FROM event;
COMMIT
"""
LEFT = (
    "SELECT EXISTS (SELECT FROM billing.subscriptions WHERE next_due_at <= now()) OR EXISTS (SELECT FROM billing.invoices "
    "WHERE managed_by = 'local' AND status = 'draft' AND marked_at IS NOT NULL)"
)


def billing_database(name, customers):
    database = Database(name, free_port())
    database.session.rows(CATALOGUE)
    database.stop_account()
    database.session.rows(CUSTOMERS.format(count=customers))
    database.session.rows(FORGET_REQUESTS)
    return database


def settle(database):
    """Nothing is left of the run before, and statistics are those of the tables as they are."""
    session = database.session
    wait_for("announcements", lambda: session.value("SELECT NOT EXISTS (SELECT FROM billing.events_unsent)") == "t", seconds=600, pause=0.5)
    session.rows("VACUUM ANALYZE")
    session.rows("CHECKPOINT")


def numbered(session, moment):
    return int(session.value(f"SELECT count(*) FROM billing.invoices WHERE period_start = {moment} AND status = 'open' AND total = 7900"))


def cpu_seconds(pid):
    """Of a process, so that work of others on this machine does not count."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def engine_run(database):
    """The worker, and a session that has come to help; invoices a second, and a second of CPU."""
    session = database.session
    settle(database)
    moment = f"timestamptz '{session.value('SELECT date_trunc($$second$$, now())')}'"
    session.rows(END_PERIODS.format(moment=moment, due=moment))
    helper = Session(database.name)
    pids = (database.worker_pid(), int(helper.value("SELECT pg_backend_pid()")))
    cpu = sum(map(cpu_seconds, pids))
    thread = threading.Thread(target=helper.rows, args=("CALL billing.run_worker()",))
    begin = float(session.value("SELECT extract(epoch FROM clock_timestamp())"))
    thread.start()
    wait_for("invoices", lambda: session.value(LEFT) == "f", seconds=1800, pause=0.1)
    seconds = float(session.value("SELECT extract(epoch FROM clock_timestamp())")) - begin
    thread.join()
    cpu = sum(map(cpu_seconds, pids)) - cpu
    helper.close()
    if numbered(session, moment) != SUBSCRIPTIONS:
        sys.exit(f"test/bench/run: {numbered(session, moment)} invoices instead of {SUBSCRIPTIONS}")
    return SUBSCRIPTIONS / seconds, SUBSCRIPTIONS / cpu


def script_run(database):
    session = database.session
    settle(database)
    # not a second that an engine run can have
    moment = f"timestamptz '{session.value('SELECT date_trunc($$second$$, now()) + interval $$0.5 s$$')}'"
    session.rows(END_PERIODS.format(moment=moment, due="NULL"))
    writer = Session(database.name)
    writer.rows(REFERENCE_ROWS)
    buyer = writer.value("SELECT encode(buyer, 'hex') FROM billing.invoices WHERE buyer IS NOT NULL LIMIT 1")
    series = writer.value("SELECT gen_random_uuid()")
    pid = int(writer.value("SELECT pg_backend_pid()"))
    cpu = cpu_seconds(pid)
    seconds = seconds_of(writer, REFERENCE.format(series=series, buyer=buyer))
    cpu = cpu_seconds(pid) - cpu
    writer.close()
    if numbered(session, moment) != SUBSCRIPTIONS:
        sys.exit("test/bench/run: the reference has not written all invoices")
    return SUBSCRIPTIONS / seconds, SUBSCRIPTIONS / cpu


def bench_invoice_run():
    database = billing_database("bench_invoice_run", SUBSCRIPTIONS)
    session = database.session
    session.rows(FILL)
    # the script copies the size of a sealed buyer
    session.rows("SELECT billing.create_invoice(id, '[{\"description\": \"Work\", \"amount\": 100}]') FROM billing.customers LIMIT 1")
    wait_for("a number", lambda: session.value(LEFT) == "f")
    ours, theirs = [], []
    for i in range(RUNS):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            (ours, theirs)[which].append((engine_run, script_run)[which](database))
    case = f"invoice run, {SUBSCRIPTIONS} of 3 lines"
    report_ratios(case, [run[0] for run in ours], [run[0] for run in theirs], 0.3)
    # the engine has two processes, the script one
    report_ratios(f"{case}, by CPU", [run[1] for run in ours], [run[1] for run in theirs], 0.3, unit=" a CPU second")
    if session.value("SELECT count(*) FROM billing.ledger_imbalance") != "0":
        sys.exit("test/bench/run: the ledger does not balance")
    database.drop()


def bench_numbering():
    """Invoices by hand that become final with one commit; the worker alone numbers them."""
    database = billing_database("bench_numbering", NUMBERED)
    session = database.session
    rates = []
    for _ in range(PAIRS):
        settle(database)
        session.rows("BEGIN")
        session.rows("SELECT count(billing.create_invoice(c.id, '[{\"description\": \"Work\", \"amount\": 100}]')) FROM billing.customers AS c")
        pid = database.worker_pid()
        cpu = cpu_seconds(pid)
        session.rows("COMMIT")
        wait_for("numbers", lambda: session.value(LEFT) == "f", seconds=300)
        rates.append(NUMBERED / (cpu_seconds(pid) - cpu))
    report(f"numbering {NUMBERED} invoices", f"{statistics.median(rates):.0f} a CPU second", statistics.median(rates) >= TOLERANCE * 5000,
           "5000/s of one core", ratio=spread(rates, 0))
    database.drop()


# What subscribe() writes.
SUBSCRIBE_ROWS = """
WITH s AS (
	INSERT INTO billing.subscriptions (customer_id, organization_id, plan_id, plan_group, price_id, status, managed_by, provider, account, livemode,
		currency, zone, billing_anchor, schedule_start, collection_method, days_until_due, trial_end_behavior, current_period_start,
		current_period_end, next_due_at)
	SELECT c.id, c.organization_id, p.id, p.plan_group, r.id, 'active', 'local', c.provider, c.account, c.livemode, 'USD', 'UTC', now(), now(),
		'send_invoice', 30, 'cancel', now(), now() + interval '1 month', now() + interval '1 month'
	FROM billing.customers AS c CROSS JOIN billing.plans AS p JOIN billing.prices AS r ON r.plan_id = p.id AND r.component = 'base'
	WHERE p.plan = 'team' AND c.organization_id = '{organization}'
	RETURNING *),
items AS (
	INSERT INTO billing.subscription_items (subscription_id, component, price_id)
	SELECT s.id, r.component, r.id FROM s JOIN billing.prices AS r ON r.plan_id = s.plan_id),
invoice AS (
	INSERT INTO billing.invoices (customer_id, organization_id, subscription_id, provider, account, livemode, status, managed_by, billing_reason,
		currency, subtotal, discount, total, tax, credit_used, balance_used, amount_due, amount_remaining, period_start, period_end,
		collection_method, days_until_due, marked_at, issued_at)
	SELECT s.customer_id, s.organization_id, s.id, s.provider, s.account, s.livemode, 'draft', 'local', 'subscription_create', 'USD', 4300, 0, 4300,
		0, 0, 0, 4300, 4300, s.current_period_start, s.current_period_end, 'send_invoice', 30, now(), now()
	FROM s RETURNING *),
lines AS (
	INSERT INTO billing.invoice_lines (invoice_id, position, kind, subscription_id, component, price_id, description, quantity, unit_amount, amount,
		period_start, period_end, whole_start, whole_end, whole_price)
	SELECT i.id, row_number() OVER (), CASE r.component WHEN 'storage' THEN 'component' ELSE r.component END, s.id, r.component, r.id, 'Team', 1, 900,
		900, i.period_start, i.period_end, i.period_start, i.period_end, 900
	FROM invoice AS i CROSS JOIN s JOIN billing.prices AS r ON r.plan_id = s.plan_id),
event AS (
	INSERT INTO billing.events (type, object, id, organization_id, after_state)
	SELECT 'subscription.active', 'subscription', s.id, s.organization_id, 'active' FROM s RETURNING seq)
INSERT INTO billing.events_unsent (seq) SELECT seq FROM event
"""


def milliseconds(session, statements):
    return [1000 * seconds_of(session, statement) for statement in statements]


def bench_engine_calls():
    """subscribe() beside its rows in SQL, and what is asked before anything is billed."""
    database = billing_database("bench_engine_calls", 2 * PAIRS * CALLS)
    session = database.session
    fresh = iter(range(1, 2 * PAIRS * CALLS + 1))

    def subscribe():
        return statistics.median(milliseconds(session, (
            f"SELECT billing.subscribe('org_{next(fresh)}', 'team', managed_by => 'local', collection_method => 'send_invoice', days_until_due => 30)"
            for _ in range(CALLS))))

    def insert():
        return statistics.median(milliseconds(session, (SUBSCRIBE_ROWS.format(organization=f"org_{next(fresh)}") for _ in range(CALLS))))

    settle(database)
    ours, theirs = in_turns(subscribe, insert)
    slower = [a / b for a, b in zip(ours, theirs)]
    report("subscribe, local", f"{statistics.median(ours):.2f} ms", True, "", reference=f"{statistics.median(theirs):.2f} ms", ratio=spread(slower, 2))
    some = [row[0] for row in session.rows(f"SELECT id FROM billing.subscriptions LIMIT {CALLS}")]
    for what, sql in (
        ("preview_invoice", "SELECT count(*) FROM billing.preview_invoice('{}')"),
        ("preview_update", "SELECT count(*) FROM billing.preview_update('{}', quantity => 7)"),
        ("simulate, a year", "SELECT count(*) FROM billing.simulate((SELECT organization_id FROM billing.subscriptions WHERE id = '{}'), now() + interval '1 year')"),
    ):
        times = milliseconds(session, (sql.format(id) for id in some))
        report(what, f"{statistics.median(times):.2f} ms", True, "", ratio=spread(times, 2), p50=f"{percentile(times, 50):.2f} ms",
               p99=f"{percentile(times, 99):.2f} ms")
    database.drop()


CASES = {
    "invoice_run": bench_invoice_run,
    "numbering": bench_numbering,
    "engine_calls": bench_engine_calls,
}
