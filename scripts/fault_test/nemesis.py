"""The nemesis: faults at random, but from a seed, aimed at whoever holds the locks at that moment.

A fault is a generator: it does its harm, yields how many seconds to wait, and mends what it broke after that. All
faults hit the holders of both tools alike: where these are on two hosts, both hosts suffer.
"""
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

    def __init__(self, seed, network, cluster, workers, tools, long, say):
        self.random = random.Random(seed)
        self.network, self.cluster, self.workers, self.tools = network, cluster, workers, tools
        self.long, self.say = long, say
        self.done = []

    # What the faults are made of.

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

    # The faults. The seconds are long enough for others to take the lock: a failed node's sessions end after about
    # 10 s, a TTL of 15 s after 30 s at the latest, and the lock delay is 15 s.

    def cut_host(self):
        yield from self.cut(self.hosts(), self.random.uniform(29, 33))

    def cut_leader(self):
        yield from self.cut([self.cluster.leader()], self.random.uniform(16, 24))

    def cut_briefly(self):
        yield from self.cut(self.hosts(), 4)

    def stop_agent(self):
        yield from self.stop(self.agents(), self.random.uniform(29, 33))

    def restart_agent(self):
        yield from self.kill(self.agents(), 4)

    def kill_agent(self):
        yield from self.kill(self.agents(), self.random.uniform(29, 33))

    def stop_servers(self):
        yield from self.stop([self.cluster.agents[host] for host in self.cluster.servers], self.random.uniform(14, 24))

    def kill_leader(self):
        yield from self.kill([self.leader()], self.random.uniform(6, 12))

    def stop_leader(self):
        yield from self.stop([self.leader()], self.random.uniform(10, 16))

    def lose_follower(self):
        yield from self.kill([self.follower()], self.random.uniform(8, 14))

    def destroy(self):
        yield 18, self.destroy_sessions()

    def destroy_and_restart(self):
        targets = self.destroy_sessions()
        time.sleep(self.random.uniform(0.5, 6))
        agent = self.leader() if self.random.random() < 0.7 else self.follower()
        agent.kill()
        agent.start()
        yield 16, [*targets, agent.host]

    def destroy_and_kill_leader(self):
        leader = self.leader()
        targets = self.destroy_sessions(through=leader)
        before = time.monotonic()
        time.sleep(self.random.uniform(0, 0.015))
        send(leader.process.pid, signal.SIGKILL)
        after = (time.monotonic() - before) * 1000
        leader.kill()
        yield 18, [*targets, f"{leader.host} {after:.0f} ms later"]
        leader.start()

    def kill_keeper(self):
        yield from self.signal_all(self.keepers(), signal.SIGKILL, 18)

    def stop_keeper(self):
        yield from self.signal_all(self.keepers(), signal.SIGSTOP, self.random.uniform(47, 50), signal.SIGCONT)

    def kill_guard(self):
        yield from self.signal_all(self.guards(), signal.SIGKILL, 5)

    def stop_job(self):
        groups = [-pid for pid in self.keepers()]
        yield from self.signal_all(groups, signal.SIGSTOP, self.random.uniform(47, 50), signal.SIGCONT)

    def kill_job(self):
        yield from self.signal_all([-pid for pid in self.keepers()], signal.SIGKILL, 18)

    def stop_keeper_and_destroy(self):
        yield from self.stop_and_destroy(self.keepers(), 18)

    def stop_guard_and_destroy(self):
        yield from self.stop_and_destroy(self.guards(), 18)

    def stop_guard_and_cut(self):
        guards = self.guards()
        for pid in guards:
            send(pid, signal.SIGSTOP)
        yield from self.cut(self.hosts(), self.random.uniform(29, 33))
        for pid in guards:
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
            self.say(f"fault {len(self.done) + 1}: {name}: {', '.join(targets) or 'nobody there'} for {seconds:.0f} s; holders {holders}")
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
        """Plays so many faults, none that begins after `until` (monotonic seconds)."""
        for name in self.schedule(count, kinds):
            if time.monotonic() > until:
                self.say(f"time is up after {len(self.done)} faults")
                return
            self.play(name, FAULTS[name])


Kind = namedtuple("Kind", "apply harmless deadly")


def harmful(apply):
    return Kind(apply, False, False)


def harmless(apply):
    """Nothing that endangers the lock: no run may end by it."""
    return Kind(apply, True, False)


def deadly(apply):
    """It kills or stops a part of the tool itself."""
    return Kind(apply, False, True)


FAULTS = {
    "holder's host cut off": harmful(Nemesis.cut_host),
    "holder's host cut off for 4 s": harmless(Nemesis.cut_briefly),
    "holder's agent stopped": harmful(Nemesis.stop_agent),
    "holder's agent killed -9, back after 30 s": harmful(Nemesis.kill_agent),
    "holder's agent killed -9, back in 5 s": harmless(Nemesis.restart_agent),
    "leader cut off": harmful(Nemesis.cut_leader),
    "leader killed -9": harmless(Nemesis.kill_leader),
    "leader stopped": harmless(Nemesis.stop_leader),
    "one server gone": harmless(Nemesis.lose_follower),
    "all servers stopped": harmful(Nemesis.stop_servers),
    "session destroyed": harmful(Nemesis.destroy),
    "session destroyed, then a server restarted": harmful(Nemesis.destroy_and_restart),
    "session destroyed, leader killed within 20 ms": harmful(Nemesis.destroy_and_kill_leader),
    "keeper killed -9": deadly(Nemesis.kill_keeper),
    "keeper stopped": deadly(Nemesis.stop_keeper),
    "keeper stopped, session destroyed": deadly(Nemesis.stop_keeper_and_destroy),
    "guard killed -9": deadly(Nemesis.kill_guard),
    "guard stopped, session destroyed": deadly(Nemesis.stop_guard_and_destroy),
    "guard stopped, host cut off": deadly(Nemesis.stop_guard_and_cut),
    "job killed -9": deadly(Nemesis.kill_job),
    "job stopped": deadly(Nemesis.stop_job),
}
SHORT = ["holder's host cut off", "keeper stopped, session destroyed", "leader killed -9", "session destroyed, leader killed within 20 ms"]
