"""
What all cases of the bench share: reporting, servers, a database with an
account, pgbench, measuring in turns. Figures and tolerances: test/bench/run.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from postgres import Session

here = os.path.dirname(os.path.abspath(__file__))

QUICK = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
PAIRS = 3 if QUICK else 15
TOLERANCE = 0.9

table = []  # rows: case, ours, reference, ratio, p50, p99, floor, verdict
children = []
scratch = tempfile.mkdtemp(prefix="janua-bench.")


# ---------------------------------------------------------------- reporting


def quartiles(values):
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def report(case, ours, met, floor, reference="", ratio="", p50="", p99=""):
    table.append((case, ours, reference, ratio, p50, p99, floor, "met" if met else "MISSED"))
    print("  ".join(cell for cell in table[-1] if cell), flush=True)


def spread(values, digits):
    middle, low, high = quartiles(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def write_table():
    head = ("case", "ours", "reference", "ratio (quartiles)", "p50", "p99", "floor", "")
    widths = [max(len(row[i]) for row in [head] + table) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [head] + table]
    directory = os.path.join(here, "..", "log")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "bench.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines) + "\n\nwritten to test/log/bench.txt")


# ---------------------------------------------------------------- servers


def start(command, **options):
    child = subprocess.Popen(command, **options)
    children.append(child)
    return child


def stop(child):
    children.remove(child)
    child.send_signal(signal.SIGTERM)
    child.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, seconds=60, pause=0.05):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"test/bench/run: {what}: not after {seconds} s")
        time.sleep(pause)


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ---------------------------------------------------------------- the database


class Database:
    """A database of its own with the extension and one account."""

    def __init__(self, name, port):
        self.name = name
        self.marks = 0
        admin = Session(os.environ["PGDATABASE"])
        admin.rows(f"CREATE DATABASE {name}")
        admin.close()
        self.session = Session(name)
        self.session.rows("CREATE EXTENSION janua_billing")
        if not os.path.exists(os.environ["JANUA_KEY_FILE"]):
            self.session.rows(f"SELECT billing.create_key_file('{os.environ['JANUA_KEY_FILE']}')")
        self.session.rows(
            "SELECT billing.configure_provider('stripe', 'sk_test_bench', 'whsec_bench', "
            f"base_url => 'http://127.0.0.1:{port}', options => '{{\"rate_per_second\": 0}}')"
        )

    def drop(self):
        self.session.close()
        admin = Session(os.environ["PGDATABASE"])
        admin.rows(f"DROP DATABASE {self.name}")
        admin.close()

    def stop_account(self):
        self.session.rows(
            "UPDATE billing.provider_accounts SET stopped_at = now(), stopped_reason = 'bench' WHERE provider = 'stripe'"
        )

    def create_customers(self, count):
        self.marks += 1
        self.session.rows(
            f"SELECT count(billing.create_customer('org_{self.marks}_' || i, 'user' || i || '@example.com', "
            f"'Name ' || i, 'US', 'stripe')) FROM generate_series(1, {count}) AS i"
        )

    def release_account(self):
        """The one more customer wakes the worker with the commit."""
        self.marks += 1
        self.session.rows(
            "BEGIN; UPDATE billing.provider_accounts SET stopped_at = NULL, stopped_reason = NULL WHERE provider = 'stripe'; "
            f"SELECT billing.create_customer('org_{self.marks}', 'user@example.com', 'Name', 'US', 'stripe'); COMMIT"
        )

    def finished(self, since):
        return int(
            self.session.value(
                "SELECT count(*) FROM billing.outbox_finished WHERE operation = 'customer.create' "
                f"AND finished_at >= '{since}'"
            )
        )

    def worker_pid(self):
        return int(self.session.value("SELECT pid FROM billing.worker_state"))

    def send(self, count):
        """Queues, releases, waits; (requests a second, p50 and p99 from sent to finished in ms)."""
        self.stop_account()
        self.create_customers(count - 1)
        wait_for(
            "announcements",
            lambda: self.session.value("SELECT NOT EXISTS (SELECT FROM billing.events_unsent)") == "t",
        )
        since = self.session.value("SELECT clock_timestamp()")
        self.release_account()
        wait_for("an empty outbox", lambda: self.finished(since) >= count, seconds=120, pause=0.1)
        row = self.session.rows(
            "SELECT count(*) / extract(epoch FROM max(finished_at) - min(sent_at)), "
            "1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - sent_at)), "
            "1000 * percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - sent_at)), count(*) "
            f"FROM billing.outbox_finished WHERE operation = 'customer.create' AND finished_at >= '{since}'"
        )[0]
        if int(row[3]) != count:
            sys.exit(f"test/bench/run: {row[3]} requests instead of {count}")
        return tuple(float(value) for value in row[:3])


# ---------------------------------------------------------------- measuring


def in_turns(first, second):
    """Both measured PAIRS times, each first every second time."""
    results = ([], [])
    for i in range(PAIRS):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            results[which].append((first, second)[which]())
    return results


def report_ratios(case, ours, theirs, floor, unit="/s"):
    ratios = [a / b for a, b in zip(ours, theirs)]
    report(
        case,
        f"{statistics.median(ours):.0f}{unit}",
        statistics.median(ratios) >= TOLERANCE * floor,
        f"{floor:.2f}",
        reference=f"{statistics.median(theirs):.0f}{unit}",
        ratio=spread(ratios, 3),
    )


def report_rates(case, ours, theirs, floor):
    ratios = [a[0] / b[0] for a, b in zip(ours, theirs)]
    report(
        case,
        f"{statistics.median(run[0] for run in ours):.0f}/s",
        statistics.median(ratios) >= TOLERANCE * floor,
        f"{floor:.2f}",
        reference=f"{statistics.median(run[0] for run in theirs):.0f}/s",
        ratio=spread(ratios, 2),
        p50=f"{statistics.median(run[1] for run in ours):.3f} ms",
        p99=f"{statistics.median(run[2] for run in ours):.3f} ms",
    )


def seconds_of(session, sql):
    begin = time.monotonic()
    session.rows(sql)
    return time.monotonic() - begin


def write_script(name, text):
    path = os.path.join(scratch, name + ".sql")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def pgbench(database, script, clients):
    """Mean latency in ms."""
    out = subprocess.run(
        ["pgbench", "-n", "-M", "prepared", "-f", script, "-c", str(clients), "-j", "2", "-T", "1", database.name],
        check=True, capture_output=True, text=True,
    ).stdout
    line = next(line for line in out.splitlines() if line.startswith("latency average"))
    return float(line.split("=")[1].split()[0])


def pgbench_latencies(database, script, clients, rows=1, amount=("-T", "1")):
    """Rows a second; p50 and p99 of a call in ms. rows: of each call; amount: a second, or ("-t", calls of each client)."""
    prefix = os.path.join(scratch, "latency")
    out = subprocess.run(
        ["pgbench", "-n", "-M", "prepared", "-f", script, "-c", str(clients), "-j", "2", *amount, "-l", f"--log-prefix={prefix}", database.name],
        check=True, capture_output=True, text=True, cwd=scratch,
    ).stdout
    rate = next(line for line in out.splitlines() if line.startswith("tps"))
    times = []
    for file in os.listdir(scratch):
        if file.startswith("latency"):
            with open(os.path.join(scratch, file), encoding="ascii") as log:
                times += [int(line.split()[2]) / 1000 for line in log]
            os.unlink(os.path.join(scratch, file))
    return float(rate.split("=")[1].split()[0]) * rows, percentile(times, 50), percentile(times, 99)
