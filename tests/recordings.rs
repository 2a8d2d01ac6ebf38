//! Recordings of a terminal in the documentation, marked `console`: each line behind a `$` is typed anew, and what comes
//! out is what the page shows, but for figures, names and identities. A comment before a block, `<!-- scene: held -->`,
//! says what there is to be seen; without one the scene stays as it is.

mod support;

use std::process::Command;

use nix::sys::signal::Signal;
use support::agent::{Agent, PATIENCE, consul_binary};
use support::line::queue;
use support::page::{Block, blocks, read, root};
use support::running::Running;
use support::{consul_lock_on, eventually, run_on};

/// The pages with recordings that are compared here.
const PAGES: [&str; 5] =
    ["docs/commands.md", "docs/guide.md", "docs/json.md", "docs/quick-start.md", "docs/terminal.md"];

/// An agent, and what goes on there as long as this lives.
struct Scene {
    agent: Agent,
    folder: tempfile::TempDir,
    runs: Vec<Running>,
}

impl Scene {
    /// What is to be seen under this name.
    #[track_caller]
    fn set(name: &str) -> Self {
        let mut scene =
            Self { agent: Agent::plain(), folder: tempfile::tempdir().expect("a folder"), runs: Vec::new() };
        match name {
            "nothing" => {}
            "held" => scene.hold(),
            "a pool" => scene.pool(),
            "lost" => {
                scene.hold();
                assert_eq!(run_on(&scene.agent, &["evict", "--yes", "deploy/web"]).code(), Some(0));
            }
            "lost while it is watched" => scene.hold(),
            "held, and others" => {
                scene.hold();
                scene.pool();
                scene.consul_lock(&["web/assets"], "web/assets/.lock", ": held");
            }
            _ => panic!("what is \"{name}\"?"),
        }
        scene
    }

    /// A holder of deploy/web, and three that wait.
    fn hold(&mut self) {
        let mut holder = consul_lock_on(&self.agent);
        let holder = Running::start(holder.args(["run", "-v", "deploy/web", "--", "sleep", "300"]));
        holder.expect_stderr("started the command", PATIENCE);
        self.runs.push(holder);
        for command in [&["sh", "-c", "sleep 300; true"][..], &["sleep", "300"], &["true"]] {
            let mut waiter = consul_lock_on(&self.agent);
            waiter.args(["run", "deploy/web", "--"]).args(command);
            self.runs.push(queue(&self.agent, &mut waiter, "deploy/web").0);
        }
    }

    /// Three who want one of two slots with `consul lock -n`.
    fn pool(&mut self) {
        for shown in ["1 of 2 slots held", "2 of 2 slots held", "line "] {
            self.consul_lock(&["-n", "2", "pool"], "pool", shown);
        }
    }

    /// A `consul lock`, once `status` of its key shows this.
    fn consul_lock(&mut self, args: &[&str], key: &str, shown: &str) {
        let mut command = Command::new(consul_binary());
        command.arg("lock").args(args).arg("sleep 60").env("CONSUL_HTTP_ADDR", self.agent.http_addr());
        self.runs.push(Running::start(&mut command));
        let is_shown = || run_on(&self.agent, &["status", key]).stdout.contains(shown).then_some(());
        eventually("consul lock has its place", PATIENCE, is_shown);
    }

    /// A line for bash, typed in the scene's folder.
    fn bash(&self, line: &str) -> Command {
        let ours = assert_cmd::cargo::cargo_bin!("consul-lock").parent().expect("a folder");
        let mut bash = consul_lock_on(&self.agent);
        let path = format!("{}:{}", ours.display(), std::env::var("PATH").unwrap_or_default());
        let mut typed = Command::new("bash");
        typed.args(["-c", line]).current_dir(self.folder.path());
        for (name, value) in bash.env("PATH", path).env("NO_COLOR", "1").get_envs() {
            match value {
                Some(value) => typed.env(name, value),
                None => typed.env_remove(name),
            };
        }
        typed
    }
}

/// A line that is typed, and what comes of it.
struct Typed {
    line: String,
    output: String,
    code: i32,
}

/// What a recording shows: lines behind a `$`, each with its output and, if that is not 0, the exit code.
fn typed(block: &Block) -> Vec<Typed> {
    let text = format!("\n{}", block.text);
    let parts = text.split("\n$ ").skip(1).map(|part| {
        let (line, output) = part.split_once('\n').expect("a line has an end");
        let (output, code) = match output.trim_end().rsplit_once("[exit ") {
            Some((output, code)) => (output, code.trim_end_matches(']').parse().expect("a number")),
            None => (output, 0),
        };
        Typed { line: line.to_owned(), output: output.to_owned(), code }
    });
    parts.collect()
}

/// A text as it would be at another time on another machine: without figures, identities, names of users and machines.
fn plain(text: &str) -> String {
    let mut plain: Vec<String> = Vec::new();
    for line in text.trim().lines() {
        let mut words: Vec<String> = Vec::new();
        for word in line.split_whitespace() {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            let is_id = bare.len() == 36 && bare.matches('-').count() == 4;
            let is_name = bare != "node"
                && words.last().is_some_and(|last| {
                    matches!(last.as_str(), "of" | "on" | "node" | "\"host\":" | "\"user\":" | "\"node\":")
                });
            let word = if is_id || is_name { word.replace(bare, "X") } else { word.to_owned() };
            let mut figures = String::new();
            for c in word.chars() {
                let c = if c.is_ascii_digit() || c == '.' && figures.ends_with('N') { 'N' } else { c };
                if c != 'N' || !figures.ends_with('N') {
                    figures.push(c);
                }
            }
            words.push(if figures == "ms" || figures == "µs" { "s".to_owned() } else { figures });
        }
        plain.push(words.join(" "));
    }
    plain.join("\n")
}

/// Types the line, and gives what came out and the exit code.
#[track_caller]
fn type_anew(scene: &Scene, block: &Block, typed: &Typed) -> (String, Option<i32>) {
    if block.comment.as_deref() == Some("scene: lost while it is watched") {
        // What the page shows ends with Ctrl-C, which bash hands on.
        let mut watch = Running::start(&mut scene.bash(&format!("exec {}", typed.line)));
        watch.expect_stdout("3. true", PATIENCE);
        assert_eq!(run_on(&scene.agent, &["evict", "--yes", "deploy/web"]).code(), Some(0));
        eventually("the loss is shown", PATIENCE, || (watch.stdout().matches("3. true").count() > 1).then_some(()));
        watch.signal(Signal::SIGINT);
        return (watch.wait(PATIENCE).stdout + "^C", Some(0));
    }
    let mut bash = if block.language == "console,terminal" {
        let mut script = scene.bash("exec script -qec \"stty cols 150; $1\" /dev/null");
        script.args(["bash", &typed.line]);
        script
    } else {
        scene.bash(&format!("{{ {}\n}} 2>&1", typed.line))
    };
    let ended = Running::start(&mut bash).wait(PATIENCE);
    assert_eq!(ended.stderr, "", "{}", typed.line);
    (ended.stdout.replace('\r', ""), ended.code())
}

#[track_caller]
fn compare(page: &str) {
    let blocks: Vec<_> =
        blocks(&read(page)).into_iter().filter(|block| block.language.starts_with("console")).collect();
    assert!(!blocks.is_empty(), "{page} has no recording");
    let mut scene = None;
    for block in &blocks {
        if let Some(name) = block.comment.as_deref().and_then(|comment| comment.strip_prefix("scene: ")) {
            scene = Some(Scene::set(name));
        }
        let scene = scene.get_or_insert_with(|| Scene::set("nothing"));
        let lines = typed(block);
        assert!(!lines.is_empty(), "{page}:{} has no line behind a $", block.line);
        for line in lines {
            let (output, code) = type_anew(scene, block, &line);
            let (shown, seen) = (plain(&line.output), plain(&output));
            assert_eq!(shown, seen, "{page}:{}: $ {}\n{output}", block.line, line.line);
            assert_eq!(code, Some(line.code), "{page}:{}: $ {}\n{output}", block.line, line.line);
        }
    }
}

#[test]
fn the_recordings_on_looking_at_locks_are_what_is_said() {
    compare("docs/commands.md");
}

#[test]
fn the_other_recordings_are_what_is_said() {
    for page in PAGES.into_iter().filter(|page| *page != "docs/commands.md") {
        compare(page);
    }
}

#[test]
fn every_line_of_the_transcript_is_typed_anew_on_a_cluster_and_ends_as_shown() {
    let built = assert_cmd::cargo::cargo_bin!("consul-lock");
    let mut script = Command::new(root().join("scripts/transcript"));
    script.arg("--bin").arg(built).env("CONSUL_BIN", consul_binary());
    let ended = Running::start(&mut script).wait(4 * PATIENCE);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    // How it ends is compared, and not all that is said: a slow machine has more to say.
    let ends = |page: &str| {
        let lines =
            blocks(page).into_iter().flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| line.contains("$ ") || line.starts_with("[exit ")).collect::<Vec<_>>()
    };
    let page = read("docs/transcript.md");
    assert!(ends(&page).len() > 60, "{page}");
    assert_eq!(ends(&page), ends(&ended.stdout), "scripts/transcript >docs/transcript.md writes it anew");
}

#[test]
fn every_page_with_recordings_is_compared() {
    let mut tests = String::new();
    for entry in std::fs::read_dir(root().join("tests")).expect("the folder is there").flatten() {
        if entry.file_name().to_string_lossy().starts_with("doctor") {
            tests += &std::fs::read_to_string(entry.path()).expect("it can be read");
        }
    }
    for entry in std::fs::read_dir(root().join("docs")).expect("the folder is there").flatten() {
        let name = format!("docs/{}", entry.file_name().to_string_lossy());
        if !name.ends_with(".md") {
            continue;
        }
        let page = read(&name);
        let has_recordings = blocks(&page).iter().any(|block| block.language.starts_with("console"));
        match name.as_str() {
            // The test above.
            "docs/transcript.md" => assert!(has_recordings),
            // Each by the test that makes what is wrong there.
            "docs/doctor.md" => {
                for section in page.split("\n### ").skip(1).filter(|section| section.contains("```console")) {
                    let title = section.lines().next().expect("a title");
                    assert!(tests.contains(&format!("expect_documented(\"{title}\"")), "{title} is not compared");
                }
            }
            _ => assert_eq!(PAGES.contains(&name.as_str()), has_recordings, "{name}: is it in this file's list?"),
        }
    }
}
