//! Every shell example in the documentation is run: each block marked `sh`, in bash with `set -euo pipefail`, against an
//! agent of the page's own, and must end with 0. The programs that the examples run under a lock are stand-ins that do
//! nothing.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::agent::{Agent, Options, consul_binary};
use support::running::Running;
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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A block of code in a page, and where it begins.
struct Block {
    language: String,
    line: usize,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside;
            if inside {
                blocks.push(Block { language: language.to_owned(), line: number + 1, text: String::new() });
            }
        } else if inside && let Some(block) = blocks.last_mut() {
            block.text += line;
            block.text.push('\n');
        }
    }
    assert!(!inside, "a block without an end");
    blocks
}

/// A place to work in, with everything that the examples take for granted.
struct Desk {
    folder: tempfile::TempDir,
    agent: Agent,
    options: Options,
}

impl Desk {
    fn new(options: Options) -> Self {
        let agent = Agent::start(options.clone());
        let desk = Self { folder: tempfile::tempdir().expect("a folder"), agent, options };
        let bin = desk.folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        for path in
            PROGRAMS.map(|name| bin.join(name)).into_iter().chain(SCRIPTS.map(|name| desk.folder.path().join(name)))
        {
            fs::write(&path, "#!/bin/sh\nexit 0\n").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        std::os::unix::fs::symlink(consul_binary(), bin.join("consul")).expect("a link");
        fs::write(desk.folder.path().join("rules.hcl"), "session_prefix \"\" { policy = \"write\" }").expect("written");
        if desk.has_tls() {
            fs::copy(&desk.agent.certificates().ca, desk.folder.path().join("ca.pem")).expect("copied");
        }
        desk
    }

    fn has_tls(&self) -> bool {
        self.options.tls != Tls::Off
    }

    fn path(&self) -> String {
        let ours = assert_cmd::cargo::cargo_bin!("consul-lock").parent().expect("a folder").to_owned();
        let bin = self.folder.path().join("bin");
        format!("{}:{}:{}", bin.display(), ours.display(), std::env::var("PATH").unwrap_or_default())
    }

    #[track_caller]
    fn run(&self, page: &str, block: &Block) {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &block.text]).current_dir(self.folder.path());
        bash.env("PATH", self.path()).env("CONSUL_HTTP_ADDR", self.agent.http_addr());
        bash.env("DIR", self.folder.path()).env("TEXTFILES", self.folder.path());
        for name in ["CONSUL_HTTP_TOKEN", "CONSUL_LOCK_CHAIN", "NOTIFY_SOCKET"] {
            bash.env_remove(name);
        }
        if self.options.acl {
            bash.env("CONSUL_HTTP_TOKEN", self.agent.root_token());
        }
        if self.has_tls() {
            bash.env("CONSUL_HTTPS_ADDR", self.agent.https_addr());
        }
        let ended = Running::start(&mut bash).wait(BOUND);
        assert_eq!(ended.code(), Some(0), "{page}:{}\n{}\n{ended:?}", block.line, block.text);
    }
}

/// README's two commands of set-up build and test what runs this very test; the one is run by tests/docs.rs, and the other
/// is how the tests are run.
fn sets_up(block: &Block) -> bool {
    block.text.starts_with("cargo run ") || block.text == "scripts/test\n"
}

/// Runs all examples of a page, in order, in one folder and against one agent.
#[track_caller]
fn run_page(page: &str, options: Options) {
    let text = fs::read_to_string(root().join(page)).expect("the page is there");
    let is_example = |block: &Block| block.language == "sh" && !sets_up(block);
    let examples: Vec<Block> = blocks(&text).into_iter().filter(is_example).collect();
    assert!(!examples.is_empty(), "{page} has no example");
    let desk = Desk::new(options);
    for example in &examples {
        desk.run(page, example);
    }
}

/// A test for each page that has examples, and the list of these pages.
macro_rules! pages {
    ($($name:ident: $page:literal, $options:expr;)*) => {
        $(#[test] fn $name() { run_page($page, $options); })*
        const PAGES: &[&str] = &[$($page),*];
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
    the_examples_of_metrics_run: "docs/metrics.md", Options::default();
    the_examples_of_one_machine_run: "docs/local.md", Options::default();
    the_examples_of_acls_run: "docs/acl.md", Options { acl: true, ..Options::default() };
    the_examples_of_tls_run: "docs/tls.md", Options { tls: Tls::Server, ..Options::default() };
}

#[test]
fn every_page_with_examples_is_run_and_no_example_hides_from_it() {
    let mut folders = vec![root().join("docs")];
    let mut pages: Vec<PathBuf> = vec![root().join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let name = page.strip_prefix(root()).expect("below the root").display().to_string();
        let text = fs::read_to_string(&page).expect("the page can be read");
        let found = blocks(&text);
        let has_examples = found.iter().any(|block| block.language == "sh");
        assert_eq!(PAGES.contains(&name.as_str()), has_examples, "{name}: is it in this file's list?");
        for block in &found {
            let known = ["sh", "text", "hcl", "ini", "json", "sql", "rust", "cron", "yaml", "prometheus"];
            let language = block.language.split(',').next().unwrap_or_default();
            assert!(known.contains(&language), "{name}:{}: what is a \"{}\"?", block.line, block.language);
        }
        // A line that is indented by four is code, too, but no test would find it.
        let mut inside = false;
        let hidden = text.lines().position(|line| {
            inside ^= line.starts_with("```");
            !inside && (line.starts_with("    consul-lock ") || line.starts_with("    $ "))
        });
        assert_eq!(hidden.map(|number| format!("{name}:{}", number + 1)), None, "make it a block marked sh");
    }
}
