//! The machine's own world: tokio's sockets and timers, files, the operating system's entropy.

mod clock;
mod disk;
pub(crate) mod files;
mod sockets;

use runtime::{Entropy, Env};

pub use clock::SystemClock;
pub use disk::SessionFile;
pub use files::LedgerFiles;
pub use sockets::{Counts, Sockets};

/// The world that production nodes live in.
#[derive(Debug)]
pub enum System {}

impl Env for System {
    type Clock = SystemClock;
    type Network = Sockets;
    type Disk = SessionFile;
    type Files = LedgerFiles;
    type Entropy = SystemEntropy;
}

/// Random bytes of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has randomness once it has started");
    }
}
