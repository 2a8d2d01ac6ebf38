//! The guard against real processes: every row of the table of who kills whom, for every shape of tree. A runner of its own,
//! since the guard is forked by a process with one thread: this program starts itself again as that process.

// The modules are the binary's, of which no test uses all.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub)]

#[path = "../../src/guard/mod.rs"]
mod guard;
mod keeper;
mod matrix;
mod policy;
mod scene;
#[path = "../support/shapes.rs"]
mod shapes;
#[path = "../../src/sys.rs"]
mod sys;
mod world;

use std::panic::catch_unwind;
use std::process::exit;
use std::time::Instant;

/// A test: its name, and what it does.
pub type Test = (String, Box<dyn Fn() + std::panic::RefUnwindSafe>);

fn main() {
    if let Ok(role) = std::env::var(keeper::ROLE) {
        keeper::main(&role);
    }
    sys::become_subreaper().expect("a kernel with subreapers");
    let mut tests = policy::tests();
    tests.extend(world::tests());
    tests.extend(matrix::tests());
    let args: Vec<String> = std::env::args().skip(1).collect();
    let asked = |flag: &str| args.iter().any(|arg| arg == flag);
    if asked("--list") {
        // nextest asks for the ignored ones by themselves, and skips what it is told.
        tests.retain(|_| !asked("--ignored"));
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let filters: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let all = tests.len();
    tests.retain(|(name, _)| {
        filters.is_empty() || filters.iter().any(|&filter| name == filter || !asked("--exact") && name.contains(filter))
    });
    println!("\nrunning {} tests", tests.len());
    let begun = Instant::now();
    let mut failed = Vec::new();
    for (name, test) in &tests {
        let passed = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    matrix::print();
    if !failed.is_empty() {
        println!("\nfailures:");
        failed.iter().for_each(|name| println!("    {name}"));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        tests.len() - failed.len(),
        failed.len(),
        all - tests.len(),
        begun.elapsed().as_secs_f64()
    );
    exit(if failed.is_empty() { 0 } else { 101 });
}
