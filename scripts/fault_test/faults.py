"""The faults by name, each with how long it lasts; what they are made of is in nemesis.py.

The seconds are long enough for others to take the lock: a failed node's sessions end after about 10 s, a TTL of 15 s
after 30 s at the latest, and the lock delay is 15 s.
"""
import signal
import time
from collections import namedtuple

from .nemesis import send


def cut_host(nemesis):
    yield from nemesis.cut(nemesis.hosts(), nemesis.random.uniform(29, 33))


def cut_leader(nemesis):
    yield from nemesis.cut([nemesis.cluster.leader()], nemesis.random.uniform(16, 24))


def cut_briefly(nemesis):
    yield from nemesis.cut(nemesis.hosts(), 4)


def stop_agent(nemesis):
    yield from nemesis.stop(nemesis.agents(), nemesis.random.uniform(29, 33))


def restart_agent(nemesis):
    yield from nemesis.kill(nemesis.agents(), 4)


def kill_agent(nemesis):
    yield from nemesis.kill(nemesis.agents(), nemesis.random.uniform(29, 33))


def stop_servers(nemesis):
    servers = [nemesis.cluster.agents[host] for host in nemesis.cluster.servers]
    yield from nemesis.stop(servers, nemesis.random.uniform(14, 24))


def kill_leader(nemesis):
    yield from nemesis.kill([nemesis.leader()], nemesis.random.uniform(6, 12))


def stop_leader(nemesis):
    yield from nemesis.stop([nemesis.leader()], nemesis.random.uniform(10, 16))


def lose_follower(nemesis):
    yield from nemesis.kill([nemesis.follower()], nemesis.random.uniform(8, 14))


def destroy(nemesis):
    yield 18, nemesis.destroy_sessions()


def destroy_and_restart(nemesis):
    targets = nemesis.destroy_sessions()
    time.sleep(nemesis.random.uniform(0.5, 6))
    agent = nemesis.leader() if nemesis.random.random() < 0.7 else nemesis.follower()
    agent.kill()
    agent.start()
    yield 16, [*targets, agent.host]


def destroy_and_kill_leader(nemesis):
    leader = nemesis.leader()
    targets = nemesis.destroy_sessions(through=leader)
    before = time.monotonic()
    time.sleep(nemesis.random.uniform(0, 0.015))
    send(leader.process.pid, signal.SIGKILL)
    after = (time.monotonic() - before) * 1000
    leader.kill()
    yield 18, [*targets, f"{leader.host} {after:.0f} ms later"]
    leader.start()


def kill_keeper(nemesis):
    yield from nemesis.signal_all(nemesis.keepers(), signal.SIGKILL, 18)


def stop_keeper(nemesis):
    yield from nemesis.signal_all(nemesis.keepers(), signal.SIGSTOP, nemesis.random.uniform(47, 50), signal.SIGCONT)


def kill_guard(nemesis):
    yield from nemesis.signal_all(nemesis.guards(), signal.SIGKILL, 5)


def stop_job(nemesis):
    groups = [-pid for pid in nemesis.keepers()]
    yield from nemesis.signal_all(groups, signal.SIGSTOP, nemesis.random.uniform(47, 50), signal.SIGCONT)


def kill_job(nemesis):
    yield from nemesis.signal_all([-pid for pid in nemesis.keepers()], signal.SIGKILL, 18)


def stop_keeper_and_destroy(nemesis):
    yield from nemesis.stop_and_destroy(nemesis.keepers(), 18)


def stop_guard_and_destroy(nemesis):
    yield from nemesis.stop_and_destroy(nemesis.guards(), 18)


def stop_guard_and_cut(nemesis):
    guards = nemesis.guards()
    for pid in guards:
        send(pid, signal.SIGSTOP)
    yield from nemesis.cut(nemesis.hosts(), nemesis.random.uniform(29, 33))
    for pid in guards:
        send(pid, signal.SIGCONT)


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
    "holder's host cut off": harmful(cut_host),
    "holder's host cut off for 4 s": harmless(cut_briefly),
    "holder's agent stopped": harmful(stop_agent),
    "holder's agent killed -9, back after 30 s": harmful(kill_agent),
    "holder's agent killed -9, back in 5 s": harmless(restart_agent),
    "leader cut off": harmful(cut_leader),
    "leader killed -9": harmless(kill_leader),
    "leader stopped": harmless(stop_leader),
    "one server gone": harmless(lose_follower),
    "all servers stopped": harmful(stop_servers),
    "session destroyed": harmful(destroy),
    "session destroyed, then a server restarted": harmful(destroy_and_restart),
    "session destroyed, leader killed within 20 ms": harmful(destroy_and_kill_leader),
    "keeper killed -9": deadly(kill_keeper),
    "keeper stopped": deadly(stop_keeper),
    "keeper stopped, session destroyed": deadly(stop_keeper_and_destroy),
    "guard killed -9": deadly(kill_guard),
    "guard stopped, session destroyed": deadly(stop_guard_and_destroy),
    "guard stopped, host cut off": deadly(stop_guard_and_cut),
    "job killed -9": deadly(kill_job),
    "job stopped": deadly(stop_job),
}
SHORT = [
    "holder's host cut off",
    "keeper stopped, session destroyed",
    "leader killed -9",
    "session destroyed, leader killed within 20 ms",
]
