//! `consul-lock doctor`: why a lock does not work, or will not. A list of checks in the order in which a run meets what
//! they look at, each a line with its mend; what rests on a failed one is skipped. It writes nothing but a session of
//! its own, which it removes.

mod cluster;
mod diagnosis;
mod key;
mod lease;
mod machine;
mod reach;
mod report;
mod session;
mod tls;

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use consul_lock::lock::Key;

use super::connection::Connection;
use super::exit::Exit;
use super::output::Output;
use super::refusal::Refusal;
use super::report::Report;
use diagnosis::Diagnosis;
use lease::Lease;

/// Most time for one question.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The lock whose access rules are to be checked; nothing is written to it.
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    local: Option<Option<OsString>>,
    #[command(flatten)]
    lease: Lease,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Does all checks and tells them; the exit code is that of the first one that failed.
pub(crate) fn run(args: DoctorArgs) -> Exit {
    let output = args.output;
    match diagnose(args) {
        Ok(exit) => exit,
        Err(refusal) => {
            Report::error(output, &[], refusal.code, &refusal.message);
            Exit::Code(refusal.code)
        }
    }
}

fn diagnose(args: DoctorArgs) -> Result<Exit, Refusal> {
    let DoctorArgs { key, json, local, lease, connection, output } = args;
    if local.is_some() {
        return Err(Refusal::usage(
            "doctor looks at Consul, and --local uses none: `consul-lock run --local KEY -- true` shows whether it works here",
        ));
    }
    let key = key.map(|text| text.parse::<Key>()).transpose().map_err(Refusal::usage)?;
    let printer = report::Printer::new(output, json);
    let mut diagnosis = Diagnosis::new(|check| printer.line(check));
    diagnosis.check("machine", &[], || machine::check(lease.no_guarantee));
    diagnosis.check("lease", &[], || lease.check());
    let reached = reach::check(&mut diagnosis, connection);
    if let Some(reached) = reached {
        let client = &reached.client;
        diagnosis.check("leader", &["tls"], || cluster::leader(reached.leader));
        diagnosis.check("clock", &["tls"], || cluster::clock(client));
        diagnosis.check("version", &["leader"], || cluster::version(client));
        diagnosis.check("token", &["leader"], || cluster::token(client));
        diagnosis.check("session", &["token"], || session::check(client, &lease));
        key::check(&mut diagnosis, client, key.as_ref());
    }
    let checks = diagnosis.end();
    Ok(printer.end(&checks, key.as_ref()))
}
