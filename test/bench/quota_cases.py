"""Keeping to a limit: consume() beside one statement that updates a counter and inserts the event."""

import sys

from frame import Database, free_port, in_turns, pgbench_latencies, report_rates, write_script

ORGANIZATIONS = 1000

# What plain SQL does: a table of counters, and one with the columns and indexes
# of a partition of usage_events.
REFERENCE = f"""
CREATE SCHEMA reference;
CREATE TABLE reference.events (LIKE billing.usage_events INCLUDING ALL EXCLUDING CONSTRAINTS, PRIMARY KEY (organization_id, id));
CREATE INDEX ON reference.events (organization_id, metric, occurred_at);
CREATE INDEX ON reference.events (recorded_in);
CREATE TABLE reference.counters (LIKE billing.usage_counters INCLUDING ALL) WITH (fillfactor = 50);
INSERT INTO reference.counters (organization_id, metric) SELECT 'org_' || i, 'api_calls' FROM generate_series(1, {ORGANIZATIONS}) AS i;
"""
OURS = "SELECT billing.consume('org_' || :o, 'api_calls');"
# the toughest form: a transaction of one statement, the limit in hand
THEIRS = """WITH taken AS (
	UPDATE reference.counters SET used = used + 1
	WHERE organization_id = 'org_' || :o AND metric = 'api_calls' AND used + reserved + 1 <= 1000000000 RETURNING 1)
INSERT INTO reference.events (occurred_at, recorded_in, organization_id, metric, quantity)
SELECT now(), pg_current_xact_id()::text::bigint, 'org_' || :o, 'api_calls', 1 FROM taken;"""
# who may use that much, and no more
LIMIT = "UPDATE billing.plan_features SET value = '1000000000' WHERE feature = 'api_calls'"


def bench(case, name, organizations, clients):
    database = Database(name, free_port())
    database.session.rows(LIMIT)
    database.session.rows(f"SELECT count(billing.consume('org_' || i, 'api_calls')) FROM generate_series(1, {ORGANIZATIONS}) AS i")
    database.session.rows(REFERENCE)
    scripts = [
        write_script(f"{name}_{side}", f"\\set o random(1, {organizations})\n{statement}\n")
        for side, statement in enumerate((OURS, THEIRS))
    ]
    ours, theirs = in_turns(*[lambda script=script: pgbench_latencies(database, script, clients) for script in scripts])
    report_rates(case, ours, theirs, 0.85)
    counted = database.session.value(
        "SELECT count(*) FROM billing.usage_counters AS c WHERE c.used <> "
        "(SELECT count(*) FROM billing.usage_events AS u WHERE u.organization_id = c.organization_id AND u.metric = c.metric)"
    )
    if counted != "0":
        sys.exit(f"test/bench/run: {counted} counters are not what the events come to")
    database.drop()


def bench_consume():
    bench(f"consume, {ORGANIZATIONS} organizations, 8 clients", "bench_consume", ORGANIZATIONS, 8)


def bench_consume_hot():
    bench("consume, one hot organization, 8 clients", "bench_consume_hot", 1, 8)


CASES = {
    "consume": bench_consume,
    "consume_hot": bench_consume_hot,
}
