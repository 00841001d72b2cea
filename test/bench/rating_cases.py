"""Rating: how fast quantities become amounts. Needs no server."""

import os
import statistics
import subprocess

from frame import PAIRS, QUICK, TOLERANCE, here, percentile, report, scratch, spread

# An evaluation is one quantity, rated against a graduated price of five tiers.
EVALUATIONS = 20_000_000
FLOOR = 20_000_000  # evaluations a second, on one core


def build_tiers_loop():
    program = os.path.join(scratch, "tiers_loop")
    core = os.path.join(here, "..", "..", "src")
    # as the extension is built, each file by itself
    subprocess.run(
        ["cc", "-std=gnu11", "-O2", "-I", core, "-o", program, os.path.join(here, "tiers_loop.c"),
         os.path.join(core, "rating.c"), os.path.join(core, "money.c")],
        check=True,
    )
    return program


def bench_tiers():
    program = build_tiers_loop()
    for mode, count, floor in (("amount", EVALUATIONS, FLOOR), ("lines", EVALUATIONS // 10, 0)):
        count = count // 4 if QUICK else count
        rates, passed = [], 0
        for _ in range(PAIRS):
            out = subprocess.run([program, mode, str(count)], check=True, capture_output=True, text=True).stdout
            rate, passed = (float(word) for word in out.split())
            rates.append(rate)
        median = statistics.median(rates)
        report(
            f"tiers, one quantity to its {mode}",
            f"{spread([rate / 1e6 for rate in rates], 1)} M/s",
            median >= TOLERANCE * floor,
            f"{floor / 1e6:.0f} M/s",
            reference=f"{median * passed / 1e6:.0f} M tiers/s, {passed:.2f} of 5 each",
            p50=f"{1e9 / median:.0f} ns",
            p99=f"{1e9 / percentile(rates, 1):.0f} ns, slowest run",
        )


CASES = {"tiers": bench_tiers}
