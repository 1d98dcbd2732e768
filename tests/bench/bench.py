#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the measuring programs and prints the table of the README.

    bench.py [--samples N] [--daemon PROGRAM] [--datadir DIR] [--programs DIR]

bench_latency and bench_lines speak JSON; bench_record and, where it is built, bench_firewall are shown as they are.
Ends with 1 when a ratio or a target is missed.
"""
import argparse
import json
import os
import platform
import subprocess
import sys

RATIO = 3
NFT_RATIO = 30


def run(program, *words):
    done = subprocess.run([program, *words], check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"bench.py: {program} ended with {done.returncode}")
    return done.stdout


def processor():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def human(us):
    return f"{us / 1000:.2f} ms" if us >= 1000 else f"{us:.0f} us"


def verdict(measure):
    target = measure["target_us"]
    if not target:
        return "-", True
    good = measure["tailband"]["p50"] <= target and measure["ratio"] <= RATIO
    return f"<= {human(target)}, <= {RATIO} x", good


def latency(args):
    """The table's rows; true when all targets are met."""
    result = json.loads(run(os.path.join(args.programs, "bench_latency"), "--json", "--samples",
                            str(args.samples), "--daemon", args.daemon, "--datadir", args.datadir))
    fine = True
    print("| what | tailband p50 | p99 | least | bare path p50 | ratio | target | |")
    print("|---|---|---|---|---|---|---|---|")
    for m in result["measures"]:
        target, good = verdict(m)
        fine = fine and good
        ours = m["tailband"]
        print(f"| {m['text']} | {human(ours['p50'])} | {human(ours['p99'])} | "
              f"{human(ours['min'])} | {human(m['bare']['p50'])} | {m['ratio']:.2f} | {target} | "
              f"{'' if good else 'missed'} |")
    nft = result["nft"]
    good = result["nft_ratio"] >= NFT_RATIO
    print(f"| a spawned `nft add element` | {human(nft['p50'])} | {human(nft['p99'])} | "
          f"{human(nft['min'])} | | {result['nft_ratio']:.0f} times an element active | "
          f">= {NFT_RATIO} | {'' if good else 'missed'} |")
    return fine and good


def lines(args):
    r = json.loads(run(os.path.join(args.programs, "bench_lines"), "--json", "--datadir",
                       args.datadir))
    print(f"\nDetector: {r['lines_per_s']:,} lines/s of {r['lines']:,} ({r['hostile']:,} hostile); "
          f"`wc -l`: {r['wc_lines_per_s']:,} lines/s.")


def record(args):
    """Names of the layers and what they print are bench_record's."""
    print("\nWhat the record of connections and the bells add:\n")
    print(run(os.path.join(args.programs, "bench_record")), end="", flush=True)


def census(args):
    print("\nWhat a census of the sockets costs, CPU time:\n")
    print(run(os.path.join(args.programs, "bench_census")), end="", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--daemon", default="daemon/tailband")
    parser.add_argument("--datadir", default=os.environ.get("TAILBAN_DATADIR", "."))
    parser.add_argument("--programs", default="tests/bench")
    args = parser.parse_args()
    print(f"{platform.system()} {platform.release()}, {processor()}, "
          f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}\n", flush=True)
    fine = latency(args)
    lines(args)
    record(args)
    census(args)
    firewall = os.path.join(args.programs, "bench_firewall")
    if os.path.exists(firewall):
        print(flush=True)
        subprocess.run(["unshare", "-n", firewall], check=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
