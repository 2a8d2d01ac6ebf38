"""A thousand waiters on one agent: what each costs while nothing happens, and a hand-over among so many."""
import time

from . import process, text
from .line import Line
from .proxy import Proxy

NAMES = ("ours", "consul lock", "etcdctl lock")


def queue_up(bench, tool, place, number, key):
    line = Line(bench, tool, place, key)
    # In batches, so that the machine's processors are not asked for a thousand things at once.
    while len(line.waiters) < number:
        line.add(min(20, number - len(line.waiters)), in_order=False)
        line.settle()
    return line


def dissolve(line):
    """Interrupts those who wait, the last ones first, so that nobody's going wakes anybody; in batches, since each has 2 s
    for cleaning up."""
    waiters = line.waiters
    while waiters:
        batch, waiters = waiters[-20:], waiters[:-20]
        for pid in reversed(batch):
            process.hurry(pid)
        for pid in batch:
            process.stop(pid)
    # A signal would leave the command of some tools alive.
    if not process.has_ended(line.holder):
        line.begin()
    process.wait(line.holder)


def hand_overs(bench, number, turns):
    """Memory of a waiter in bytes, the agent's growth for each, and the seconds of a turn when so many wait."""
    agent = bench.server(bench.ours).pids
    before = process.memory(agent)
    line = queue_up(bench, bench.ours, bench.place(bench.ours), number, "bench-many")
    time.sleep(2)
    memory = process.memory(bench.ours.own(process.tree(*line.waiters))) / number
    growth = (process.memory(agent) - before) / number
    line.begin()
    first = process.until("the first turn", line.order, pause=0.001)
    begin, already = time.perf_counter(), len(first)
    process.until("the turns", lambda: len(line.order()) > turns, pause=0.001)
    last = line.order()
    each = (time.perf_counter() - begin) / (len(last) - already)
    dissolve(line)
    left = line.waiting() + len(line.server.sessions())
    if left:
        raise RuntimeError(f"{left} entries and sessions are left after all have gone")
    return memory, growth, each


def idle(bench, groups, seconds):
    """Requests and bytes a second of each group while all wait; and the memory of a waiter."""
    lines, proxies = [], []
    for tool, number in groups:
        proxies.append(Proxy(bench.place(tool)))
        lines.append(queue_up(bench, tool, proxies[-1].address, number, "bench-idle"))
        bench.say(f"{number} of {tool} wait")
    # Whoever came first has asked for the second time by then.
    time.sleep(6)
    before, begin = [proxy.count() for proxy in proxies], time.perf_counter()
    time.sleep(seconds)
    after, took = [proxy.count() for proxy in proxies], time.perf_counter() - begin
    found = []
    for line, (tool, number), early, late in zip(lines, groups, before, after):
        memory = process.memory(tool.own(process.tree(*line.waiters))) / number
        found.append(((late - early).requests / took, (late - early).bytes / took, memory))
    for line in lines:
        dissolve(line)
    for proxy in proxies:
        proxy.stop()
    return found


def measure(bench):
    many, some, turns = bench.number((1000, 100, 200), (60, 10, 20))
    memory, growth, each = hand_overs(bench, many, turns)
    bench.points.setdefault(bench.ours.name, []).append((many, max((each - bench.work_alone()) * 1000, 0.1)))
    bench.say(f"{turns} hand-overs among {many} done")
    tools = bench.tools(*NAMES)
    groups = [(tool, many if tool is bench.ours else some) for tool in tools]
    seconds = bench.number(20, 6)
    found = idle(bench, groups, seconds)
    rows = []
    for (tool, number), (requests, sent, weight) in zip(groups, found):
        rows.append([tool.name, str(number), text.size(weight), text.count(requests), text.count(requests / number * 60),
                     text.size(sent / number * 60)])
    bench.figures["memory of a waiter"] = memory
    head = ["", "waiters", "memory of each", "requests a second, all", "requests a minute, each", "bytes a minute, each"]
    return (f"All at one agent, behind a holder, for {seconds} s; through the counting proxy. The agent's "
            f"`http_max_conns_per_client` is raised to 5000: a waiter keeps one connection, and Consul's default is "
            f"200.\n\n"
            f"{text.table(head, rows, bench.absent(*NAMES))}\n\nWithout the proxy: {text.size(memory)} a waiter, the "
            f"agent grew by {text.size(growth)} for "
            f"each, and the first {turns} hand-overs, with {many} to {many - turns} in line, took "
            f"{text.ms(each - bench.work_alone())} each over the work itself; nothing was left in Consul when the "
            f"rest was interrupted.\n")
