//! The thread that writes on standard error: lines from a queue of fixed length, and the live line of somebody who
//! waits, which it draws anew once a second. Nobody waits for it, but for a moment at the end of a run, and at the end of
//! the waiting, since the terminal is the command's then.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::time::Duration;

use crate::cli::live::{Keyboard, Screen, Waiting, is_writable};

/// Messages that may wait for a reader of standard error.
const QUEUE: usize = 256;

/// How long the last messages of a run are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long a terminal may take to let the live line go before the command is started.
const CLEARING: Duration = Duration::from_millis(50);

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    words: SyncSender<Word>,
    done: Receiver<()>,
    may_draw: bool,
    /// There is a live line.
    live: bool,
    /// Tells of typed lines while there is one.
    keyboard: Option<Keyboard>,
}

#[derive(Debug)]
enum Word {
    /// A line to write.
    Line(String),
    /// The live line, and a line instead of it where there can be none.
    Live(Box<Waiting>, Option<String>),
    /// Somebody has typed a line.
    Typed,
    /// The waiting is over; the answer is that the live line is gone.
    Clear(Sender<()>),
}

impl Writer {
    /// Starts the thread, to draw a live line where that is `wanted` and possible.
    pub(super) fn start(wanted: bool) -> Self {
        let (words, inbox) = sync_channel(QUEUE);
        let (finished, done) = mpsc::channel::<()>();
        let screen = Screen::new(wanted);
        let may_draw = screen.may_draw();
        let write = move || {
            serve(screen, &inbox);
            drop(finished);
        };
        // Without a thread nothing is told, which is no reason not to run.
        let _ = std::thread::Builder::new().name("report".into()).spawn(write);
        Self { words, done, may_draw, live: false, keyboard: None }
    }

    /// Whether there may be a live line.
    pub(super) fn may_draw(&self) -> bool {
        self.may_draw
    }

    /// Queues a line; false if the queue is full.
    pub(super) fn line(&self, line: String) -> bool {
        self.words.try_send(Word::Line(line)).is_ok()
    }

    /// Queues the state of the waiting; false if the queue is full.
    pub(super) fn live(&mut self, waiting: Waiting, otherwise: Option<String>) -> bool {
        if !std::mem::replace(&mut self.live, true) {
            let words = self.words.clone();
            self.keyboard = Keyboard::listen(move || drop(words.try_send(Word::Typed)));
        }
        self.words.try_send(Word::Live(Box::new(waiting), otherwise)).is_ok()
    }

    /// Takes the live line away, and waits until that is done, but not for a terminal that takes nothing.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.live) {
            self.keyboard = None;
            let (cleared, done) = mpsc::channel();
            if self.words.try_send(Word::Clear(cleared)).is_ok() {
                let _ = done.recv_timeout(CLEARING);
            }
        }
    }

    /// Waits until all is written, but not for a standard error that nobody reads.
    pub(super) fn finish(self) {
        // The keyboard's thread has a way to the queue, too.
        drop((self.words, self.keyboard));
        let _ = self.done.recv_timeout(LAST_WORDS);
    }
}

fn serve(mut screen: Screen, inbox: &Receiver<Word>) {
    screen.settle_in();
    loop {
        let word = match screen.rest() {
            Some(rest) => inbox.recv_timeout(rest),
            None => inbox.recv().map_err(RecvTimeoutError::from),
        };
        match word {
            Ok(Word::Line(line)) => screen.print(&line),
            Ok(Word::Live(waiting, otherwise)) => screen.show(*waiting, otherwise.as_deref()),
            Ok(Word::Typed) => screen.look(),
            Ok(Word::Clear(cleared)) => {
                screen.clear();
                drop(cleared);
            }
            Err(RecvTimeoutError::Timeout) => screen.draw(),
            Err(RecvTimeoutError::Disconnected) => return screen.clear(),
        }
    }
}

/// Writes a line without a queue: in a thread all the same, which is not waited for if nobody reads. Where the system gives no
/// thread, which may be the very fault to be told, it is written here as soon as somebody takes it.
pub(crate) fn write_last(line: String) {
    let writer = Writer::start(false);
    // An empty queue takes a line unless its reader is gone.
    if !writer.line(line.clone()) && is_writable(LAST_WORDS) {
        Screen::new(false).print(&line);
    }
    writer.finish();
}
