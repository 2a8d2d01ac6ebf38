"""A line of waiters who came in a known order, behind a holder who then goes: hand-over times, and who came out of turn."""
import os
import tempfile
import time

from . import plot, process, text

NAMES = ("ours", "consul lock", "etcdctl lock", "flock")


def work(folder, log):
    """A script that writes down the number that it is given, and works for 20 ms."""
    script = os.path.join(folder, "work")
    with open(script, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\necho $1 >>{log}\nexec sleep 0.02\n")
    os.chmod(script, 0o755)
    return script


class Line:
    """So many waiters behind a holder whose command ends when told to."""

    def __init__(self, bench, tool, place, key):
        self.bench, self.tool, self.place, self.key = bench, tool, place, key
        self.server = bench.server(tool)
        folder = tempfile.mkdtemp(prefix="line-")
        self.gate, self.log = os.path.join(folder, "gate"), os.path.join(folder, "order")
        os.mkfifo(self.gate)
        self.script = work(folder, self.log)
        self.holder = tool.start(place, key, "cat", self.gate)
        process.until("the holder's command", lambda: process.command_below(self.holder, "cat"))
        self.waiters = []

    def waiting(self):
        """How many wait, as the service, or the kernel, sees it."""
        if self.tool.backend == "etcd":
            return self.server.waiting() - 1
        if self.tool.backend == "file":
            with open("/proc/locks", encoding="ascii") as file:
                locks = [line.split() for line in file if "->" in line]
            return sum(int(fields[5]) in self.waiters for fields in locks)
        if self.tool.name == "consul lock":
            return sum(session["Name"].startswith("Consul lock") for session in self.server.sessions()) - 1
        return len(self.server.keys(f"{self.key}/.queue/"))

    def add(self, number, in_order=True):
        for _ in range(number):
            self.waiters.append(self.tool.start(self.place, self.key, self.script, str(len(self.waiters))))
            if in_order:
                self.settle()

    def settle(self):
        process.until(f"{len(self.waiters)} wait", lambda: self.waiting() >= len(self.waiters), pause=0.002)

    def order(self):
        """The waiters' numbers in the order of their turns so far."""
        try:
            with open(self.log, encoding="ascii") as file:
                return [int(number) for number in file.read().split()]
        except FileNotFoundError:
            return []

    def begin(self):
        """Lets the holder go."""
        with open(self.gate, "w", encoding="ascii"):
            pass
        self.begun = time.perf_counter()

    def finish(self):
        """Seconds until the last was done, and the order."""
        codes = [process.wait(pid).code for pid in self.waiters]
        seconds = time.perf_counter() - self.begun
        process.wait(self.holder)
        if any(codes):
            raise RuntimeError(f"{self.tool}: exit codes {sorted(set(codes))}")
        order = self.order()
        if sorted(order) != list(range(len(self.waiters))):
            raise RuntimeError(f"{self.tool}: {len(self.waiters)} waiters, these turns: {order}")
        return seconds, order


def work_alone(bench):
    """How long the work takes without a lock."""
    script = work(bench.folder, os.devnull)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        process.wait(process.spawn([script, "0"], process.environment()))
        times.append(time.perf_counter() - begin)
    return text.median(times)


def measure(bench):
    tools = bench.tools(*NAMES)
    sizes = bench.number([3, 10, 30, 100, 300], [3, 10, 30])
    points, rows = {tool.name: [] for tool in tools}, []
    turns = {tool.name: [] for tool in tools}
    for size in sizes:
        row = [str(size)]
        for tool in tools:
            line = Line(bench, tool, bench.place(tool), f"bench-line-{size}")
            line.add(size)
            line.begin()
            seconds, order = line.finish()
            alone = bench.work_alone()
            each = seconds / size - alone
            points[tool.name].append((size, max(each * 1000, 0.1)))
            turns[tool.name].append((size, text.violations(order)))
            row.append(text.ms(each))
        rows.append(row)
        bench.say(f"{size} in line done")
    bench.points.update(points)
    size, bad = turns[bench.ours.name][-1]
    bench.figures["fifo"] = (size, bad)
    if bad:
        raise RuntimeError(f"{bad} of {size} waiters came out of turn")
    orders = ", ".join(f"{tool} {turns[tool.name][-1][1]} of {turns[tool.name][-1][0]}" for tool in tools[1:])
    absent = bench.absent(*NAMES)
    head = ["waiters", *(tool.name for tool in tools), *absent]
    rows = [[*row, *[text.MISSING] * len(absent)] for row in rows]
    return (f"Each waiter starts when the one before it is seen waiting; then the holder goes, and each in turn writes "
            f"its number "
            f"and sleeps for 20 ms. The figure is the time until all are done, divided by their number, less what that "
            f"work takes "
            f"without a lock ({text.ms(alone)}).\n\n{text.table(head, rows)}\n\nTurns out of the order of arrival: "
            f"{bad} of {size} "
            f"with consul-lock run ({orders}).\n")


def draw(bench):
    """The plot of what was measured."""
    lines = [(name, points) for name, points in bench.points.items()]
    return plot.svg("Time a hand-over", "waiters in line", "ms a hand-over", lines)
