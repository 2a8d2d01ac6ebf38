//! The checks on standard output: a line each as it is done, or one JSON object at the end. Whoever has closed it has
//! read enough: the exit code tells the most of it.

use std::cell::Cell;
use std::io::stdout;

use consul_lock::lock::Key;
use consul_lock::plain::{plain, plain_json};
use serde_json::{Value, json};

use super::super::exit::Exit;
use super::super::output::{Output, print};
use super::super::report::is_coloured_on;
use super::diagnosis::{Check, Checks, Status};

/// Writes them.
pub(super) struct Printer {
    json: bool,
    coloured: bool,
    /// Failures alone (`-q`).
    quiet: bool,
    /// All that is known (`-v`).
    verbose: bool,
    /// How this ends when standard output takes nothing, a full disk for example.
    broken: Cell<Option<Exit>>,
}

impl Printer {
    pub(super) fn new(output: Output, json: bool) -> Self {
        let coloured = is_coloured_on(output.color, &stdout());
        Self { json, coloured, quiet: output.quiet, verbose: output.verbose > 0, broken: Cell::new(None) }
    }

    /// A check that was done.
    pub(super) fn line(&self, check: &Check) {
        if self.json || (self.quiet && !matches!(check.status, Status::Fail(_))) {
            return;
        }
        let mut text = format!("{} {}: {}\n", self.word(check.status), check.name, plain(&check.detail));
        let facts = check.facts.iter().filter(|_| self.verbose).map(String::as_str);
        for line in facts.chain(check.mend.iter().flat_map(|mend| mend.lines())) {
            text.push_str(&format!("       {}\n", plain(line)));
        }
        self.write(&text);
    }

    /// All of them; gives the exit.
    pub(super) fn end(&self, checks: &Checks, key: Option<&Key>) -> Exit {
        if self.json {
            let key = key.map(Key::as_str);
            let object = json!({ "key": key, "exit_code": checks.code(), "checks": checks.0.iter().map(fields).collect::<Vec<_>>() });
            self.write(&format!("{}\n", plain_json(&object.to_string())));
        }
        self.broken.get().unwrap_or(Exit::Code(checks.code()))
    }

    fn write(&self, text: &str) {
        // Told once.
        if self.broken.get().is_none() {
            self.broken.set(Some(print(text)).filter(|exit| *exit != Exit::Code(0)));
        }
    }

    fn word(&self, status: Status) -> String {
        let colour = match status {
            Status::Ok => "32",
            Status::Warn => "33",
            Status::Fail(_) => "31",
            Status::Skip => "2",
        };
        let word = format!("{:<6}", status.word());
        if self.coloured { format!("\x1b[{colour}m{word}\x1b[0m") } else { word }
    }
}

fn fields(check: &Check) -> Value {
    let code = if let Status::Fail(code) = check.status { Some(code) } else { None };
    json!({
        "name": check.name, "status": check.status.word(), "detail": check.detail, "mend": check.mend,
        "exit_code": code, "data": check.data,
    })
}
