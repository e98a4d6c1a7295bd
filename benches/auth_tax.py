#!/usr/bin/env python3
"""What keys cost a server: requests a second of a hello server behind keys, against the same without them.

    python3 benches/auth_tax.py            # needs wrk; some three and a half minutes

Machines are noisy, so both are loaded in turns, two seconds each, and what counts is the median of the pairs' ratios.
The time that the server spends on a processor for each request is printed beside it: neighbours disturb it less.
"""

import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
PAIRS = 15
SECONDS = 2
CONNECTIONS = 32
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
        """Requests a second. The key is sent to both: headers cost something too."""
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


def pair(program, framework, turn):
    """One turn of each, of servers started anew: where in memory things come to lie is a matter of luck, too."""
    plain, keyed = Server(program, framework, "plain"), Server(program, framework, "keyed")
    try:
        plain.load(1), keyed.load(1)
        # Who goes first changes from pair to pair.
        for server in [plain, keyed] if turn % 2 == 0 else [keyed, plain]:
            server.rate = server.load(SECONDS)
    finally:
        plain.stop(), keyed.stop()
    return plain, keyed


def measure(program, framework, target):
    pairs = [pair(program, framework, turn) for turn in range(PAIRS)]
    ratio = statistics.median(keyed.rate / plain.rate for plain, keyed in pairs)
    plain, keyed = (statistics.median(server.rate for server in side) for side in zip(*pairs))
    before, after = (statistics.median(server.busy_us for server in side) for side in zip(*pairs))
    print(f"{framework}: {plain:,.0f} requests/s without keys, {keyed:,.0f} with, ratio {ratio:.3f} "
          f"(target >= {target}: {'held' if ratio >= target else 'missed'}); "
          f"a processor's time for one: {before:.2f} us without, {after:.2f} with, {after - before:+.2f}")


def main():
    program = build()
    for framework, target in TARGETS.items():
        measure(program, framework, target)


main()
