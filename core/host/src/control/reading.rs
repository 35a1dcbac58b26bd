//! The side of a client that asks: lines, and whether it has left.

use std::future::pending;
use std::io;
use std::mem;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is read at a time, in bytes.
const FILL: usize = 8 << 10;
/// How much of what a client says ahead is kept while it waits for an answer, in bytes.
const AHEAD_MAX: usize = 64 << 10;

/// See the file's header.
#[derive(Debug)]
pub(super) struct Reading<R> {
    read: R,
    /// What was read and not taken.
    ahead: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    pub(super) const fn new(read: R) -> Self {
        Self { read, ahead: Vec::new() }
    }

    /// Gives up the lines that were not taken.
    pub(super) fn into_inner(self) -> R {
        self.read
    }

    /// Reads a line with its end, or as much as there is of the last one; nothing at the end. Of a
    /// line that is longer than `most` only the beginning is returned, and the rest passed over.
    pub(super) async fn line(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut looked = 0;
        loop {
            if let Some(end) = end_of_line(&self.ahead[looked..]) {
                let rest = self.ahead.split_off(looked + end);
                return Ok(mem::replace(&mut self.ahead, rest));
            }
            looked = self.ahead.len();
            if looked > most {
                let begun = mem::take(&mut self.ahead);
                self.skip_line().await?;
                return Ok(begun);
            }
            if self.fill().await? == 0 {
                return Ok(mem::take(&mut self.ahead));
            }
        }
    }

    /// Passes over the rest of a line.
    async fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(end) = end_of_line(&self.ahead) {
                self.ahead.drain(..end);
                return Ok(());
            }
            self.ahead.clear();
            if self.fill().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Waits until the other side has closed. What it says before that are its next lines; of one
    /// that says very much it is not known before they are taken. Cancel safe.
    pub(super) async fn left(&mut self) {
        while self.ahead.len() < AHEAD_MAX {
            if !self.fill().await.is_ok_and(|bytes| bytes > 0) {
                return;
            }
        }
        pending().await
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.ahead.reserve(FILL);
        self.read.read_buf(&mut self.ahead).await
    }
}

/// Returns how long the first line is, if all of it is there.
fn end_of_line(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair() -> (DuplexStream, Reading<DuplexStream>) {
        let (client, node) = duplex(1 << 20);
        (client, Reading::new(node))
    }

    /// Polls a future that needs nobody to wake it.
    fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn say(client: &mut DuplexStream, text: &[u8]) {
        assert!(now(client.write_all(text)).is_ready());
    }

    #[test]
    fn lines_are_taken_one_by_one_and_a_long_one_is_passed_over() {
        let (mut client, mut reading) = pair();
        say(&mut client, b"one\ntwo");
        let line = |reading: &mut Reading<_>| match now(reading.line(9)) {
            Poll::Ready(line) => Some(String::from_utf8(line.unwrap()).unwrap()),
            Poll::Pending => None,
        };
        assert_eq!(line(&mut reading).as_deref(), Some("one\n"));
        assert_eq!(line(&mut reading), None, "it has not ended");
        say(&mut client, b"2\n0123456789");
        assert_eq!(line(&mut reading).as_deref(), Some("two2\n"));
        assert_eq!(line(&mut reading), None, "the rest of it is passed over");
    }

    /// K393: whoever leaves is noticed behind what it said ahead, and that is not lost.
    #[test]
    fn who_leaves_is_noticed_behind_its_next_lines() {
        let (mut client, mut reading) = pair();
        say(&mut client, b"one\n");
        assert!(now(reading.left()).is_pending(), "it may wait for its answer");
        drop(client);
        assert!(now(reading.left()).is_ready());
        let Poll::Ready(Ok(line)) = now(reading.line(9)) else { panic!("it was said") };
        assert_eq!(line, b"one\n");
        assert!(matches!(now(reading.line(9)), Poll::Ready(Ok(line)) if line.is_empty()));
    }

    #[test]
    fn what_is_said_ahead_is_bounded() {
        let (mut client, mut reading) = pair();
        say(&mut client, &[b'x'; 1 << 20]);
        assert!(now(reading.left()).is_pending());
        assert!(reading.ahead.len() < 2 * AHEAD_MAX, "{}", reading.ahead.len());
    }
}
