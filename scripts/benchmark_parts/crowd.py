"""A crowd: so many contenders start at once, and each works for 20 ms under the same lock."""
import time

from . import process, text
from .proxy import Proxy

NAMES = ("ours", "consul lock", "etcdctl lock", "flock")

WORK = 0.02


class Crowd:
    """How it went: seconds until all were done, CPU seconds of all, how many failed."""

    def __init__(self, tool, place, key, number):
        begin = time.perf_counter()
        pids = [tool.start(place, key, "sleep", str(WORK)) for _ in range(number)]
        ended = [process.wait(pid) for pid in pids]
        self.seconds = time.perf_counter() - begin
        self.cpu = sum(each.cpu for each in ended)
        self.failed = sum(each.code != 0 for each in ended)
        self.number, self.count = number, None


def counted(tool, place, key, number):
    """The same through the proxy, which counts and slows."""
    proxy = Proxy(place)
    try:
        crowd = Crowd(tool, proxy.address, key, number)
        time.sleep(0.2)
        crowd.count = proxy.count()
    finally:
        proxy.stop()
    return crowd


def gather(bench, tool, number, repeats):
    """Some timed runs and one counted one; just that for `consul lock` among many, which takes long."""
    place, key = bench.place(tool), f"bench-crowd-{number}"
    if tool.name == "consul lock" and number > 100:
        repeats = 0
    crowds = [Crowd(tool, place, key, number) for _ in range(repeats)]
    count = counted(tool, place, key, number) if tool.backend != "file" else None
    return crowds or [count], count


def crowd_table(bench, tools, number, repeats):
    found = {tool.name: gather(bench, tool, number, repeats) for tool in tools}
    ours = text.median([crowd.seconds for crowd in found[tools[0].name][0]])
    rows = []
    for tool in tools:
        crowds, count = found[tool.name]
        seconds = text.median([crowd.seconds for crowd in crowds])
        bench.figures[f"crowd {number} {tool}"] = seconds
        failed = sum(crowd.failed for crowd in [*crowds, *([count] if count else [])])
        if failed and tool.program == bench.ours.program:
            raise RuntimeError(f"{failed} of {tool} failed among {number}")
        row = [tool.name + (f" ({failed} failed)" if failed else ""), text.secs(seconds),
               text.secs(min(crowd.seconds for crowd in crowds)),
               f"{len(crowds)}" if crowds != [count] else "counted", text.ratio(ours, seconds),
               text.ms(seconds / number - WORK), text.percent(number * WORK / seconds),
               text.ms(text.median([crowd.cpu for crowd in crowds]) / number)]
        if count:
            bench.figures[f"requests {number} {tool}"] = count.count.requests / number
            row += [text.count(count.count.requests / number), text.size(count.count.bytes / number)]
        else:
            row += ["-", "-"]
        rows.append(row)
    head = ["", "all done, median", "least", "runs", "ours to it", "over the work, each", "efficiency", "CPU time, each",
            "requests, each", "bytes, each"]
    return f"### {number} contenders, ideally {number * WORK:.1f} s\n\n{text.table(head, rows, bench.absent(*NAMES))}\n"


def at_the_usual_limit(bench, number):
    """Ours on an agent that takes no more than 200 connections from one address."""
    with bench.new_consul(limit=200) as consul:
        crowd = Crowd(bench.ours, consul.address, "bench-limit", number)
    if crowd.failed:
        raise RuntimeError(f"{crowd.failed} of {number} failed at the usual limit of connections")
    return (f"These agents take any number of connections from one address. With Consul's own limit of 200, {number} "
            f"contenders "
            f"of ours were all done after {text.secs(crowd.seconds)}: those whom the agent turns away ask again.\n")


def measure(bench):
    tools = bench.tools(*NAMES)
    sizes = bench.number([(10, 5), (100, 3), (300, 2)], [(10, 1), (30, 1)])
    parts = []
    for number, repeats in sizes:
        parts.append(crowd_table(bench, tools, number, repeats))
        bench.say(f"{number} contenders done")
    parts.append(at_the_usual_limit(bench, bench.number(300, 220)))
    return "\n".join(parts)
