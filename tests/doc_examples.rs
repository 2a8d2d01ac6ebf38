//! Every shell example in the documentation is run: each block marked `sh`, in bash with `set -euo pipefail`, against an
//! agent of the page's own, and must end with 0. The programs that the examples run under a lock are stand-ins that do
//! nothing. Recordings of a terminal, marked `console`, are run by tests/recordings.rs.

mod support;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::agent::{Agent, Options, consul_binary, free_port};
use support::page::{Block, blocks, read, root};
use support::running::{Ended, Running};
use support::tls::Tls;

/// The longest that one example may take.
const BOUND: Duration = Duration::from_secs(60);

/// What the examples run under a lock, on PATH and in the working directory.
const PROGRAMS: [&str; 7] = ["report", "reindex", "backup", "billingd", "send-webhooks", "restore", "make"];
const SCRIPTS: [&str; 8] = [
    "deploy.sh",
    "restart.sh",
    "wait-until-healthy.sh",
    "publish.sh",
    "send-webhooks",
    "migrate.sh",
    "migrate",
    "report",
];

/// The node_exporter that scripts/fetch-node-exporter finds or fetches.
fn node_exporter() -> PathBuf {
    let named = std::env::var_os("NODE_EXPORTER").filter(|name| !name.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let installed = std::env::split_paths(&path)
        .flat_map(|folder| ["node_exporter", "prometheus-node-exporter"].map(|name| folder.join(name)));
    let found = named.into_iter().chain(installed).chain([root().join(target).join("node-exporter/node_exporter")]);
    found.into_iter().find(|candidate| candidate.is_file()).expect("no node_exporter: run scripts/fetch-node-exporter")
}

/// A place to work in, with everything that the examples take for granted.
struct Desk {
    folder: tempfile::TempDir,
    agent: Agent,
    options: Options,
    port: u16,
}

impl Desk {
    fn new(options: Options) -> Self {
        let agent = Agent::start(options.clone());
        let port = free_port(Ipv4Addr::LOCALHOST);
        let desk = Self { folder: tempfile::tempdir().expect("a folder"), agent, options, port };
        let bin = desk.folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        for path in
            PROGRAMS.map(|name| bin.join(name)).into_iter().chain(SCRIPTS.map(|name| desk.folder.path().join(name)))
        {
            fs::write(&path, "#!/bin/sh\nexit 0\n").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        symlink(consul_binary(), bin.join("consul")).expect("a link");
        symlink(node_exporter(), bin.join("node_exporter")).expect("a link");
        fs::write(desk.folder.path().join("rules.hcl"), "session_prefix \"\" { policy = \"write\" }").expect("written");
        if desk.has_tls() {
            fs::copy(&desk.agent.certificates().ca, desk.folder.path().join("ca.pem")).expect("copied");
        }
        desk
    }

    fn has_tls(&self) -> bool {
        self.options.tls != Tls::Off
    }

    /// Where the binary under test is, and the example programs below it.
    fn built() -> &'static Path {
        Path::new(assert_cmd::cargo::cargo_bin!("consul-lock")).parent().expect("a folder")
    }

    fn path(&self) -> String {
        let bin = self.folder.path().join("bin");
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{}:{}:{path}", bin.display(), Self::built().display())
    }

    /// Runs an example; what it leaves in the background lives as long as the first value.
    #[track_caller]
    fn run(&self, page: &str, block: &Block) -> (Running, Ended) {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &block.text]);
        bash.current_dir(if block.text.starts_with("scripts/") { root() } else { self.folder.path() });
        bash.env("PATH", self.path()).env("CONSUL_HTTP_ADDR", self.agent.http_addr());
        bash.env("DIR", self.folder.path()).env("TEXTFILES", self.folder.path());
        // Our scripts take what was built already, and do little.
        bash.env("PORT", self.port.to_string()).env("BUILT", Self::built()).env("RUNS", "2");
        for (name, _) in std::env::vars_os() {
            let upper = name.to_string_lossy().to_uppercase();
            if upper.ends_with("_PROXY")
                || ["CONSUL_HTTP_TOKEN", "CONSUL_LOCK_CHAIN", "NOTIFY_SOCKET"].contains(&&*upper)
            {
                bash.env_remove(&name);
            }
        }
        if self.options.acl {
            bash.env("CONSUL_HTTP_TOKEN", self.agent.root_token());
        }
        if self.has_tls() {
            bash.env("CONSUL_HTTPS_ADDR", self.agent.https_addr());
        }
        let mut running = Running::start(&mut bash);
        let ended = running.wait(BOUND);
        assert_eq!(ended.code(), Some(0), "{page}:{}\n{}\n{ended:?}", block.line, block.text);
        (running, ended)
    }
}

/// README's two commands of set-up build and test what runs this very test; the one is run by tests/docs.rs, and the other
/// is how the tests are run.
fn sets_up(block: &Block) -> bool {
    block.text.starts_with("cargo run ") || block.text == "scripts/test\n"
}

/// The examples of a page, in order.
#[track_caller]
fn examples(page: &str) -> Vec<Block> {
    let is_example = |block: &Block| block.language == "sh" && !sets_up(block);
    let examples: Vec<_> = blocks(&read(page)).into_iter().filter(is_example).collect();
    assert!(!examples.is_empty(), "{page} has no example");
    examples
}

/// Runs all examples of a page, in order, in one folder and against one agent, and gives what each printed.
#[track_caller]
fn run_page(page: &str, options: Options) -> Vec<String> {
    let desk = Desk::new(options);
    // What an example leaves in the background is there for the next.
    let runs: Vec<_> = examples(page).iter().map(|example| desk.run(page, example)).collect();
    runs.into_iter().map(|(_, ended)| ended.stdout).collect()
}

#[test]
fn the_examples_of_metrics_run_and_node_exporter_shows_every_gauge() {
    let page = "docs/metrics.md";
    let shown = run_page(page, Options::default()).pop().expect("an example");
    let text = read(page);
    let gauges: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(gauges.len() >= 8, "{gauges:?}");
    for gauge in gauges {
        let sample = format!("{gauge}{{key=\"cron/backup\"}} ");
        assert!(shown.lines().any(|line| line.starts_with(&sample)), "{gauge}\n{shown}");
    }
    assert!(shown.contains("\nnode_textfile_scrape_error 0\n"), "{shown}");
}

/// What takes minutes, or root, is run by CI and not here.
#[test]
fn the_examples_of_the_fault_test_are_run_by_ci() {
    let ci = read(".ci/run");
    for line in examples("docs/fault-test.md").iter().flat_map(|example| example.text.lines()) {
        let is_step = |step: &str| step.contains("step \"") && step.ends_with(&format!(" {line}"));
        assert!(ci.lines().any(is_step), "{line}");
    }
}

/// A test for each page that has examples, and the list of these pages.
macro_rules! pages {
    ($($name:ident: $page:literal, $options:expr;)*) => {
        $(#[test] fn $name() { run_page($page, $options); })*
        const PAGES: &[&str] = &["docs/metrics.md", "docs/fault-test.md", $($page),*];
    };
}

pages! {
    the_examples_of_the_readme_run: "README.md", Options::default();
    the_examples_of_quick_start_run: "docs/quick-start.md", Options::default();
    the_examples_of_concepts_run: "docs/concepts.md", Options::default();
    the_examples_of_cron_run: "docs/cron.md", Options::default();
    the_examples_of_deploys_run: "docs/deploys.md", Options::default();
    the_examples_of_systemd_run: "docs/systemd.md", Options::default();
    the_examples_of_coming_from_consul_lock_run: "docs/from-consul-lock.md", Options::default();
    the_examples_of_coming_from_flock_run: "docs/from-flock.md", Options::default();
    the_examples_of_the_guide_run: "docs/guide.md", Options::default();
    the_examples_of_the_guarantee_run: "docs/guarantee.md", Options::default();
    the_examples_of_scripts_in_ci_run: "docs/detached.md", Options::default();
    the_examples_of_the_commands_run: "docs/commands.md", Options::default();
    the_examples_of_json_run: "docs/json.md", Options::default();
    the_examples_of_the_profile_run: "docs/profile.md", Options::default();
    the_examples_of_one_machine_run: "docs/local.md", Options::default();
    the_examples_of_acls_run: "docs/acl.md", Options { acl: true, ..Options::default() };
    the_examples_of_tls_run: "docs/tls.md", Options { tls: Tls::Server, ..Options::default() };
}

/// The README, CONTRIBUTING.md and all pages below docs/, by their names from the top of the project.
fn pages_of_the_project() -> Vec<String> {
    let mut folders = vec![root().join("docs")];
    let mut pages = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path.strip_prefix(root()).expect("below the root").display().to_string());
            }
        }
    }
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// Whether this is a line that one types, and not one that a program says.
fn is_typed(line: &str) -> bool {
    let line = line.trim_start();
    ["$ ", "consul-lock ", "consul ", "scripts/", "cargo ", "sudo ", "node_exporter "]
        .iter()
        .any(|start| line.starts_with(start))
}

#[test]
fn every_page_with_examples_is_run_and_no_example_hides_from_it() {
    for name in pages_of_the_project() {
        let text = read(&name);
        let found = blocks(&text);
        let has_examples = found.iter().any(|block| block.language == "sh");
        assert_eq!(PAGES.contains(&name.as_str()), has_examples, "{name}: is it in this file's list?");
        for block in &found {
            let known = ["sh", "console", "text", "hcl", "ini", "json", "sql", "rust", "cron", "yaml", "prometheus"];
            let language = block.language.split(',').next().unwrap_or_default();
            assert!(known.contains(&language), "{name}:{}: what is a \"{}\"?", block.line, block.language);
            // Nobody runs what is marked as text.
            let typed = block.text.lines().find(|line| language == "text" && is_typed(line));
            assert_eq!(typed, None, "{name}:{}: make it a block marked sh, or console", block.line);
        }
        // A line that is indented by four is code, too, but no test would find it.
        let mut inside = false;
        let hidden = text.lines().position(|line| {
            inside ^= line.starts_with("```");
            !inside && line.starts_with("    ") && is_typed(line)
        });
        assert_eq!(hidden.map(|number| format!("{name}:{}", number + 1)), None, "make it a block marked sh");
    }
}

/// What the examples of a command's long help take for granted.
fn scene(command: &str) -> &'static str {
    match command {
        "status" | "list" | "evict" => {
            "consul-lock run -q deploy/web -- sleep 100 & until consul-lock status deploy/web >/dev/null; do sleep 0.1; done\n"
        }
        "renew" | "release" => {
            "eval \"$(consul-lock acquire --export --ttl 1m deploy/web)\"; session=$CONSUL_LOCK_SESSION\n"
        }
        "completions" => "mkdir -p ~/.local/share/bash-completion/completions ~/.zfunc ~/.config/fish/completions\n",
        _ => "",
    }
}

#[test]
fn the_examples_in_the_help_run_and_fit_a_terminal() {
    let desk = Desk::new(Options::default());
    let commands =
        ["run", "acquire", "renew", "release", "status", "list", "wait", "evict", "doctor", "completions", "man"];
    let mut run = 0;
    for command in commands {
        let mut help = Command::new(assert_cmd::cargo::cargo_bin!("consul-lock"));
        let help = Running::start(help.args([command, "--help"])).wait(BOUND).stdout;
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command}: {help}"));
        // What is not indented is prose.
        let examples: Vec<_> = examples.lines().take_while(|line| line.is_empty() || line.starts_with("  ")).collect();
        for example in examples.split(|line| line.is_empty()).filter(|example| !example.is_empty()) {
            for line in example {
                assert!(line.len() <= 80, "{command}: {line}");
            }
            // What goes on for ever is ended after a second, nobody is there to be asked, and each has a lock of its own:
            // the one before leaves a lock delay.
            let watch = "consul-lock status --watch deploy/web";
            let text = (scene(command).to_owned() + &example.join("\n"))
                .replace(watch, &format!("{{ timeout 1 {watch} || [ $? -eq 124 ]; }}"))
                .replace("consul-lock evict deploy/web", "consul-lock evict --yes deploy/web")
                .replace("deploy/web", &format!("deploy/web-{run}"));
            let text = format!("export HOME=$DIR PAGER=cat MANPAGER=cat\n{text}\n");
            let block = Block { language: "sh".into(), comment: None, text, line: 0 };
            drop(desk.run(&format!("consul-lock {command} --help"), &block));
            run += 1;
        }
    }
    assert!(run > commands.len(), "{run}");
}
