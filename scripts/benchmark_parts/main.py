"""Arguments, what the parts share, and the page that comes out."""
import argparse
import contextlib
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from . import cluster, crowd, free, hold, line, local, loss, process, text, tools, waiters
from .page import page, summary
from .servers import Consul, Etcd

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
PAGE, PLOT = os.path.join(ROOT, "docs", "benchmarks.md"), os.path.join(ROOT, "docs", "benchmarks.svg")

# By name: the heading, and what measures it.
PARTS = {
    "free": ("A free lock, whole run of `true`", free.measure),
    "local": ("On this machine alone", local.measure),
    "crowd": ("A crowd at one lock, 20 ms of work each", crowd.measure),
    "line": ("A line of waiters", line.measure),
    "waiters": ("A thousand waiters", waiters.measure),
    "cluster": ("Three servers", cluster.measure),
    "hold": ("An hour of holding, on paper", hold.measure),
    "loss": ("Losing a lock", loss.measure),
}


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=(
        "Measures consul-lock beside `consul lock`, `etcdctl lock` and flock(1), on servers of its own on this "
        "machine, and "
        "prints the figures as Markdown. It takes a quarter of an hour, and wants a machine that does nothing else."))
    parser.add_argument("part", nargs="*", help=f"only these parts: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what comes out")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its plot (all parts, not --quick)")
    parser.add_argument("--bin", help="the consul-lock to measure (default: what cargo build --release --locked makes)")
    parser.add_argument("--self-test", action="store_true", help="test the parts that compute and write; starts nothing")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.write and (options.part or options.quick):
        parser.error("--write is for all parts, measured in full")
    return options


class Bench:
    """What the parts share: the tools, a service of each kind, a folder, and the figures for the summary and the "
    "plot."""

    def __init__(self, program, consul, quick):
        self.consul, self.quick = consul, quick
        self.folder = tempfile.mkdtemp(prefix="benchmark-")
        # The servers' folders are below it, so that one removal gets all.
        tempfile.tempdir = self.folder
        self.figures, self.points, self.servers = {}, {}, {}
        self.alone = None
        program = process.installed(program, self.folder)
        self.ours = tools.ours(program)
        self.known = {"ours": self.ours, "local": tools.ours_local(program), "consul lock": tools.consuls_own(consul),
                      "consul lock -shell=false": tools.consuls_own_bare(consul), "bare": tools.bare()}
        if shutil.which("etcd") and shutil.which("etcdctl"):
            self.known["etcdctl lock"] = tools.etcds_own(shutil.which("etcdctl"))
        if shutil.which("flock"):
            self.known["flock"] = tools.flock(shutil.which("flock"))
        floor = os.path.join(TARGET, "release", "examples", "floor")
        if os.access(floor, os.X_OK):
            self.known["floor"] = tools.floor(process.installed(floor, self.folder))

    def say(self, what):
        print(time.strftime("%H:%M:%S"), what, file=sys.stderr, flush=True)

    def number(self, full, quick):
        return quick if self.quick else full

    def tools(self, *names):
        return [self.known[name] for name in names if name in self.known]

    def absent(self, *names):
        return [name for name in names if name not in self.known and name != "floor"]

    def new_server(self, tool, servers=1):
        return Consul(self.consul, servers) if tool.backend == "consul" else Etcd(shutil.which("etcd"), servers)

    @contextlib.contextmanager
    def new_consul(self, limit):
        """An agent with this limit of connections from one address."""
        consul = Consul(self.consul, limit=limit)
        try:
            yield consul
        finally:
            consul.stop()

    def server(self, tool):
        """The one service that is up all the time."""
        if tool.backend == "file":
            return None
        if tool.backend not in self.servers:
            self.servers[tool.backend] = self.new_server(tool)
        return self.servers[tool.backend]

    def place(self, tool):
        server = self.server(tool)
        return server.address if server else self.folder

    def work_alone(self):
        """How long the work of those in line takes without a lock."""
        if self.alone is None:
            self.alone = line.work_alone(self)
        return self.alone

    def stop(self):
        process.stop_all()
        for server in self.servers.values():
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def printed(*command, **kwargs):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **kwargs).stdout.strip()


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((row.split(":")[1].strip() for row in file if row.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{os.cpu_count()} processors ({model}), {memory:.0f} GiB, Linux {platform.release()}; load at the start "
            f"{os.getloadavg()[0]:.1f}")


def versions(bench, program):
    found = [printed(program, "--version"), printed(bench.consul, "version").split("\n")[0]]
    if "etcdctl lock" in bench.known:
        found.append(printed("etcd", "--version").split("\n")[0].replace(" Version:", ""))
    if "flock" in bench.known:
        found.append(printed("flock", "--version"))
    return ", ".join(found)


def build():
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True)
    if os.path.exists(os.path.join(ROOT, "examples", "floor.rs")):
        subprocess.run([*command, "--example", "floor"], cwd=ROOT, check=True)
    return os.path.join(TARGET, "release", "consul-lock")


# No part takes longer than this on a machine that does nothing else.
PART_SECONDS = 400


def terminated(*_):
    raise KeyboardInterrupt


def overdue(*_):
    raise RuntimeError(f"took longer than {PART_SECONDS} s")


def main(arguments):
    options = parse(arguments)
    if options.self_test:
        tests = unittest.defaultTestLoader.loadTestsFromName("benchmark_parts.test_parts")
        return 0 if unittest.TextTestRunner(stream=sys.stderr).run(tests).wasSuccessful() else 1
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGALRM, overdue)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    program = os.path.abspath(options.bin) if options.bin else build()
    consul = printed(os.path.join(ROOT, "scripts", "fetch-consul"))
    consul = os.path.join(ROOT, consul) if "/" in consul else shutil.which(consul)
    about = machine()
    bench = Bench(program, consul, options.quick)
    begin, parts, failed = time.monotonic(), [], False
    try:
        about += f". {versions(bench, program)}. This repository's programs as installed: copies of what cargo made"
        for name in options.part or PARTS:
            heading, measure = PARTS[name]
            bench.say(f"{name}: {heading}")
            signal.alarm(PART_SECONDS)
            try:
                body = measure(bench)
            except (RuntimeError, OSError) as error:
                # What one part cannot show does not keep the others from being measured.
                failed = True
                body = f"FAILED: {error}\n"
                process.stop_all()
                bench.servers.clear()
            signal.alarm(0)
            parts.append((heading, body))
            print(f"## {heading}\n\n{body}", flush=True)
        plot = line.draw(bench) if bench.points else None
        bench.say(f"all done after {(time.monotonic() - begin) / 60:.1f} minutes")
    finally:
        bench.stop()
    whole = page(bench.figures, about, (time.monotonic() - begin) / 60, parts)
    print(f"## What was to be reached\n\n{summary(bench.figures)}")
    if options.write and not failed:
        for name, content in ((PAGE, whole), (PLOT, plot)):
            with open(name, "w", encoding="utf-8") as file:
                file.write(content)
        bench.say(f"{PAGE} and {PLOT} are written")
    return 1 if failed else 0
