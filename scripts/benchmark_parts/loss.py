"""Losing a lock: how soon the command is dead, how late the next one starts, and what interrupted runs leave behind."""
import os
import random
import select
import signal
import time

from . import process, text

# With its shell, which is the default, `consul lock` kills no more than that shell.
NAMES = ("ours", "consul lock", "consul lock -shell=false", "etcdctl lock")

# So many crowds at the same time; more would be a test of the machine.
AT_A_TIME = 5


def one_loss(bench, tool, key):
    """Seconds from the request that ends the session, or the lease, to the death of an obedient command."""
    server = bench.server(tool)
    root = tool.start(server.address, key, "sleep", "60")
    command = process.until("the command", lambda: process.command_below(root, "sleep"))
    time.sleep(0.3)
    handle = os.pidfd_open(command)
    try:
        if tool.backend == "consul":
            # `consul lock` takes what it is given for a prefix.
            session = server.holder(key + ("" if tool is bench.ours else "/.lock"))
            if not session:
                raise RuntimeError(f"nobody holds the lock of {tool}")
            begin = time.perf_counter()
            server.destroy(session)
        else:
            [lease] = server.leases()
            begin = time.perf_counter()
            server.revoke(lease)
            if server.leases():
                raise RuntimeError("the lease is still there")
        dead, _, _ = select.select([handle], [], [], 5)
        took = time.perf_counter() - begin
        if not dead:
            os.kill(command, signal.SIGKILL)
    finally:
        os.close(handle)
    process.stop(root, 1)
    return took if dead else None


def losses(bench):
    rounds = bench.number(20, 5)
    rows = []
    for tool in bench.tools(*NAMES):
        times = []
        while len(times) < rounds:
            times.append(one_loss(bench, tool, f"bench-loss-{len(times)}"))
            if times == [None] * 3:
                break
        dead = [took for took in times if took is not None]
        if dead:
            bench.figures[f"loss {tool}"] = text.median(dead)
        if tool is bench.ours and len(dead) < len(times):
            raise RuntimeError("a command outlived the loss by 5 s")
        late = f"{len(times) - len(dead)} of {len(times)}"
        rows.append([tool.name, str(len(times)), *((text.ms(text.median(dead)), text.ms(max(dead))) if dead else ("-", "-")), late])
    head = ["", "losses", "to the command's death, median", "worst", "alive after 5 s"]
    return ("The session is destroyed (etcd: the lease revoked); the request is part of the time; the command is "
            "`sleep`.\n\n"
            f"{text.table(head, rows, bench.absent(*NAMES))}\n")


def crowds_after_loss(bench, numbers, delay, contenders):
    """When the first of a crowd starts after the holder's session was destroyed; these rounds all at the same time."""
    server, scenes = bench.server(bench.ours), []
    for number in numbers:
        key, log = f"bench-delay-{number}", os.path.join(bench.folder, f"delay-{number}")
        options = [bench.ours.program, "run", "--lock-delay", f"{delay}s", "-k", "1", key]
        env = process.environment(CONSUL_HTTP_ADDR=server.address)
        holder = process.spawn([*options, "--", "sleep", "60"], env)
        process.until("the holder", lambda holder=holder: process.command_below(holder, "sleep"))
        crowd = [process.spawn([*options, "--", "sh", "-c", f"date +%s.%N >>{log}"], env) for _ in range(contenders)]
        scenes.append((key, log, holder, crowd))
    time.sleep(2)
    begun = []
    for key, _, _, _ in scenes:
        # Wall time, as date(1) has it.
        begun.append(time.time())
        server.destroy(server.holder(key))
    firsts = []
    for (_, log, holder, crowd), begin in zip(scenes, begun):
        codes = [process.wait(pid).code for pid in [holder, *crowd]]
        if codes != [76] + [0] * contenders:
            raise RuntimeError(f"exit codes after a loss: {codes}")
        with open(log, encoding="ascii") as file:
            firsts.append(min(float(line) for line in file) - begin)
    early = sum(first < delay for first in firsts)
    if early:
        raise RuntimeError(f"{early} of {len(firsts)} started within the lock delay: {firsts}")
    return firsts


def interrupted(bench, runs):
    """How runs ended that were interrupted at a random moment; raises if they left anything."""
    server, dice, codes = bench.server(bench.ours), random.Random(2026), {}
    for _ in range(runs):
        pid = bench.ours.start(server.address, "bench-interrupt", "sleep", "0.02")
        which = dice.choice([None, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        if which:
            time.sleep(dice.uniform(0, 0.04))
            os.kill(pid, which)
        code = process.wait(pid).code
        codes[code] = codes.get(code, 0) + 1
    left = [*server.sessions(), *server.keys("bench-interrupt")]
    if left:
        raise RuntimeError(f"left after interruptions: {left}")
    return ", ".join(f"{code}: {number}" for code, number in sorted(codes.items()))


def measure(bench):
    rounds, delay, contenders = bench.number((25, 7, 20), (2, 4, 3))
    runs = bench.number(200, 30)
    dead = losses(bench)
    firsts = []
    for first in range(0, rounds, AT_A_TIME):
        numbers = range(first, min(first + AT_A_TIME, rounds))
        firsts += crowds_after_loss(bench, numbers, delay, contenders)
    codes = interrupted(bench, runs)
    return (f"{dead}\n{contenders} contenders on each of {rounds} keys whose holders' sessions are destroyed, lock "
            f"delay {delay} s: the "
            f"first starts {text.secs(min(firsts))} after the destruction at the soonest, {text.secs(max(firsts))} at "
            f"the latest; "
            f"none within the delay.\n\n{runs} runs, three quarters of them sent INT, TERM or HUP at a random moment "
            f"of their first "
            f"40 ms: no session and no key was left. Exit codes, or minus the signal: {codes}.\n")
