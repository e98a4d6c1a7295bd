#!/usr/bin/env python3
"""What keys cost a server: requests a second of a hello server behind keys, against the same without them.

    python3 benches/auth_tax.py            # needs wrk; some seven minutes

Machines are noisy, so all are loaded in turns, two seconds each, and what counts is the median of the turns' ratios.
The time that the server spends on a processor for each request is printed beside it: neighbours disturb it less.

Two more servers tell what to make of the figures. One is the same without keys once more: how far its ratio is from 1 is
noise. The other is written by hand and does no more than it must: one verification, and the two headers that keep
answers out of shared caches. A guard can hardly cost less than that one.
"""

import pathlib
import random
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
TURNS = 16
SECONDS = 2
CONNECTIONS = 32
WAYS = {"without": "plain", "without again": "plain", "with": "keyed", "by hand": "by_hand"}
TARGETS = {"axum": 0.94, "actix": 0.97}


def build():
    manifest = HERE / "peers" / "Cargo.toml"
    command = ["cargo", "build", "--release", "--locked", "--bin", "tax", "--manifest-path", manifest,
               "--message-format", "json"]
    built = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.search(r'"executable":"([^"]+/tax)"', built).group(1)


class Server:
    """One server, as long as this program holds its standard input."""

    def __init__(self, program, framework, way):
        self.process = subprocess.Popen([program, framework, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address, self.key = self.process.stdout.readline().split()

    def load(self, seconds):
        """Requests a second. The key is sent to all: headers cost something too."""
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "-H", f"Authorization: Bearer {self.key}",
                   f"http://{self.address}/"]
        before = self.busy()
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in printed:
            sys.exit(f"not every request was answered 200:\n{printed}")
        self.busy_us = (self.busy() - before) / int(re.search(r"(\d+) requests in", printed).group(1))
        return float(re.search(r"Requests/sec:\s+([\d.]+)", printed).group(1))

    def busy(self):
        """Microseconds that its threads have spent on a processor, by the kernel's account."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def turn(program, framework, order):
    """One turn of each, of servers started anew: where in memory things come to lie is a matter of luck, too."""
    servers = {name: Server(program, framework, WAYS[name]) for name in order}
    try:
        for name in order:
            servers[name].load(1)
        for name in order:
            servers[name].rate = servers[name].load(SECONDS)
    finally:
        for server in servers.values():
            server.stop()
    return servers


def measure(program, framework, target):
    names = list(WAYS)
    turns = [turn(program, framework, random.sample(names, len(names))) for _ in range(TURNS)]
    for name in names:
        rate = statistics.median(servers[name].rate for servers in turns)
        ratio = statistics.median(servers[name].rate / servers["without"].rate for servers in turns)
        busy = statistics.median(servers[name].busy_us for servers in turns)
        more = statistics.median(servers[name].busy_us - servers["without"].busy_us for servers in turns)
        held = f"   target {target}: {'held' if ratio >= target else 'missed'}" if name == "with" else ""
        print(f"{framework:<6} {name:<14} {rate:>9,.0f} requests/s   ratio {ratio:.3f}   "
              f"a processor's time for one {busy:.2f} us, {more:+.2f}{held}")


def main():
    program = build()
    for framework, target in TARGETS.items():
        measure(program, framework, target)


main()
