"""The tools that are compared, each with the command line that a user would type."""
import os
import shutil

from . import process


class Tool:
    """How to run a command under a lock."""

    def __init__(self, name, backend, program, command):
        self.name, self.backend, self.program, self.command = name, backend, program, command

    def __repr__(self):
        return self.name

    def start(self, place, key, *work, **kwargs):
        """Runs `work` under the lock `key` of the service at `place` (for files: in that folder)."""
        env = process.environment(CONSUL_HTTP_ADDR=str(place)) if self.backend == "consul" else process.environment()
        return process.spawn(self.command(place, key, list(work)), env, **kwargs)

    def own(self, pids):
        """Those of the processes that are the tool's and not the work's."""
        return [pid for pid in pids if process.program(pid) == os.path.realpath(self.program)]


def ours(program):
    return Tool("consul-lock run", "consul", program, lambda place, key, work: [program, "run", key, "--", *work])


def ours_local(program):
    return Tool("consul-lock run --local", "file", program,
                lambda folder, key, work: [program, "run", f"--local={folder}", key, "--", *work])


def consuls_own(program):
    return Tool("consul lock", "consul", program, lambda place, key, work: [program, "lock", key, *work])


def consuls_own_bare(program):
    return Tool("consul lock -shell=false", "consul", program,
                lambda place, key, work: [program, "lock", "-shell=false", key, *work])


def etcds_own(program):
    return Tool("etcdctl lock", "etcd", program,
                lambda place, key, work: [program, f"--endpoints={place}", "lock", key, *work])


def flock(program):
    return Tool("flock", "file", program, lambda folder, key, work: [program, os.path.join(folder, key), *work])


def floor(program):
    """The same requests and processes and nothing else; it runs `true`, and no other work."""
    return Tool("the bare floor", "consul", program, lambda place, key, work: [program, key])


def bare():
    """No lock at all."""
    return Tool("true, no lock", "file", shutil.which("true"), lambda folder, key, work: work)
