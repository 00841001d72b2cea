"""Entitlements: a predicate over many rows."""

from frame import QUICK, Database, free_port, in_turns, report_ratios, seconds_of

ENTITLED_ROWS = 200_000 if QUICK else 1_000_000
ENTITLED_ORGANIZATIONS = 1000
# A join against the answers as a plain table of two columns.
ENTITLED_REFERENCE = """
CREATE SCHEMA reference;
CREATE TABLE reference.entitled AS
    SELECT c.organization_id, billing.has_feature(c.organization_id, 'sso') AS has_sso FROM billing.customers AS c;
ALTER TABLE reference.entitled ADD PRIMARY KEY (organization_id);
CREATE TABLE reference.reports AS
    SELECT i AS id, 'org_' || (i::bigint * 7919 % {organizations}) AS organization_id FROM generate_series(1, {rows}) AS i;
"""


def bench_has_feature():
    """has_feature() in WHERE; every second organisation has the feature."""
    database = Database("bench_has_feature", free_port())
    session = database.session
    session.rows(f"SELECT count(billing.create_customer('org_' || i, provider => 'sandbox')) FROM generate_series(0, {ENTITLED_ORGANIZATIONS - 1}) AS i")
    session.rows(
        "SELECT count(billing.subscribe('org_' || i, CASE i % 2 WHEN 0 THEN 'pro' ELSE 'free' END, CASE i % 2 WHEN 0 THEN 'pm_card_visa' END)) "
        f"FROM generate_series(0, {ENTITLED_ORGANIZATIONS - 1}) AS i"
    )
    session.rows("CALL billing.run_worker()")
    session.rows(ENTITLED_REFERENCE.format(organizations=ENTITLED_ORGANIZATIONS, rows=ENTITLED_ROWS))
    session.rows("VACUUM ANALYZE")
    ours = "SELECT count(*) FROM reference.reports WHERE billing.has_feature(organization_id, 'sso')"
    theirs = "SELECT count(*) FROM reference.reports AS r JOIN reference.entitled AS e USING (organization_id) WHERE e.has_sso"
    counts = session.value(ours), session.value(theirs)
    if counts[0] != counts[1] or int(counts[0]) != ENTITLED_ROWS // 2:
        raise SystemExit(f"test/bench/run: has_feature: {counts[0]} rows, the join {counts[1]}")
    for case, workers in (("one process", 0), ("2 parallel workers", 2)):
        session.rows(f"SET max_parallel_workers_per_gather = {workers}")
        ours_rates, their_rates = in_turns(*[lambda sql=sql: ENTITLED_ROWS / seconds_of(session, sql) for sql in (ours, theirs)])
        report_ratios(f"has_feature in WHERE, {case}", ours_rates, their_rates, 0.6)
    database.drop()


CASES = {
    "has_feature": bench_has_feature,
}
