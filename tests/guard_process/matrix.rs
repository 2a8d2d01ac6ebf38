//! Who kills whom, and when: each row of the table in the design, with each shape of tree.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::sys::signal::Signal;

use crate::Test;
use crate::keeper::{Order, PATIENCE, Said};
use crate::scene::{LONG, cast, marked};
use crate::shapes::{Shape, shapes};

const GRACE: Duration = Duration::from_millis(150);
/// From a confirmation to the deadline that it gives; for a tree that takes its time to grow.
const LEASE: Duration = Duration::from_millis(600);
const LONG_LEASE: Duration = Duration::from_millis(1200);
/// What the killing itself may take on a machine that is busy with other tests: the margin of a default lease.
const KILLING: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Deadline,
    Loss,
    KeeperKilled,
    KeeperStopped,
    JobKilled,
    JobStopped,
    GuardKilled,
    GuardStopped,
}

const ROWS: [(Row, &str, &str); 8] = [
    (Row::Deadline, "deadline", "the deadline passes"),
    (Row::Loss, "loss", "the lock is lost"),
    (Row::KeeperKilled, "keeper -9", "the keeper is killed"),
    (Row::KeeperStopped, "keeper T", "the keeper is stopped"),
    (Row::JobKilled, "job -9", "the job is killed"),
    (Row::JobStopped, "job T", "the job is stopped"),
    (Row::GuardKilled, "guard -9", "the guard is killed"),
    (Row::GuardStopped, "guard T", "the guard is stopped"),
];

/// Shape, row, and by how many milliseconds the last process outlived the moment by which all had to be dead.
static MEASURED: Mutex<Vec<(&str, Row, f64)>> = Mutex::new(Vec::new());

pub fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    for shape in shapes() {
        for (row, _, what) in ROWS {
            let shape = shape.clone();
            let name = format!("{} is dead in time when {what}", shape.name);
            tests.push((name, Box::new(move || play(&shape, row))));
        }
    }
    tests
}

fn play(shape: &Shape, row: Row) {
    let lease = if shape.size < 100 { LEASE } else { LONG_LEASE };
    let mut deadline = Moment::now() + lease;
    let mut scene = cast(&shape.argv).grace(GRACE).start(Some(deadline));
    // Confirmed for as long as the tree grows, and never again.
    let begun = Moment::now();
    while marked(&scene.mark).len() < shape.size {
        assert!(Moment::now().since(begun) < LONG, "the tree never came to its size");
        deadline = Moment::now() + lease;
        scene.order(&Order::Extend(deadline));
        thread::sleep(Duration::from_millis(10));
    }
    let event = Moment::now();
    let (due, earliest) = match row {
        Row::Deadline => (deadline, deadline - GRACE),
        Row::Loss => {
            scene.order(&Order::End(None));
            (event + GRACE, event)
        }
        Row::KeeperKilled => {
            scene.kill_keeper(Signal::SIGKILL);
            (event + GRACE, event)
        }
        Row::KeeperStopped => {
            scene.kill_keeper(Signal::SIGSTOP);
            (deadline, deadline - GRACE)
        }
        Row::JobKilled => {
            scene.kill_job(Signal::SIGKILL);
            (event + GRACE, event)
        }
        Row::JobStopped => {
            scene.kill_job(Signal::SIGSTOP);
            (deadline, deadline - GRACE)
        }
        Row::GuardKilled => {
            scene.kill_guard(Signal::SIGKILL);
            (event, event)
        }
        Row::GuardStopped => {
            scene.kill_guard(Signal::SIGSTOP);
            (deadline + PATIENCE, deadline)
        }
    };
    let due = due.min(deadline + PATIENCE);
    let dead = scene.await_death();
    if matches!(row, Row::KeeperStopped | Row::JobStopped) {
        scene.kill_keeper(Signal::SIGCONT);
    }
    match row {
        Row::Deadline | Row::Loss | Row::KeeperStopped | Row::JobStopped => {
            let proven = scene.hear_gone();
            assert!(proven <= due + KILLING, "proven {:?} too late", proven.since(due));
        }
        Row::GuardKilled | Row::GuardStopped => loop {
            if let Said::TookOver(gone) = scene.next() {
                assert!(gone, "the keeper gave up");
                break;
            }
        },
        Row::KeeperKilled | Row::JobKilled => {}
    }
    let told = scene.end();
    // Of a job that is killed as a whole, the guard may see the command's death first, and then has nothing to tell.
    if row != Row::JobKilled {
        assert_eq!(told.contains("are dead"), row == Row::KeeperKilled, "told: {told}");
    }
    assert!(dead <= due + KILLING, "dead {:?} too late", dead.since(due));
    assert!(dead >= earliest, "dead {:?} too early", earliest.since(dead));
    let late = (dead.since_boot().as_secs_f64() - due.since_boot().as_secs_f64()) * 1e3;
    MEASURED.lock().expect("one thread").push((shape.name, row, late));
}

/// Prints what was measured, a line a shape.
pub fn print() {
    let measured = MEASURED.lock().expect("one thread");
    if measured.is_empty() {
        return;
    }
    println!("\nthe last process's death, in ms after the moment by which all had to be dead (negative: before)");
    println!("{:44}{}", "", ROWS.map(|(_, head, _)| format!("{head:>10}")).concat());
    for shape in shapes() {
        let cell = |row| measured.iter().find(|(name, at, _)| (*name, *at) == (shape.name, row));
        let cells =
            ROWS.map(|(row, ..)| cell(row).map_or(format!("{:>10}", "-"), |(.., late)| format!("{late:>10.1}")));
        println!("{:44}{}", shape.name, cells.concat());
    }
}
