//! Requests in one piece. ureq sends a request's head and its body one after the other; on a connection that does not wait for
//! more (TCP_NODELAY) these are two segments, and the agent is woken twice. Here both wait until the answer is waited for.

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// What is held back at most; a longer body goes out as it comes.
const MOST: usize = 64 << 10;

/// Follows whatever opens connections.
#[derive(Debug)]
pub(super) struct Whole;

impl<T: Transport> Connector<T> for Whole {
    type Out = Held<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, opened: Option<T>) -> Result<Option<Held<T>>, Error> {
        Ok(opened.map(|inner| Held { inner, back: Vec::new() }))
    }
}

/// A connection, and what has not been sent over it yet.
#[derive(Debug)]
pub(super) struct Held<T> {
    inner: T,
    back: Vec<u8>,
}

impl<T: Transport> Held<T> {
    fn flush(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        for part in std::mem::take(&mut self.back).chunks(self.inner.buffers().output().len().max(1)) {
            self.inner.buffers().output()[..part.len()].copy_from_slice(part);
            self.inner.transmit_output(part.len(), timeout)?;
        }
        Ok(())
    }
}

impl<T: Transport> Transport for Held<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.back.extend_from_slice(&self.inner.buffers().output()[..amount]);
        if self.back.len() < MOST { Ok(()) } else { self.flush(timeout) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.flush(timeout)?;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use ureq::unversioned::transport::LazyBuffers;

    use super::*;

    /// Writes down each piece that it is given to send.
    #[derive(Debug)]
    struct Recorder {
        buffers: LazyBuffers,
        sent: Vec<Vec<u8>>,
    }

    impl Transport for Recorder {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.buffers
        }

        fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
            self.sent.push(self.buffers.output()[..amount].to_vec());
            Ok(())
        }

        fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
            Ok(false)
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    fn held(buffer: usize) -> Held<Recorder> {
        Held { inner: Recorder { buffers: LazyBuffers::new(buffer, buffer), sent: Vec::new() }, back: Vec::new() }
    }

    fn send(held: &mut Held<Recorder>, bytes: &[u8]) {
        held.buffers().output()[..bytes.len()].copy_from_slice(bytes);
        held.transmit_output(bytes.len(), NextTimeout::default()).expect("sent or kept");
    }

    #[test]
    fn what_is_sent_before_the_answer_is_waited_for_is_one_piece() {
        let mut held = held(100);
        send(&mut held, b"head ");
        send(&mut held, b"body");
        assert!(held.inner.sent.is_empty());
        held.await_input(NextTimeout::default()).expect("nothing came");
        held.await_input(NextTimeout::default()).expect("nothing came");
        assert_eq!(held.inner.sent, [b"head body"]);
    }

    #[test]
    fn a_long_body_goes_out_as_it_comes_in_pieces_that_fit() {
        let mut held = held(1000);
        for _ in 0..MOST / 1000 + 1 {
            send(&mut held, &[b'x'; 1000]);
        }
        let sent: usize = held.inner.sent.iter().map(Vec::len).sum();
        assert!(sent >= MOST && held.back.len() < MOST, "{sent} sent, {} kept", held.back.len());
        assert!(held.inner.sent.iter().all(|piece| piece.len() <= 1000));
        held.await_input(NextTimeout::default()).expect("nothing came");
        let sent: usize = held.inner.sent.iter().map(Vec::len).sum();
        assert_eq!(sent, (MOST / 1000 + 1) * 1000);
    }
}
