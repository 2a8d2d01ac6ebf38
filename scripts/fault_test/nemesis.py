"""The nemesis: faults at random, but from a seed, aimed at whoever holds the locks at that moment.

A fault is a generator: it does its harm, yields how many seconds to wait, and mends what it broke after that. All
faults hit the holders of both tools alike: where these are on two hosts, both hosts suffer.
"""
import json
import os
import random
import signal
import time
from collections import namedtuple

from .consul import Unreachable

Done = namedtuple("Done", "kind harmless begun healed ended targets killed ailment")
Done.__doc__ = """A fault that was applied: times in ns (harm done, mended, cluster whole again), what it hit, the runs
whose keeper or guard was killed or stopped by it, and what ailed the cluster for too long afterwards."""


def children(pid):
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Nemesis:
    """Applies faults to a cluster and the workers on it, one after the other."""

    def __init__(self, seed, network, cluster, workers, tools, folder, say):
        self.random = random.Random(seed)
        self.network, self.cluster, self.workers, self.tools = network, cluster, workers, tools
        self.folder, self.long, self.say = folder, os.path.join(folder, "long"), say
        self.done = []

    def holders(self):
        return [worker for worker in self.workers if worker.beating()]

    def hosts(self):
        """The hosts of the present holders; a random one where nobody holds anything."""
        return sorted({worker.host for worker in self.holders()}) or [self.random.choice(self.cluster.clients)]

    def agents(self):
        return [self.cluster.agents[host] for host in self.hosts()]

    def leader(self):
        return self.cluster.agents[self.cluster.leader()]

    def follower(self):
        leader = self.cluster.leader()
        return self.cluster.agents[self.random.choice([host for host in self.cluster.servers if host != leader])]

    def destroy_sessions(self, through=None):
        """Destroys the sessions of all holders, in a random order."""
        sessions = []
        for tool in self.random.sample(self.tools, len(self.tools)):
            try:
                sessions.append(self.cluster.session(tool.key))
            except Unreachable:
                pass
        for session in sessions:
            (through or self.leader()).call("PUT", f"/v1/session/destroy/{session}")
        return [f"session {session[:8]}" for session in sessions]

    def cut(self, hosts, seconds):
        for host in hosts:
            self.network.cut(host)
        yield seconds, hosts
        for host in hosts:
            self.network.heal(host)
        time.sleep(0.2)
        for host in hosts:
            self.cluster.rejoin(host)

    def stop(self, agents, seconds):
        for agent in agents:
            agent.stop()
        yield seconds, [agent.host for agent in agents]
        for agent in agents:
            agent.go_on()

    def kill(self, agents, seconds):
        for agent in agents:
            agent.kill()
        yield seconds, [agent.host for agent in agents]
        for agent in agents:
            agent.start()

    def signal_all(self, pids, number, seconds, healing=None):
        for pid in pids:
            send(pid, number)
        yield seconds, [f"pid {pid}" for pid in pids]
        if healing:
            for pid in pids:
                send(pid, healing)

    def keepers(self):
        return [worker.process.pid for worker in self.holders()]

    def guards(self):
        """The child of each of our keepers; `consul lock` has nothing like it."""
        return [child for worker in self.holders() if worker.tool is self.tools[0]
                for child in children(worker.process.pid)[:1]]

    def stop_and_destroy(self, pids, seconds):
        """The tightest case: nobody is told of a loss that happens just now."""
        for pid in pids:
            send(pid, signal.SIGSTOP)
        targets = self.destroy_sessions()
        yield seconds, targets
        for pid in pids:
            send(pid, signal.SIGCONT)

    # The schedule.

    def play(self, name, kind):
        """One fault: wait for holders, do harm, mend, wait for health."""
        self.await_holders(30)
        time.sleep(self.random.uniform(0, 1.5))
        if self.random.random() < 0.75:
            with open(self.long, "w", encoding="ascii"):
                pass
        self.await_holders(5)
        killed = [worker.beating() for worker in self.holders()] if kind.deadly else []
        holders = {worker.tool.name: worker.host for worker in self.holders()}
        begun = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        targets = []
        try:
            harm = kind.apply(self)
            seconds, targets = next(harm)
            hit = ", ".join(targets) or "nobody there"
            self.say(f"fault {len(self.done) + 1}: {name}: {hit} for {seconds:.0f} s; holders {holders}")
            time.sleep(seconds)
            for _ in harm:
                pass
        except Unreachable as error:
            self.say(f"  not applied in full: {error}")
        healed = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        # What a harmless fault does to a run is seen soon after it, if at all.
        time.sleep(2 if not kind.harmless else 6)
        if os.path.exists(self.long):
            os.unlink(self.long)
        ailment = self.cluster.wait_for_health(60)
        if ailment:
            self.say(f"  not whole again after 60 s: {ailment}")
        ended = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.done.append(Done(name, kind.harmless, begun, healed, ended, targets, killed, ailment))
        with open(os.path.join(self.folder, "faults"), "a", encoding="utf-8") as out:
            out.write(json.dumps(self.done[-1]._asdict()) + "\n")

    def await_holders(self, seconds):
        end = time.monotonic() + seconds
        while {worker.tool.name for worker in self.holders()} != {tool.name for tool in self.tools}:
            if time.monotonic() > end:
                return
            time.sleep(0.02)

    def schedule(self, count, kinds):
        """So many names of faults: all kinds, shuffled, again and again."""
        names = []
        while len(names) < count:
            names += self.random.sample(kinds, len(kinds))
        return names[:count]

    def rage(self, count, kinds, until):
        """Plays so many faults of these kinds by name, none that begins after `until` (monotonic seconds)."""
        for name in self.schedule(count, list(kinds)):
            if time.monotonic() > until:
                self.say(f"time is up after {len(self.done)} faults")
                return
            self.play(name, kinds[name])
