//! What a process that keeps things durable takes and gives, whichever machine is inside.

use std::fmt;
use std::sync::Arc;

use machines::digest::Digest;
use machines::ledger::record::Chain;
use machines::ledger::root::StateRoot;
use machines::{Choices, Instant};

use crate::files::{Answer, Operation};
use crate::scenario::Kept;

/// Names an operation on the disk, or a call, of one process.
pub type Number = u64;

/// What happens to a process.
#[derive(Clone, Debug)]
pub enum Input<R> {
    /// Time has passed.
    Tick {
        /// What the wall clock shows, in milliseconds since 1970.
        wall_ms: u64,
    },
    /// Somebody asks for something.
    Call {
        /// Names the call.
        call: Number,
        /// What the wall clock shows.
        wall_ms: u64,
        /// New for each call.
        nonce: [u8; 16],
        /// What is asked for.
        request: R,
    },
    /// An operation on the disk has ended.
    Answer {
        /// Which.
        op: Number,
        /// How.
        answer: Answer,
        /// What the wall clock shows.
        wall_ms: u64,
    },
}

/// What a process gives.
#[derive(Clone, Debug)]
pub enum Output<A, E> {
    /// Do this to the disk.
    Disk {
        /// Names the operation.
        op: Number,
        /// What.
        operation: Operation,
    },
    /// The answer to a call, which everybody may see.
    Reply {
        /// Which.
        call: Number,
        /// The answer.
        reply: A,
    },
    /// The answer to a question, which its asker may see.
    Told {
        /// Which.
        call: Number,
        /// Whether it tells of anything that could be lost.
        tells: bool,
    },
    /// Something is done, or somebody is told, because of an event.
    Effect {
        /// What, in words.
        what: String,
        /// The number of the last event that it follows from; 0 if it follows from none.
        event: u64,
    },
    /// One decision more was made. Not for users: what a checker may know.
    Decided(Decided),
    /// The process says that all records up to this one are durable.
    Durable(u64),
    /// Events of one decision, which everybody may see.
    Events {
        /// The number of the first.
        first: u64,
        /// The events.
        events: Arc<[E]>,
    },
    /// A reader was given events: all that it wants since it was given something last.
    Read {
        /// Which.
        reader: u32,
        /// The last event that it knows of now.
        to: u64,
        /// The events, with their numbers.
        events: Vec<(u64, E)>,
    },
    /// A reader came too late: what it wants next is not kept any more.
    Late {
        /// Which.
        reader: u32,
        /// The oldest event that is kept, as it was told.
        oldest: u64,
    },
    /// The process has read what is on the disk, and serves from here on.
    Recovered(Recovered),
    /// The process does not start on this disk.
    Refused {
        /// In one word.
        reason: &'static str,
        /// In a sentence.
        told: String,
    },
    /// Nothing will be written any more.
    Stalled,
}

/// A decision that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The number of its record.
    pub record: u64,
    /// How many bytes the record has.
    pub bytes: u64,
    /// The root of the state after it, where it can be known.
    pub root: Option<StateRoot>,
}

/// What a start came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The last record.
    pub record: u64,
    /// Its hash, where it is told.
    pub hash: Option<Chain>,
    /// The root of the state after it, where it can be known.
    pub root: Option<StateRoot>,
    /// Of which record the snapshot was that was loaded; 0 if there was none.
    pub snapshot: u64,
}

/// A process, from its start to its end.
pub trait Guest: Clone + Send + 'static {
    /// What is asked of it.
    type Request: Clone + fmt::Debug + Send + Sync;
    /// What it can be asked to tell, which changes nothing.
    type Question: Clone + fmt::Debug + Send + Sync;
    /// What it answers.
    type Reply: Clone + fmt::Debug + Send + Sync;
    /// What happens.
    type Event: Clone + fmt::Debug + Send + Sync;
    /// How it is made.
    type Kind: Clone + Send + Sync;
    /// Who asks.
    type Crowd: Crowd<Self>;
    /// What a saboteur breaks.
    type Turn: Copy + fmt::Debug + Send + Sync;
    /// What those who are connected to a process know when it ends.
    type Memory: Clone + Default + Send;

    /// Says how processes of a scenario are made.
    fn kind(kept: &Kept, turn: Option<Self::Turn>) -> Self::Kind;

    /// Starts a process; `seed` is new for each.
    fn start(kind: &Self::Kind, now: Instant, wall_ms: u64, seed: [u8; 32]) -> Self;
    /// Returns what those who are connected know.
    fn memory(&self) -> Self::Memory;
    /// They come back with what they know; before the first input.
    fn remember(&mut self, memory: &Self::Memory);
    /// Handles one input; the outputs before it were taken.
    fn handle(&mut self, now: Instant, input: Input<Self::Request>);
    /// Handles a question, like [`Guest::handle`] an input.
    fn inquire(&mut self, now: Instant, wall_ms: u64, call: Number, question: Self::Question);
    /// Takes the next output.
    fn poll(&mut self) -> Option<Output<Self::Reply, Self::Event>>;
    /// When it must be told the time at the latest.
    fn deadline(&self) -> Instant;
    /// The number of the last record that it has appended.
    fn appended(&self) -> u64;
    /// The root of the state as it is, once there is one.
    fn root(&mut self) -> Option<StateRoot>;
    /// Whether a reply tells nothing that could be lost.
    fn tells_nothing(reply: &Self::Reply) -> bool;
    /// Whether a reply says that a command was done.
    fn is_done(reply: &Self::Reply) -> bool;
    /// The most bytes that it may hold because they are not durable (L78).
    fn unsynced_max(kind: &Self::Kind) -> u64;
    /// How many bytes it holds for that reason, by its own buffers.
    fn held(&self) -> u64 {
        0
    }
    /// Adds an event to the hash of the run, where no root of a state tells of it.
    fn hash_event(event: &Self::Event, hash: &mut Digest) {
        let _ = (event, hash);
    }
    /// Whether a saboteur takes whatever it cannot read for a torn tail.
    fn takes_all_for_torn(kind: &Self::Kind) -> bool {
        let _ = kind;
        false
    }
    /// Whether a saboteur does not look at the lock.
    fn ignores_lock(kind: &Self::Kind) -> bool {
        let _ = kind;
        false
    }
}

/// What a call of the crowd came to.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a, A> {
    /// The answer.
    Reply(&'a A),
    /// Nothing: the process died, or took too long. What was asked may have happened.
    Nothing,
}

/// Those who ask: users, workers and operators.
pub trait Crowd<G: Guest>: Clone + Send {
    /// Makes them.
    fn new(work: &Work) -> Self;
    /// What one of them asks next; `None` if nothing now.
    fn next(&mut self, caller: u32, wall_ms: u64, choices: &mut Choices) -> Option<G::Request>;
    /// What one of them wants to be told instead, if it does.
    fn question(&mut self, caller: u32, choices: &mut Choices) -> Option<G::Question> {
        let _ = (caller, choices);
        None
    }
    /// What came of it.
    fn heard(&mut self, caller: u32, request: &G::Request, heard: Heard<'_, G::Reply>);
    /// What happened, where it is told without a question.
    fn saw(&mut self, events: &[G::Event]) {
        let _ = events;
    }
    /// The process is gone, and whatever connects with it.
    fn lost(&mut self) {}
    /// Whether they did less than they were to do: such a run is unfinished.
    fn is_short(&self) -> bool {
        false
    }
}

/// What the crowd does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// How many ask at the same time.
    pub callers: u32,
    /// How long one waits before the next question: at least, and up to so much more.
    pub think: (u64, u64),
    /// The longest text.
    pub bytes: u64,
    /// How many keys, or processes, there are.
    pub keys: u64,
    /// After so many records nobody asks for a change any more; of a kernel: after so many
    /// processes, nobody for another one.
    pub records: Option<u64>,
    /// What is done, by name.
    pub script: Script,
}

/// What kind of life the crowd leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Script {
    /// A bit of everything.
    #[default]
    Mixed,
    /// Many processes that wait for their turn.
    Queue,
    /// Pipelines of every shape, with questions to people.
    Flows,
    /// Pipelines that fork, while agents fail and workers crash.
    ForkJoin,
    /// Services, their workers and those who call them.
    Services,
    /// The same, and a node that drains and stops.
    Drain,
    /// Pipelines that the node drives (K290).
    Executor,
    /// Pipelines that ask people for leave, who answer late, twice or at the last moment.
    Approvals,
}
