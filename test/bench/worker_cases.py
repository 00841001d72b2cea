"""What the worker sends and how fast, and create_customer()."""

import functools
import os
import shutil
import statistics
import subprocess
import sys
import time

from frame import (
    PAIRS,
    QUICK,
    TOLERANCE,
    Database,
    answers,
    free_port,
    here,
    percentile,
    pgbench,
    report,
    scratch,
    spread,
    start,
    stop,
    wait_for,
)
from postgres import Session

CUSTOMERS = 5000
BACKLOG = 20_000 if QUICK else 100_000
CALLS = 20_000 if QUICK else 100_000
CALLS_FIRST = 10_000
CONNECTIONS = 16
BODY_BYTES = 230  # of a customer.create
MEGABYTE = 1024 * 1024


def start_nginx():
    port = free_port()
    with open(os.path.join(here, "nginx.conf"), encoding="utf-8") as file:
        text = file.read().replace("DIRECTORY", scratch).replace("PORT", str(port))
    path = os.path.join(scratch, "nginx.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or sys.exit("nginx is missing")
    start([program, "-c", path, "-e", os.path.join(scratch, "error.log")])
    wait_for("nginx", lambda: answers(port))
    return port


def start_answering_server(delay_ms):
    arrivals = open(os.path.join(scratch, f"arrivals.{delay_ms}"), "w+", encoding="utf-8")
    server = start(
        [sys.executable, os.path.join(here, "answering_server.py"), str(delay_ms)],
        stdin=subprocess.PIPE,
        stdout=arrivals,
    )

    def lines():
        arrivals.seek(0)
        return arrivals.read().split("\n")[:-1]

    wait_for("the answering server", lambda: len(lines()) > 0)
    return server, int(lines()[0]), lambda: [float(line) for line in lines()[1:]]


@functools.cache
def build_curl_client():
    program = os.path.join(scratch, "curl_client")
    subprocess.run(["cc", "-O2", "-o", program, os.path.join(here, "curl_client.c"), "-lcurl"], check=True)
    return program


def run_curl_client(port, connections, requests):
    """requests a second, and p50 and p99 in ms"""
    line = subprocess.run(
        [build_curl_client(), f"http://127.0.0.1:{port}/v1/customers", str(connections), str(requests), str(BODY_BYTES)],
        check=True, capture_output=True, text=True,
    ).stdout
    words = dict(word.split("=") for word in line.split())
    return float(words["rps"]), float(words["p50_ms"]), float(words["p99_ms"])


def private_memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon")


def set_max_in_flight(number):
    admin = Session(os.environ["PGDATABASE"])
    admin.rows(f"ALTER SYSTEM SET janua_billing.max_in_flight = {number}")
    admin.rows("SELECT pg_reload_conf()")
    admin.close()
    time.sleep(1)


# ---------------------------------------------------------------- the cases


def pairs_of_requests(database, port, connections, count, reference_count):
    ours, theirs = [], []
    for i in range(PAIRS):
        if i % 2 == 0:
            ours.append(database.send(count))
            theirs.append(run_curl_client(port, connections, reference_count))
        else:
            theirs.append(run_curl_client(port, connections, reference_count))
            ours.append(database.send(count))
    return ours, theirs


def report_requests(case, ours, theirs, floor_ratio, floor_rate):
    ratios = [a[0] / b[0] for a, b in zip(ours, theirs)]
    rate = statistics.median(run[0] for run in ours)
    met = statistics.median(ratios) >= TOLERANCE * floor_ratio and rate >= TOLERANCE * floor_rate
    report(
        case,
        spread([run[0] for run in ours], 0) + "/s",
        met,
        f"{floor_ratio:.2f} and {floor_rate}/s",
        reference=f"{statistics.median(run[0] for run in theirs):.0f}/s",
        ratio=spread(ratios, 3),
        p50=f"{statistics.median(run[1] for run in ours):.2f} ms",
        p99=f"{statistics.median(run[2] for run in ours):.2f} ms",
    )


def bench_requests():
    port = start_nginx()
    database = Database("bench_requests", port)
    set_max_in_flight(CONNECTIONS)
    done = 0
    while done < CALLS_FIRST:
        database.send(CUSTOMERS)
        done += CUSTOMERS
    memory = [private_memory(database.worker_pid())]
    ours, theirs = pairs_of_requests(database, port, CONNECTIONS, CUSTOMERS, 30_000)
    done += PAIRS * CUSTOMERS
    report_requests(f"requests, {CUSTOMERS} customers", ours, theirs, 0.10, 5000)
    while done < CALLS:
        database.send(CUSTOMERS)
        done += CUSTOMERS
    memory.append(private_memory(database.worker_pid()))
    report(
        f"worker's memory after {CALLS_FIRST} and {done} calls",
        f"{memory[0] / MEGABYTE:.1f} and {memory[1] / MEGABYTE:.1f} MB",
        memory[1] < 64 * MEGABYTE and memory[1] <= memory[0] * 1.1 + MEGABYTE,
        "flat, 64 MB",
    )
    database.drop()


def bench_backlog():
    port = start_nginx()
    database = Database("bench_backlog", port)
    set_max_in_flight(CONNECTIONS)
    database.send(2)
    database.stop_account()
    for _ in range(BACKLOG // 10_000):
        database.session.rows(
            "DO $$ DECLARE c uuid := billing.find_customer('org_1_1'); BEGIN FOR i IN 1..10000 LOOP "
            "PERFORM billing.update_customer(c, jsonb_build_object('name', 'Name ' || i)); END LOOP; END $$"
        )
    behind = database.session.value("SELECT count(*) FROM billing.outbox")
    ours, theirs = pairs_of_requests(database, port, CONNECTIONS, CUSTOMERS, 30_000)
    report_requests(f"requests behind {behind} of one customer", ours, theirs, 0.10, 5000)
    database.drop()


def wire_delays(database, arrivals, count, pause):
    """From the end of COMMIT to the first byte, in ms."""
    delays = []
    for i in range(count):
        time.sleep(pause)
        seen = len(arrivals())
        database.marks += 1
        database.session.rows(f"SELECT billing.create_customer('org_{database.marks}', 'u@example.com', 'Name', 'US', 'stripe')")
        committed = time.time()
        if pause >= 0.2:
            wait_for("a request", lambda: len(arrivals()) > seen, pause=0.01)
        delays.append(committed)
    wait_for("the last request", lambda: len(arrivals()) >= database.marks)
    return [(came - committed) * 1000 for came, committed in zip(arrivals()[-count:], delays)]


def bench_wire():
    server, port, arrivals = start_answering_server(0)
    database = Database("bench_wire", port)
    wire_delays(database, arrivals, 3, 0.5)
    for case, count, pause in (
        ("commit to wire, idle", 10 if QUICK else 60, 0.5),
        ("commit to wire, one each 100 ms", 30 if QUICK else 200, 0.1),
    ):
        delays = wire_delays(database, arrivals, count, pause)
        p50, p95 = percentile(delays, 50), percentile(delays, 95)
        report(
            case,
            f"p95 {p95:.2f} ms",
            p50 <= 3 / TOLERANCE and p95 <= 15 / TOLERANCE,
            "p50 3 ms, p95 15 ms",
            p50=f"{p50:.2f} ms",
            p99=f"{percentile(delays, 99):.2f} ms",
        )
    database.drop()
    stop(server)


def bench_latency():
    server, port, _ = start_answering_server(200)
    database = Database("bench_latency", port)
    set_max_in_flight(100)
    ours, theirs = pairs_of_requests(database, port, 100, 500, 500)
    report_requests("requests, each 200 ms, 100 in flight", ours, theirs, 0, 400)
    set_max_in_flight(CONNECTIONS)
    database.drop()
    stop(server)


def bench_create():
    database = Database("bench_create", free_port())
    database.stop_account()
    with open(os.path.join(here, "reference.sql"), encoding="utf-8") as file:
        database.session.rows(file.read())
    scripts = []
    for schema in ("billing", "reference"):
        scripts.append(os.path.join(scratch, schema + ".sql"))
        with open(scripts[-1], "w", encoding="utf-8") as file:
            file.write(
                f"SELECT {schema}.create_customer('org_' || billing.new_id(), 'someone@example.com', 'Some Name', 'US', 'stripe');\n"
            )
    for clients in (1, 8):
        pairs = []
        for i in range(PAIRS):
            order = scripts if i % 2 == 0 else scripts[::-1]
            times = {script: pgbench(database, script, clients) for script in order}
            pairs.append((times[scripts[0]], times[scripts[1]]))
        ratios = [ours / theirs for ours, theirs in pairs]
        report(
            f"create_customer, {clients} client{'s' if clients > 1 else ''}",
            f"{statistics.median(ours for ours, _ in pairs):.3f} ms",
            statistics.median(ratios) <= 1.5 / TOLERANCE,
            "at most 1.5",
            reference=f"{statistics.median(theirs for _, theirs in pairs):.3f} ms",
            ratio=spread(ratios, 2),
        )
    database.drop()


CASES = {
    "requests": bench_requests,
    "backlog": bench_backlog,
    "wire": bench_wire,
    "latency": bench_latency,
    "create": bench_create,
}
