"""Arguments, and the order of things."""
import argparse
import glob
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from . import checker, network, report, worker
from .consul import Cluster
from .faults import FAULTS, SHORT
from .nemesis import Nemesis

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVERS = ["server-1", "server-2", "server-3"]
CLIENTS = ["client-1", "client-2", "client-3"]
# The build that is tested unless --bin names a binary.
BUILT = os.environ.get("BUILT") or os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/fault-test", description=(
        "A real Consul cluster and three client hosts in network namespaces of this machine, faults at random, and a "
        "checker that finds critical sections that overlap: consul-lock and `consul lock` side by side. Needs root."))
    add = parser.add_argument
    add("--seed", type=int, help="repeat this schedule (default: a random one, which is printed)")
    add("--faults", type=int, default=60, metavar="N", help="how many (default 60)")
    add("--only", action="append", metavar="KIND", help="only faults whose name contains this; repeatable")
    add("--time-limit", type=float, default=60, metavar="MINUTES", help="begin no fault after (default 60)")
    add("--raft-multiplier", type=int, default=1, metavar="N", help="as in Consul's configuration (default 1)")
    add("--report", metavar="FILE", help="put the Markdown summary between the marks of this file, too")
    add("--keep", metavar="DIR", help="keep agents' logs, beats and the tools' messages in this new folder")
    add("--short", action="store_true", help="four faults, about 2 minutes; where there is no root: says so, exit 0")
    add("--self-test", action="store_true", help="test the checker and the workers; needs no root")
    add("--bin", default=os.path.join(BUILT, "consul-lock"),
        help="the consul-lock to test (default: that in the folder $BUILT, else what cargo build --release made)")
    add("--consul", help="the consul to use (default: what scripts/fetch-consul prints)")
    add("--folder", help=argparse.SUPPRESS)
    add("--lifeline", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def say(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def printed(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def lines(pattern):
    for name in sorted(glob.glob(pattern)):
        with open(name, encoding="utf-8") as file:
            yield from file


def history(folder, tool):
    stem = os.path.join(folder, tool.name.replace(" ", "_") + "-*")
    return checker.read(lines(stem + ".beats"), lines(stem + ".runs"))


def survivors(tool):
    """The processes of this tool's sections, and of the tool, that exist now: what they are, by process id."""
    found = {}
    mark = f"FAULT_RUN={tool.name.replace(' ', '_')}-".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                runs = [entry for entry in file.read().split(b"\0") if entry.startswith(mark)]
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if runs:
            found[int(pid)] = f"pid {pid}, {runs[0].decode()}: {command[:100]}"
    return found


def finish(workers, seconds):
    """Lets the present runs end, and starts no other."""
    for one in workers:
        one.ending.set()
    end = time.monotonic() + seconds
    for one in workers:
        one.join(max(0, end - time.monotonic()))
        if one.is_alive():
            say(f"{one.name} has not ended after {seconds} s")


def settle(tool, seconds):
    """What is left of the tool's processes after so long at most."""
    end = time.monotonic() + seconds
    while True:
        left = survivors(tool)
        if not left or time.monotonic() > end:
            return list(left.values())
        time.sleep(0.1)


def rage(options, seed):
    """The test itself, inside the namespaces."""
    folder = options.folder
    began = time.monotonic()
    hosts = network.Network(SERVERS + CLIENTS)
    consul = Cluster(hosts, options.consul, folder, SERVERS, CLIENTS, options.raft_multiplier)
    ailment = consul.wait_for_health(60)
    if ailment:
        say(f"the cluster does not come up: {ailment}")
        return 1
    say(f"cluster is up, {time.monotonic() - began:.0f} s")
    tools = [worker.ours(options.bin), worker.consuls_own(options.consul)]
    workers = [worker.Worker(tool, host, folder, seed, lambda command, host=host: hosts.on(host, command))
               for host in CLIENTS for tool in tools]
    for one in workers:
        one.start()
    evil = Nemesis(seed, hosts, consul, workers, tools, folder, say)
    kinds = {name: FAULTS[name] for name in (SHORT if options.short else FAULTS)
             if not options.only or any(part in name for part in options.only)}
    evil.rage(options.faults, kinds, began + options.time_limit * 60)
    finish(workers, 60)
    verdicts = [report.Verdict(tool.name, history(folder, tool), evil.done, settle(tool, 15), tool is tools[0])
                for tool in tools]

    command = f"scripts/fault-test --seed {seed} " + ("--short" if options.short else f"--faults {options.faults}")
    for part in options.only or []:
        command += " --only " + shlex.quote(part)
    if options.raft_multiplier != 1:
        command += f" --raft-multiplier {options.raft_multiplier}"
    version = printed(options.consul, "version").split("\n")[0]
    setup = (f"{version}, 3 servers at `raft_multiplier` {options.raft_multiplier}, 3 client hosts; `consul-lock run "
             f"{' '.join(worker.OURS_OPTIONS)}`, and `consul lock` as it comes (TTL 15 s, lock delay 15 s, grace 5 s).")
    text = report.markdown(seed, command, setup, evil.done, verdicts, (time.monotonic() - began) / 60)
    print("\n" + text)
    for verdict in verdicts:
        for line in report.details(evil.done, verdict):
            print("-", line)
    if options.report:
        insert(options.report, text)
    if not verdicts[0].runs:
        say("consul-lock completed no run")
        return 1
    return 0 if verdicts[0].good() else 1


def insert(name, text):
    """Puts the text between the marks in the file, or into a new file."""
    begin, end = "<!-- result -->\n", "<!-- end of result -->\n"
    try:
        with open(name, encoding="utf-8") as file:
            before, rest = file.read().split(begin)
            after = rest.split(end)[1]
    except FileNotFoundError:
        before, after = "# Fault test\n\n", ""
    with open(name, "w", encoding="utf-8") as file:
        file.write(before + begin + text + end + after)


def self_test():
    """The checker on made-up histories; then the workers with a lock that holds, and with none: that must be found."""
    tests = unittest.defaultTestLoader.loadTestsFromName("fault_test.test_checker")
    if not unittest.TextTestRunner(stream=sys.stderr).run(tests).wasSuccessful():
        return 1
    ok = True
    with tempfile.TemporaryDirectory(prefix="fault-test-") as folder:
        lock = os.path.join(folder, "lock")
        for name, command, expected in (("no lock", ["env"], True), ("flock", ["flock", lock], False)):
            tool = worker.Tool(name, None, command)
            workers = [worker.Worker(tool, host, folder, 1) for host in CLIENTS]
            for one in workers:
                one.start()
            time.sleep(8)
            finish(workers, 60)
            for pid in survivors(tool):
                os.kill(pid, signal.SIGKILL)
            verdict = report.Verdict(tool.name, history(folder, tool), [], [], False)
            well = bool(verdict.overlaps) == expected and verdict.done == len(verdict.runs) >= 2
            say(f"{tool.name}: {len(verdict.runs)} runs, {verdict.done} done, {len(verdict.overlaps)} overlaps, "
                f"{verdict.seconds:.1f} s: {'as it must be' if well else 'WRONG'}")
            ok &= well
    return 0 if ok else 1


def main(arguments):
    options = parse(arguments)
    if options.lifeline is not None:
        network.become_init(options.lifeline)
        return rage(options, options.seed)
    if options.self_test:
        return self_test()
    why = network.hindrance()
    if why:
        say(f"THE FAULT TEST DID NOT RUN: {why}")
        return 0 if options.short else 1
    if not os.access(options.bin, os.X_OK):
        say(f"{options.bin} is missing: cargo build --release, or name it by --bin")
        return 1
    if options.short:
        options.faults = len(SHORT)
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    say(f"seed {seed}")
    consul = options.consul or printed(os.path.join(ROOT, "scripts/fetch-consul")).strip()
    consul = os.path.abspath(os.path.join(ROOT, consul)) if "/" in consul else shutil.which(consul)
    folder = options.keep or tempfile.mkdtemp(prefix="fault-test-")
    folder = os.path.abspath(folder)
    if options.keep:
        os.makedirs(folder)
    try:
        return network.isolate([*arguments, "--folder", folder, "--seed", str(seed), "--faults", str(options.faults),
                                "--consul", consul, "--bin", os.path.abspath(options.bin)])
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
