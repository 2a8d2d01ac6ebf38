//! A run within a run: whoever of the two loses its lock, or dies, nothing of the tree is left.

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use support::agent::{Agent, PATIENCE};
use support::hold::endless;
use support::running::Running;
use support::{consul_lock_on, eventually, unique_key};

struct Nested {
    agent: Agent,
    outer: String,
    inner: String,
    run: Running,
}

/// `consul-lock run OUTER -- consul-lock run INNER -c SCRIPT`, with the innermost at work.
fn nest(script: &str) -> Nested {
    let agent = Agent::plain();
    let [outer, inner] = ["outer", "inner"].map(unique_key);
    let mut command = consul_lock_on(&agent);
    let binary = command.get_program().to_owned();
    command.args(["run", "-k", "2", &outer, "--"]).arg(binary).args(["run", "-k", "2", &inner, "-c", script]);
    let run = Running::start(&mut command);
    run.expect_stdout("started", PATIENCE);
    Nested { agent, outer, inner, run }
}

impl Nested {
    fn lose(&self, key: &str) {
        let session = self.agent.holder(key).expect("the key is held");
        self.agent.destroy_session(&session);
    }
}

#[test]
fn when_the_outer_lock_is_lost_the_inner_run_ends_and_gives_its_own_back() {
    for obedient in [true, false] {
        let mut nested = nest(&endless(obedient));
        nested.lose(&nested.outer);
        let end = nested.run.wait(PATIENCE);
        assert_eq!(end.code(), Some(76), "{}", end.stderr);
        assert_eq!(nested.run.survivors(), []);
        assert!(end.stderr.contains(&format!("lost {}", nested.outer)), "{}", end.stderr);
        if obedient {
            // It had the time to end in order.
            assert_eq!(nested.agent.holder(&nested.inner), None);
        }
    }
}

#[test]
fn when_the_inner_lock_is_lost_the_outer_run_ends_with_its_exit_code() {
    let mut nested = nest(&endless(false));
    nested.lose(&nested.inner);
    let end = nested.run.wait(PATIENCE);
    assert_eq!(end.code(), Some(76), "{}", end.stderr);
    assert!(end.stderr.contains(&format!("lost {}", nested.inner)), "{}", end.stderr);
    assert_eq!(nested.run.survivors(), []);
    assert_eq!(nested.agent.holder(&nested.outer), None, "the outer run has released its own lock");
}

#[test]
fn when_the_outer_keeper_is_killed_nothing_of_the_inner_run_is_left() {
    let mut nested = nest(&endless(false));
    nested.run.signal(Signal::SIGKILL);
    assert_eq!(nested.run.wait(PATIENCE).signal(), Some(9));
    nested.run.expect_no_survivors(PATIENCE);
}

#[test]
fn when_the_inner_keeper_is_killed_the_outer_run_ends_after_everything_else() {
    let mut nested = nest(&endless(true));
    let keepers = |run: &Running| -> Vec<i32> {
        run.survivors().into_iter().filter(|(_, name)| name == "consul-lock").map(|(pid, _)| pid).collect()
    };
    let outer = nested.run.pid().as_raw();
    let inner = eventually("the inner keeper", Duration::from_secs(10), || {
        keepers(&nested.run).into_iter().find(|&pid| pid != outer)
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(inner), Signal::SIGKILL).expect("it is ours");
    let end = nested.run.wait(PATIENCE);
    // The command of the outer run died of SIGKILL.
    assert_eq!(end.code(), Some(137), "{}", end.stderr);
    assert_eq!(nested.run.survivors(), []);
    assert_eq!(nested.agent.holder(&nested.outer), None);
}
