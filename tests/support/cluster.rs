//! Three Consul servers on addresses of their own, with the faults that a cluster can have.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::agent::{Agent, Options, PATIENCE, Ports, Role};
use super::eventually;

/// How long a cluster may take to elect; at Consul's default raft_multiplier of 5 an election takes 11 to 17 seconds,
/// and a split vote takes another round.
pub const ELECTION: Duration = Duration::from_secs(90);

/// Three servers, numbered from 0.
pub struct Cluster {
    servers: Vec<Agent>,
    join: Vec<String>,
    network: [u8; 2],
}

impl Cluster {
    /// Starts three servers and waits for their leader. `raft_multiplier` 1 elects within about 2 s, Consul's default
    /// is 5.
    pub fn start(raft_multiplier: u32) -> Self {
        let hcl = format!(
            "performance {{ raft_multiplier = {raft_multiplier} }}\n\
             # Else a server that was killed comes back without a vote for 10 s, and the next kill loses the quorum.\n\
             autopilot {{ cleanup_dead_servers = false }}\n"
        );
        let options = Options { hcl, ..Options::default() };
        for _ in 0..5 {
            // A network at random, so that clusters of tests that run at the same time do not meet.
            let network = [fastrand::u8(1..=254), fastrand::u8(..)];
            let places: Vec<_> = (2..5).map(|host| address(network, host)).map(|ip| (ip, Ports::choose(ip))).collect();
            let join: Vec<_> = places.iter().map(|(ip, ports)| format!("{ip}:{}", ports.serf)).collect();
            let role = Role::Server { expect: 3, join: join.clone() };
            let servers: Vec<_> =
                places.into_iter().map(|(ip, ports)| Agent::launch(&role, ip, ports, &options)).collect();
            if servers.iter().all(Agent::is_up) {
                let cluster = Self { servers, join, network };
                cluster.wait_for_leader();
                cluster.wait_for_health();
                return cluster;
            }
        }
        panic!("five times a cluster's ports were taken by somebody else");
    }

    /// The servers, in the order of their numbers.
    pub fn servers(&self) -> &[Agent] {
        &self.servers
    }

    /// One server.
    pub fn server(&self, number: usize) -> &Agent {
        &self.servers[number]
    }

    /// The number of the server that two servers at least, itself included, take for the leader. A leader that was
    /// stopped or killed does not count.
    pub fn leader(&self) -> Option<usize> {
        let named: Vec<Option<usize>> = self.servers.iter().map(|server| self.named_by(server)).collect();
        let votes = |number| named.iter().filter(|each| **each == Some(number)).count();
        (0..self.servers.len()).find(|number| votes(*number) >= 2 && named[*number] == Some(*number))
    }

    fn named_by(&self, server: &Agent) -> Option<usize> {
        if !server.is_running() {
            return None;
        }
        let reply = server.ask("GET", "/v1/status/leader", b"", Duration::from_secs(1)).ok()?;
        let json = reply.json();
        let addr = json.as_str()?;
        self.servers.iter().position(|each| each.raft_addr() == addr)
    }

    /// Waits until there is a leader that answers a `?consistent` read: its number.
    pub fn wait_for_leader(&self) -> usize {
        eventually("the cluster has a leader", ELECTION, || {
            let leader = self.leader()?;
            let path = "/v1/kv/is-there-a-leader?consistent";
            let reply = self.servers[leader].ask("GET", path, b"", Duration::from_secs(5)).ok()?;
            (reply.status == 404).then_some(leader)
        })
    }

    /// The number of a server that runs and does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.wait_for_leader();
        (0..self.servers.len())
            .find(|number| *number != leader && self.servers[*number].is_running())
            .expect("a server besides the leader runs")
    }

    /// Waits until all three servers are registered and healthy in the catalog: only then can a session be bound to
    /// each.
    fn wait_for_health(&self) {
        eventually("all servers are healthy", PATIENCE, || {
            let reply = self.servers[0].ask("GET", "/v1/health/state/passing?consistent", b"", PATIENCE).ok()?;
            let json = reply.json();
            let healthy = json.as_array()?.iter().filter(|check| check["CheckID"] == "serfHealth").count();
            (healthy >= self.servers.len()).then_some(())
        });
    }

    /// Kills a server and waits until it is dead.
    pub fn kill9(&self, number: usize) {
        self.servers[number].kill9();
    }

    /// Starts a server again, with its data, and returns when it answers over HTTP; see [`Cluster::wait_for_leader`].
    pub fn restart(&mut self, number: usize) {
        self.servers[number].relaunch();
    }

    /// SIGSTOP to a server.
    pub fn stop(&self, number: usize) {
        self.servers[number].stop();
    }

    /// SIGCONT to a server.
    pub fn cont(&self, number: usize) {
        self.servers[number].cont();
    }

    /// An agent on a machine without a server, as consul-lock mostly meets one: it has joined the cluster, and is ready
    /// for sessions. Several have one address and differ in their ports.
    pub fn client_agent(&self) -> Agent {
        let role = Role::Client { join: self.join.clone() };
        Agent::start_as(&role, address(self.network, 9), &Options::default())
    }
}

fn address(network: [u8; 2], host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, network[0], network[1], host)
}
