#!/usr/bin/env python3
"""Counts the instructions of a request's way with valgrind's callgrind, and holds them against benches/instructions.json.

    python3 benches/instructions.py [--write]     # needs valgrind

Fails where a way takes over 3 % more than is written down. Counts do not depend on how busy the machine is; they
do on the compiler, whose version is written down too: with another one, the table is printed and nothing fails.
"""

import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
KEPT = HERE / "instructions.json"
MOST_GROWTH = 0.03
TIMES = 2_000
# The ways of `benches/instructions.rs`, each alone.
CORE = [
    "parse",
    "parse and look up",
    "accept",
    "accept: two quotas",
    "accept: two quotas and a permit",
    "refuse: cut short",
    "refuse: wrong secret",
    "refuse: scope missing",
    "refuse: quota used up",
]
# Those of `tests/servers/benches/instructions.rs`: what stands behind keys, less the same without them.
FRAMEWORKS = ["axum", "actix"]


def program(package):
    built = subprocess.run(
        ["cargo", "bench", "--package", package, "--bench", "instructions", "--no-run", "--message-format", "json"],
        check=True, capture_output=True, text=True, cwd=HERE.parent,
    )
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "instructions":
            return message["executable"]
    raise SystemExit("the benchmark was not built")


def collected(path, way, times):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", path, way, str(times)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(re.search(r"Collected : (\d+)", run.stderr).group(1))


def instructions(path, way):
    # What is done once cancels out.
    once, twice = collected(path, way, TIMES), collected(path, way, 2 * TIMES)
    return round((twice - once) / TIMES)


def main():
    core, servers = program("keyward_tests"), program("servers")
    compiler = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    found = {way: instructions(core, way) for way in CORE}
    for framework in FRAMEWORKS:
        behind, without = instructions(servers, f"{framework} behind keys"), instructions(servers, framework)
        found[f"added to a request of {framework}"] = behind - without
    if "--write" in sys.argv:
        KEPT.write_text(json.dumps({"rustc": compiler, "instructions": found}, indent=2) + "\n")
    kept = json.loads(KEPT.read_text())
    is_comparable = kept["rustc"] == compiler
    has_grown = False
    for way, count in found.items():
        before = kept["instructions"].get(way)
        growth = (count - before) / before if before else float("inf")
        has_grown |= growth > MOST_GROWTH
        print(f"{way:32} {count:7} instructions  {growth:+7.1%}")
    if not is_comparable:
        print(f"written down with rustc {kept['rustc']}, counted with {compiler}: not compared")
    elif has_grown:
        raise SystemExit("a way takes over 3 % more instructions; if it must, write it down with --write and say why")


main()
