"""Three servers with their state on disk; the client asks a follower, as through an agent of its own."""
from . import text
from .crowd import Crowd
from .free import interleaved

NAMES = ("ours", "consul lock", "etcdctl lock")


class Elsewhere:
    """The bench with other services."""

    def __init__(self, servers):
        self.servers = servers

    def place(self, tool):
        return self.servers[tool.backend].address


def measure(bench):
    tools = bench.tools(*NAMES)
    rounds, number, repeats = bench.number((60, 100, 2), (8, 10, 1))
    servers = {}
    try:
        for tool in tools:
            if tool.backend not in servers:
                servers[tool.backend] = bench.new_server(tool, servers=3)
        there = Elsewhere(servers)
        times, cpus = interleaved(there, tools, rounds)
        crowds = {}
        for tool in tools:
            some = repeats if tool is bench.ours else 1
            crowds[tool.name] = [Crowd(tool, there.place(tool), "bench-cluster", number) for _ in range(some)]
            bench.say(f"{number} contenders of {tool} done")
    finally:
        for server in servers.values():
            server.stop()
    if any(crowd.failed for crowd in crowds[bench.ours.name]):
        raise RuntimeError("some of ours failed")
    base = text.median(times.get("consul lock"))
    rows = []
    for tool in tools:
        middle, some = text.median(times[tool.name]), crowds[tool.name]
        seconds, failed = text.median([crowd.seconds for crowd in some]), sum(crowd.failed for crowd in some)
        rows.append([tool.name, text.ms(middle), text.ms(min(times[tool.name])), text.ratio(middle, base),
                     text.ms(text.median(cpus[tool.name])), text.secs(seconds) + (f" ({failed} failed)" if failed else ""),
                     text.percent(number * 0.02 / seconds)])
    head = ["", "free run, median", "least", "of `consul lock`", "CPU time", f"{number} contenders, all done", "efficiency"]
    return (f"Consul with `raft_multiplier` 1 (etcd with its defaults), all servers on this one machine and disk; "
            f"{rounds} free runs "
            f"of each in turns.\n\n{text.table(head, rows, bench.absent(*NAMES))}\n")
