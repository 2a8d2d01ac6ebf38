"""A real Consul cluster: servers with durable data, a client agent on each other host.

The test talks to the agents through unix sockets, so that it reaches them whatever happens to their network.
"""
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.parse


class Unreachable(Exception):
    """The agent gave no good answer."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("consul", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Agent:
    """One agent on one host."""

    def __init__(self, network, consul, folder, host, config):
        self.host, self.folder = host, os.path.join(folder, host)
        self.socket = os.path.join(self.folder, "http.sock")
        self.process = None
        os.makedirs(self.folder)
        file = os.path.join(self.folder, "agent.json")
        address = network.addresses[host]
        own = {
            "node_name": host,
            "data_dir": os.path.join(self.folder, "data"),
            "bind_addr": address,
            "addresses": {"http": f"127.0.0.1 unix://{self.socket}"},
            "ports": {"dns": -1, "grpc": -1, "serf_wan": -1},
            "retry_interval": "1s",
            "disable_update_check": True,
        }
        with open(file, "w", encoding="utf-8") as out:
            json.dump({**own, **config}, out)
        self.command = network.on(host, [consul, "agent", f"-config-file={file}"])

    def start(self):
        with open(os.path.join(self.folder, "agent.log"), "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def call(self, method, path, timeout=3.0):
        """The decoded answer of this agent."""
        connection = UnixConnection(self.socket, timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.host}: {method} {path}: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Unreachable(f"{self.host}: {method} {path}: {answer.status} {body[:200]!r}")
        return json.loads(body) if body else None


class Cluster:
    """Servers and client agents by host name."""

    def __init__(self, network, consul, folder, servers, clients, multiplier):
        join = [network.addresses[host] for host in servers]
        self.network = network
        self.agents = {}
        for host in servers:
            config = {
                "server": True,
                "bootstrap_expect": len(servers),
                "retry_join": join,
                "performance": {"raft_multiplier": multiplier},
                # Else a killed server comes back without a vote for 10 s, and the next fault takes the quorum.
                "autopilot": {"cleanup_dead_servers": False},
            }
            self.agents[host] = Agent(network, consul, folder, host, config)
        for host in clients:
            self.agents[host] = Agent(network, consul, folder, host, {"retry_join": join})
        self.servers, self.clients = servers, clients
        for agent in self.agents.values():
            agent.start()

    def ask(self, method, path):
        """The answer of the first server that has one."""
        last = None
        for host in self.servers:
            try:
                return self.agents[host].call(method, path)
            except Unreachable as error:
                last = error
        raise last

    def leader(self):
        """The leader's host name."""
        address = self.ask("GET", "/v1/status/leader").split(":")[0]
        for host, known in self.network.addresses.items():
            if known == address:
                return host
        raise Unreachable("no leader")

    def session(self, key):
        """The session that holds the key."""
        entry = self.ask("GET", "/v1/kv/" + urllib.parse.quote(key) + "?consistent")[0]
        if "Session" not in entry:
            raise Unreachable(f"nobody holds {key}")
        return entry["Session"]

    def ailment(self):
        """What keeps the cluster from being whole, or None."""
        everybody = len(self.agents)
        try:
            for host, agent in self.agents.items():
                if agent.process.poll() is not None:
                    return f"{host} does not run"
                if not agent.call("GET", "/v1/status/leader"):
                    return f"{host} knows no leader"
                alive = sum(member["Status"] == 1 for member in agent.call("GET", "/v1/agent/members"))
                if alive < everybody:
                    return f"{host} sees {alive} of {everybody} agents"
            raft = self.ask("GET", "/v1/operator/raft/configuration")
            if sum(server["Voter"] for server in raft["Servers"]) < len(self.servers):
                return "a server has no vote"
            health = self.ask("GET", "/v1/health/state/critical")
            if health:
                return "critical: " + ", ".join(f"{check['CheckID']} of {check['Node']}" for check in health)
        except Unreachable as error:
            return str(error)
        return None

    def wait_for_health(self, seconds):
        """Waits until the cluster is whole; returns what still ailed it when the time was up, or None."""
        now = time.monotonic()
        end, nudge = now + seconds, now + 5
        while True:
            ailment = self.ailment()
            now = time.monotonic()
            if ailment is None or now > end:
                return ailment
            if now > nudge:
                # Serf compares notes every 30 s only, and this need not take so long.
                nudge = now + 5
                for host in self.agents:
                    self.rejoin(host)
            time.sleep(0.25)

    def rejoin(self, host):
        """Tells a host that was away to look for the others now, and not at Serf's next try."""
        for other in self.servers:
            if other != host:
                try:
                    self.agents[host].call("PUT", "/v1/agent/join/" + self.network.addresses[other])
                except Unreachable:
                    pass
