"""Usage: taking it in, adding it up, reading it, and its size on disk."""

import os
import statistics
import subprocess
import time

from frame import (
    PAIRS,
    QUICK,
    TOLERANCE,
    Database,
    free_port,
    in_turns,
    percentile,
    pgbench_latencies,
    report,
    report_rates,
    scratch,
    seconds_of,
    spread,
    wait_for,
)
from postgres import Session

# What plain SQL writes: a table with the columns and indexes of a partition of
# usage_events, and one more with a unique key.
USAGE_REFERENCE = """
CREATE SCHEMA reference;
CREATE FUNCTION reference.transaction() RETURNS bigint LANGUAGE sql RETURN pg_current_xact_id()::text::bigint;
CREATE TABLE reference.events (LIKE billing.usage_events INCLUDING ALL EXCLUDING CONSTRAINTS, PRIMARY KEY (organization_id, id));
CREATE INDEX ON reference.events (organization_id, metric, occurred_at);
CREATE INDEX ON reference.events (recorded_in);
CREATE TABLE reference.keyed (LIKE reference.events INCLUDING ALL);
CREATE UNIQUE INDEX ON reference.keyed (organization_id, idempotency_key);
"""
USAGE_COLUMNS = "(occurred_at, recorded_in, organization_id, metric, quantity"
USAGE_SCRIPTS = {
    "one": (
        "SELECT billing.record_usage('org_' || :o, 'api_calls', 1);",
        f"INSERT INTO reference.events {USAGE_COLUMNS}) VALUES (now(), pg_current_xact_id()::text::bigint, 'org_' || :o, 'api_calls', 1);",
    ),
    "keyed": (
        "SELECT billing.record_usage('org_' || :o, 'api_calls', 1, idempotency_key => 'key-' || :k);",
        f"INSERT INTO reference.keyed {USAGE_COLUMNS}, idempotency_key) VALUES "
        "(now(), pg_current_xact_id()::text::bigint, 'org_' || :o, 'api_calls', 1, 'key-' || :k) ON CONFLICT DO NOTHING;",
    ),
    "batch": (
        "SELECT billing.record_usage_batch(o, m, q) FROM reference.arrays;",
        f"INSERT INTO reference.events {USAGE_COLUMNS}) SELECT now(), pg_current_xact_id()::text::bigint, u.o, u.m, u.q "
        "FROM reference.arrays AS a, unnest(a.o, a.m, a.q) AS u (o, m, q);",
    ),
}
USAGE_ARRAYS = """
CREATE TABLE reference.arrays AS SELECT array_agg('org_' || (i % 100)) AS o, array_agg('api_calls'::text) AS m, array_agg(1::numeric) AS q
FROM generate_series(1, 1000) AS i;
"""
COPY_ROWS = 50_000 if QUICK else 200_000
SUMMARY_ROWS = 100_000 if QUICK else 1_000_000
ROLLUP_ROWS = 200_000 if QUICK else 500_000


def usage_database(name):
    """Without a provider; the worker rolls up meanwhile, as in real life."""
    database = Database(name, free_port())
    database.session.rows("SELECT billing.record_usage('first', 'api_calls')")
    database.session.rows(USAGE_REFERENCE)
    database.session.rows(USAGE_ARRAYS)
    return database


def bench_usage():
    database = usage_database("bench_usage")
    for case, clients, rows, floor in (("one", 8, 1, 0.8), ("keyed", 8, 1, 0.6), ("batch", 1, 1000, 0.9)):
        scripts = []
        for side, statement in enumerate(USAGE_SCRIPTS[case]):
            scripts.append(os.path.join(scratch, f"usage_{case}_{side}.sql"))
            with open(scripts[-1], "w", encoding="utf-8") as file:
                file.write(f"\\set o random(1, 1000)\n\\set k random(1, 1000000000000)\n{statement}\n")
        ours, theirs = in_turns(
            *[lambda script=script: pgbench_latencies(database, script, clients, rows) for script in scripts]
        )
        report_rates(f"record usage: {case}, {clients} clients", ours, theirs, floor)
    bench_usage_copy(database)
    database.drop()
    bench_usage_bytes()


def bench_usage_copy(database):
    path = os.path.join(scratch, "usage.copy")
    with open(path, "w", encoding="ascii") as file:
        for i in range(COPY_ROWS):
            file.write(f"org_{i % 1000}\tapi_calls\t1\n")
    database.session.rows(
        "ALTER TABLE reference.events ALTER recorded_in SET DEFAULT reference.transaction(), ALTER occurred_at SET DEFAULT now()"
    )

    def copy(table):
        begin = time.monotonic()
        subprocess.run(
            ["psql", "-X", "-q", "-d", database.name, "-c", f"\\copy {table} (organization_id, metric, quantity) FROM '{path}'"], check=True
        )
        seconds = time.monotonic() - begin
        return COPY_ROWS / seconds, seconds * 1000, seconds * 1000

    ours, theirs = in_turns(lambda: copy("billing.usage_import"), lambda: copy("reference.events"))
    report_rates("record usage: COPY", ours, theirs, 0.8)


def bench_usage_bytes():
    """Of 100,000 events, in rows of one batch each."""
    database = usage_database("bench_bytes")
    rows = "FROM (SELECT i / 1000 AS g, 'org_' || (i * 7919 % 1000) AS o, 'key-' || md5(i::text) AS k FROM generate_series(1, 100000) AS i) AS r"
    size = "SELECT sum(pg_total_relation_size(inhrelid)) {} FROM pg_inherits WHERE inhparent = 'billing.usage_events'::regclass"
    for case, key, table, extra, most in (
        ("without key", "NULL", "events", "", 1.1),
        ("with key", "array_agg(k)", "keyed", "+ pg_total_relation_size('billing.usage_keys')", 1.3),
    ):
        before = int(database.session.value(size.format(extra)))
        database.session.rows(
            f"SELECT billing.record_usage_batch(array_agg(o), array_agg('api_calls'::text), array_agg(1::numeric), NULL, {key}) {rows} GROUP BY g"
        )
        ours = int(database.session.value(size.format(extra))) - before
        database.session.rows(
            f"INSERT INTO reference.{table} {USAGE_COLUMNS}, idempotency_key) "
            f"SELECT now(), 1, o, 'api_calls', 1, {'NULL' if key == 'NULL' else 'k'} {rows}"
        )
        theirs = int(database.session.value(f"SELECT pg_total_relation_size('reference.{table}')"))
        report(
            f"bytes per event, {case}",
            f"{ours / 100_000:.0f}",
            ours / theirs <= most / TOLERANCE,
            f"at most {most}",
            reference=f"{theirs / 100_000:.0f}",
            ratio=f"{ours / theirs:.2f}",
        )
    database.drop()


USAGE_FILL = (
    "SELECT sum(billing.record_usage_batch(o, m, q, t)) FROM (SELECT array_agg('{organization}') AS o, array_agg('api_calls'::text) AS m, "
    "array_agg((i % 7 + 1)::numeric) AS q, array_agg(date_trunc('month', now(), 'UTC') - interval '30 days' + (i % 2880) * interval '15 min') AS t "
    "FROM generate_series(1, {rows}) AS i GROUP BY i / 1000) AS b"
)
USAGE_MONTH = "date_trunc('month', now(), 'UTC') - interval '30 days' + interval '1 second', date_trunc('month', now(), 'UTC')"
TAIL_LEFT = (
    "SELECT count(*) FROM billing.usage_events AS u, billing.usage_rollup_state AS s "
    "WHERE u.recorded_in >= s.seen_until OR u.recorded_in / 4096 IN (SELECT o / 4096 FROM unnest(s.open) AS o)"
)


REPORT_ORGANIZATIONS = 1_000 if QUICK else 10_000
REPORT_FILL = (
    "SELECT sum(billing.record_usage_batch(o, m, q, t)) FROM (SELECT array_agg('org_' || o) AS o, array_agg(m) AS m, array_agg(1::numeric) AS q, "
    "array_agg(date_trunc('month', now(), 'UTC') + i * interval '15 min') AS t "
    f"FROM generate_series(1, {REPORT_ORGANIZATIONS}) AS o, unnest(ARRAY['api_calls', 'storage', 'users', 'teams']) AS m, generate_series(1, 25) AS i "
    "GROUP BY o / 100) AS b"
)
TAIL_FILL = (
    "SELECT sum(billing.record_usage_batch(o, m, q)) FROM (SELECT array_agg('org_' || 100 + i % {organizations}) AS o, array_agg('api_calls'::text) AS m, "
    "array_agg(1::numeric) AS q FROM generate_series(1, {rows}) AS i GROUP BY i / 10000) AS b"
)
REPORT_TAIL = 50_000 if QUICK else 500_000


def bench_report():
    """Of one organisation and of all, and of one in the tail of others; against adding up the same totals."""
    database = usage_database("bench_report")
    session = database.session
    session.rows(REPORT_FILL)
    wait_for("the totals", lambda: session.value(TAIL_LEFT) == "0", seconds=300, pause=0.5)
    session.rows("VACUUM ANALYZE")
    added = "SELECT organization_id, metric, sum(sum) FROM billing.usage_totals {} GROUP BY 1, 2"
    one = "WHERE organization_id = 'org_77'"

    def compare(case, ours_sql, theirs_sql, times, most):
        def median(sql):
            return statistics.median(seconds_of(session, sql) for _ in range(times))

        ours, theirs = in_turns(lambda: median(ours_sql), lambda: median(theirs_sql))
        slower = [a / b for a, b in zip(ours, theirs)]
        report(case, f"{1000 * statistics.median(ours):.2f} ms", statistics.median(slower) <= most / TOLERANCE, f"at most {most:g} times",
               reference=f"{1000 * statistics.median(theirs):.2f} ms", ratio=spread(slower, 2),
               p50=f"{1000 * percentile(ours, 50):.2f} ms", p99=f"{1000 * percentile(ours, 99):.2f} ms")

    compare("usage_report of one organization", f"SELECT * FROM billing.usage_report {one}", added.format(one), 5, 10)
    compare(f"usage_report of {REPORT_ORGANIZATIONS}", "SELECT count(*) FROM billing.usage_report", f"SELECT count(*) FROM ({added.format('')}) AS t", 1, 15)
    compare(f"usage_daily of {REPORT_ORGANIZATIONS}", "SELECT count(quantity) FROM billing.usage_daily", f"SELECT count(*) FROM ({added.format('')}) AS t", 1, 8)
    # the worker leaves the tail alone
    holder = Session(database.name)
    holder.rows("BEGIN; SELECT FROM billing.usage_rollup_state FOR UPDATE")
    session.rows(TAIL_FILL.format(organizations=REPORT_ORGANIZATIONS - 100, rows=REPORT_TAIL))
    compare(f"usage_summary, {REPORT_TAIL} others in the tail", "SELECT * FROM billing.usage_summary('org_77')",
            "SELECT count(*) FROM billing.usage_tail", 3, 0.1)
    holder.rows("COMMIT")
    holder.close()
    database.drop()


def bench_summary():
    """One organisation's month, while a tail of 0.1 % is there; and with ten times as many events."""
    database = usage_database("bench_summary")
    session = database.session
    times = {}
    for rows in (SUMMARY_ROWS, 9 * SUMMARY_ROWS):
        session.rows(USAGE_FILL.format(organization="big", rows=rows).replace("'big'", "'big'::text"))
        wait_for("the totals", lambda: session.value(TAIL_LEFT) == "0", seconds=300, pause=0.5)
        session.rows("VACUUM ANALYZE")
        ours, theirs = [], []
        for i in range(PAIRS):
            # the worker takes a second at least to come by
            session.rows(USAGE_FILL.format(organization="big", rows=SUMMARY_ROWS // 1000).replace("'big'", "'big'::text"))
            ours.append(statistics.median(seconds_of(session, f"SELECT * FROM billing.usage_summary('big', {USAGE_MONTH})") for _ in range(5)))
            if rows == SUMMARY_ROWS:
                theirs.append(
                    seconds_of(session, "SELECT sum(quantity) FROM billing.usage_events WHERE organization_id = 'big' AND metric = 'api_calls' "
                          "AND occurred_at >= date_trunc('month', now(), 'UTC') - interval '30 days'")
                )
        times[rows] = ours
        if theirs:
            ratios = [b / a for a, b in zip(ours, theirs)]
            report(
                f"usage_summary over {rows} events",
                f"{1000 * statistics.median(ours):.2f} ms",
                statistics.median(ratios) >= TOLERANCE * 150 * SUMMARY_ROWS / 1_000_000,
                "150 times, of a million",
                reference=f"{1000 * statistics.median(theirs):.1f} ms",
                ratio=spread(ratios, 0),
                p50=f"{1000 * percentile(ours, 50):.2f} ms",
                p99=f"{1000 * percentile(ours, 99):.2f} ms",
            )
    few, many = (statistics.median(times[rows]) for rows in times)
    report("usage_summary over 10 times as many", f"{1000 * many:.2f} ms", many <= 1.3 * few, "the same", reference=f"{1000 * few:.2f} ms",
           ratio=f"{many / few:.2f}")
    database.drop()
    bench_report()


def bench_rollup():
    """run_worker() of a session, which finds the tail before the worker does or after it."""
    database = usage_database("bench_rollup")
    session = database.session
    rates = []
    batches = []
    for i in range(PAIRS):
        fill = USAGE_FILL.replace("'{organization}'", "'org_' || (i / 100 % 20)").format(rows=ROLLUP_ROWS).replace("i % 2880", "i % 100")
        # the row of the state is locked, so that the worker leaves the tail alone
        holder = Session(database.name)
        holder.rows("BEGIN; SELECT FROM billing.usage_rollup_state FOR UPDATE")
        batches.append(ROLLUP_ROWS / seconds_of(session, fill))
        holder.rows("COMMIT")
        holder.close()
        rates.append(ROLLUP_ROWS / seconds_of(session, "CALL billing.run_worker()"))
        wait_for("the totals", lambda: session.value(TAIL_LEFT) == "0", pause=0.2)
    ratios = [a / b for a, b in zip(rates, batches)]
    report("rollup, 2000 groups", f"{statistics.median(rates):.0f}/s", statistics.median(ratios) >= TOLERANCE * 8, "8.00",
           reference=f"{statistics.median(batches):.0f}/s", ratio=spread(ratios, 1))
    database.drop()


CASES = {
    "usage": bench_usage,
    "summary": bench_summary,
    "rollup": bench_rollup,
}
