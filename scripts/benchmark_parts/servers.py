"""Consul and etcd, one server or three, on free ports of the loopback interface, in folders of their own."""
import json
import os
import shutil
import socket
import tempfile
import urllib.error
import urllib.request

from . import process

# Consul's own limit of connections from one address.
USUAL_LIMIT = 200


def free_ports(number, address="127.0.0.1"):
    """Ports that nobody listens on, for TCP and, as far as one can tell, UDP."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind((address, 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def ask(address, method, path, body=None):
    """The decoded answer; nothing where there is none."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://{address}{path}", method=method, data=data)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        if error.code in (404, 500):
            return None
        raise
    except OSError:
        return None


class Server:
    """Some processes that make up one service, gone with their data by `stop`."""

    def __init__(self, name):
        self.folder = tempfile.mkdtemp(prefix=f"benchmark-{name}-")
        self.pids = []

    def launch(self, command, name):
        log = os.open(os.path.join(self.folder, f"{name}.log"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        self.pids.append(process.spawn(command, process.environment(), log, log))
        os.close(log)

    def alive(self):
        gone = [pid for pid in self.pids if process.has_ended(pid)]
        if gone:
            with open(os.path.join(self.folder, "0.log"), encoding="utf-8", errors="replace") as log:
                raise RuntimeError(f"{type(self).__name__} has ended: {log.read()[-2000:]}")
        return True

    def stop(self):
        for pid in self.pids:
            process.stop(pid, 2)
        shutil.rmtree(self.folder, ignore_errors=True)


class Consul(Server):
    """`consul agent -dev`, or three servers that keep their data on disk; then `address` is a follower's."""

    def __init__(self, program, servers=1, limit=5000, more=""):
        super().__init__("consul")
        hosts = [f"127.0.0.{number + 2}" for number in range(servers)] if servers > 1 else ["127.0.0.1"]
        addresses = []
        for number, host in enumerate(hosts):
            # One port of the servers must be the same on all: that at which they look for each other.
            if number == 0 or servers == 1:
                http, rpc, serf = free_ports(3, host)
            config = {
                "bind_addr": host, "client_addr": host, "node_name": f"server-{number}", "disable_update_check": True,
                "ports": {"http": http, "server": rpc, "serf_lan": serf, "serf_wan": -1, "dns": -1, "grpc": -1},
                "limits": {"http_max_conns_per_client": limit},
            }
            if servers > 1:
                config |= {
                    "server": True, "bootstrap_expect": servers, "retry_join": [f"{host}:{serf}" for host in hosts],
                    "retry_interval": "1s", "performance": {"raft_multiplier": 1},
                    "data_dir": os.path.join(self.folder, str(number)),
                }
            file = os.path.join(self.folder, f"{number}.json")
            with open(file, "w", encoding="ascii") as out:
                json.dump(config, out)
            dev = ["-dev"] if servers == 1 else []
            self.launch([program, "agent", *dev, "-log-level=warn", f"-config-file={file}", "-hcl", more], number)
            addresses.append(f"{host}:{http}")
        nodes = process.until("Consul is up", lambda: self.alive() and self.healthy(addresses[0], servers), pause=0.1)
        leader = ask(addresses[0], "GET", "/v1/status/leader").split(":")[0]
        self.address = next((each for each in addresses if not each.startswith(leader + ":")), addresses[0])
        process.until("all servers know all nodes", lambda: self.healthy(self.address, len(nodes)))

    def healthy(self, address, servers):
        """All nodes, once each of them is registered and well."""
        if not ask(address, "GET", "/v1/status/leader"):
            return None
        checks = ask(address, "GET", "/v1/health/state/passing") or []
        nodes = {check["Node"] for check in checks if check["CheckID"] == "serfHealth"}
        return nodes if len(nodes) == servers else None

    def sessions(self):
        return ask(self.address, "GET", "/v1/session/list?consistent") or []

    def keys(self, prefix):
        return ask(self.address, "GET", f"/v1/kv/{prefix}?keys&consistent") or []

    def holder(self, key):
        entry = ask(self.address, "GET", f"/v1/kv/{key}?consistent")
        return entry[0].get("Session") if entry else None

    def destroy(self, session):
        ask(self.address, "PUT", f"/v1/session/destroy/{session}")


class Etcd(Server):
    """etcd, alone or three of them; `address` is the last one's, most likely a follower's."""

    def __init__(self, program, servers=1):
        super().__init__("etcd")
        client, peer = zip(*(free_ports(2) for _ in range(servers)))
        cluster = ",".join(f"s{number}=http://127.0.0.1:{port}" for number, port in enumerate(peer))
        for number in range(servers):
            own, others = f"http://127.0.0.1:{client[number]}", f"http://127.0.0.1:{peer[number]}"
            self.launch([program, "--name", f"s{number}", "--data-dir", os.path.join(self.folder, str(number)),
                         "--listen-client-urls", own, "--advertise-client-urls", own, "--listen-peer-urls", others,
                         "--initial-advertise-peer-urls", others, "--initial-cluster", cluster,
                         "--log-level", "error"], number)
        self.address = f"127.0.0.1:{client[-1]}"
        process.until("etcd is up", lambda: self.alive() and (ask(self.address, "GET", "/health") or {}).get("health") ==
                      "true", pause=0.1)

    def leases(self):
        return [lease["ID"] for lease in ask(self.address, "POST", "/v3/lease/leases", {}).get("leases", [])]

    def revoke(self, lease):
        ask(self.address, "POST", "/v3/lease/revoke", {"ID": lease})

    def waiting(self):
        """How many have an entry below any key, holders included."""
        answer = ask(self.address, "POST", "/v3/kv/range", {"key": "AA==", "range_end": "AA==", "count_only": True})
        return int(answer.get("count", 0))
