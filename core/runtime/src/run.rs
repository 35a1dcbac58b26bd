//! The run loop: it carries bytes and time between a machine and a world, and decides nothing.
//!
//! ```text
//!   Handle ─ commands ─► ┌───────────┐ ── Input ──► ┌─────────┐
//!   Network ─ happened ► │ run  loop │              │ Machine │
//!   Disk ─── written ──► │           │ ◄─ Output ── └─────────┘
//!   Clock ── deadline ─► └───────────┘ ──► Network, Disk, Entropy, users
//! ```
//!
//! A timer that is due is a `Tick`, handed in after the datagrams that can be read (C53); so is
//! whatever else comes while it is due, since a machine may let its timers act on any input.
//!
//! One future, no task, no lock. All outputs are carried before anything else happens. Whoever is
//! ready is served: world and users take turns at being looked at first, so that neither can
//! starve the other, and a replay takes the same branches.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;

use machines::Instant;
use machines::cluster::ids::{CallId, Entropy as Drawn, Session};
use machines::node::io::{Event, Input, Output, StopReason};
use sync::Inbox;

use crate::machine::Machine;
use crate::ports::{Clock, Disk, Entropy, Env, Happened, Network, World};
use crate::race::{Won, race};
use crate::users::{Command, Letter, Obeyed, Users};

/// The most datagrams handed in before one timer that is due (C53).
const DATAGRAMS_MAX: u32 = 1_024;

/// The call of what the loop itself asks the machine; users' calls begin at 1.
const OWN_CALL: CallId = CallId(0);

/// The loop's end of a node's handles.
pub struct Commands<M> {
    pub(crate) inbox: Inbox<Command<M>>,
}

/// How a run ended, when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A user asked for it.
    Asked,
    /// The last handle was dropped.
    Abandoned,
    /// The node cannot go on.
    Stopped(StopReason),
}

/// Why a run failed. The node is gone; starting it again is safe.
#[derive(Debug)]
pub enum RunError {
    /// The network as a whole.
    Network(io::Error),
    /// The session could not be made durable, so it may not be used (C7).
    Disk {
        /// Which session.
        session: Session,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(error) => write!(f, "the network failed: {error}"),
            Self::Disk { session, error } => {
                write!(f, "session {} could not be stored: {error}", session.0)
            }
        }
    }
}

impl std::error::Error for RunError {}

/// Runs `machine` in the world `E` until it stops, or a user stops it.
///
/// `listen` sees every event, in order, before the watchers do; it must not block. A watcher may
/// fall `watch_buffer` events behind (C107).
///
/// # Errors
///
/// See [`RunError`].
pub async fn run<E: Env, M: Machine>(
    world: World<E>,
    machine: M,
    commands: Commands<M>,
    watch_buffer: u32,
    listen: impl FnMut(Instant, &Event) + Send,
) -> Result<Ended, RunError> {
    let now = world.clock.now();
    let mut node = Loop {
        world,
        machine,
        commands,
        users: Users::new(watch_buffer),
        listen,
        storing: VecDeque::new(),
        backlog: VecDeque::new(),
        last: now,
        users_first: false,
        stopped: None,
    };
    node.carry();

    let ended = loop {
        if let Some(reason) = node.stopped {
            break Ended::Stopped(reason);
        }
        if node.is_due() {
            node.hand_in_datagrams();
            node.hand(Input::Tick);
            if node.stopped.is_some() {
                continue;
            }
        }
        let woken = node.wait().await?;
        if node.is_due() && !matches!(woken, Woken::Due) {
            // What woke the loop may run the timers; the pause may have been long.
            node.hand_in_datagrams();
        }
        if let Some(ended) = node.act_on(woken) {
            break ended;
        }
    };
    node.world.network.finish().await;
    Ok(ended)
}

/// One node in its world.
struct Loop<E: Env, M, L> {
    world: World<E>,
    machine: M,
    commands: Commands<M>,
    users: Users,
    listen: L,
    /// Sessions being written, oldest first.
    storing: VecDeque<Session>,
    /// What outputs made necessary, handed in as soon as the machine is drained.
    backlog: VecDeque<Input>,
    /// The time of the last input; it never decreases.
    last: Instant,
    users_first: bool,
    stopped: Option<StopReason>,
}

/// Why the loop woke up.
enum Woken<M> {
    Input(Input),
    Command(Option<Command<M>>),
    Due,
}

impl<E: Env, M: Machine, L: FnMut(Instant, &Event) + Send> Loop<E, M, L> {
    /// Waits for whatever comes first.
    async fn wait(&mut self) -> Result<Woken<M>, RunError> {
        self.users_first = !self.users_first;
        let World { clock, network, disk, .. } = &mut self.world;
        let users = race(disk.written(), self.commands.inbox.receive());
        let due = clock.sleep_until(self.machine.deadline());
        let woken = if self.users_first {
            flip(race(users, race(network.next(), due)).await)
        } else {
            unnest(race(network.next(), race(users, due)).await)
        };
        match woken {
            First::Network(Ok(happened)) => Ok(self.happened(happened)),
            First::Network(Err(error)) => Err(RunError::Network(error)),
            First::Users(Won::Left(written)) => self.written(written),
            First::Users(Won::Right(command)) => Ok(Woken::Command(command)),
            First::Due => Ok(Woken::Due),
        }
    }

    /// Names what happened in the machine's words, with the entropy that it needs.
    fn happened(&mut self, happened: Happened) -> Woken<M> {
        Woken::Input(match happened {
            Happened::Datagram(bytes) => Input::Datagram(bytes),
            Happened::Connected { conn } => Input::Connected { conn, entropy: self.draw() },
            Happened::DialFailed { conn } => Input::DialFailed { conn },
            Happened::Accepted { conn, source } => {
                Input::Accepted { conn, source, entropy: self.draw() }
            }
            Happened::Bytes { conn, bytes } => Input::Bytes { conn, bytes },
            Happened::Wrote { conn, count } => Input::Wrote { conn, count },
            Happened::Closed { conn } => Input::Closed { conn },
        })
    }

    fn written(&mut self, written: io::Result<()>) -> Result<Woken<M>, RunError> {
        let session = self.storing.pop_front().expect("a write is told only after it was started");
        match written {
            Ok(()) => Ok(Woken::Input(Input::SessionStored(session))),
            Err(error) => Err(RunError::Disk { session, error }),
        }
    }

    /// Hands in what woke the loop; says so if it is what users end a node with.
    fn act_on(&mut self, woken: Woken<M>) -> Option<Ended> {
        match woken {
            Woken::Input(input) => self.hand(input),
            Woken::Due => {}
            Woken::Command(None) => return Some(Ended::Abandoned),
            Woken::Command(Some(command)) => {
                let now = self.now();
                match self.users.obey(now, &self.machine, command) {
                    Obeyed::Done => {}
                    Obeyed::Hand(input) => self.hand(input),
                    Obeyed::Stop => return Some(Ended::Asked),
                }
            }
        }
        None
    }

    fn is_due(&self) -> bool {
        self.machine.deadline() <= self.now()
    }

    /// Hands in the datagrams that can be read, before the timers that are due (C53).
    fn hand_in_datagrams(&mut self) {
        for _ in 0..DATAGRAMS_MAX {
            let Some(bytes) = self.world.network.ready() else {
                return;
            };
            self.hand(Input::Datagram(bytes));
        }
    }

    /// Hands in one input and carries all that follows from it.
    fn hand(&mut self, input: Input) {
        self.last = self.now();
        self.machine.handle(self.last, input);
        self.carry();
    }

    /// Carries outputs until there are none, and hands in what they made necessary.
    fn carry(&mut self) {
        loop {
            while let Some(output) = self.machine.poll() {
                self.put(output);
            }
            let Some(input) = self.backlog.pop_front() else {
                break;
            };
            self.machine.handle(self.last, input);
        }
        self.users.resync(&self.machine);
    }

    /// Carries one output to where it belongs.
    fn put(&mut self, output: Output) {
        let network = &mut self.world.network;
        match output {
            Output::Dial { conn, addr } => network.dial(conn, addr),
            Output::Write { conn, bytes } => network.write(conn, bytes),
            Output::Close { conn } => network.close(conn),
            Output::Datagram { to, bytes } => network.datagram(to, bytes),
            Output::Draw { conn } => {
                let entropy = self.draw();
                self.backlog.push_back(Input::Drawn { conn, entropy });
            }
            Output::StoreSession { session, offset, bytes } => {
                self.storing.push_back(session);
                self.world.disk.write(offset, bytes.to_vec());
            }
            Output::Reply { call, reply } => self.users.reply(call, reply),
            Output::Deliver { to, from, delivery, request, tag, payload } => {
                let letter = Letter { from, request, tag, payload };
                if let Err(request) = self.users.deliver(to, delivery, letter) {
                    self.backlog.push_back(Input::Call { call: OWN_CALL, request });
                }
            }
            Output::Event(event) => {
                (self.listen)(self.last, &event);
                self.users.tell(&event);
            }
            Output::Stop(reason) => self.stopped = Some(reason),
        }
    }

    fn draw(&mut self) -> Drawn {
        let mut drawn = Drawn([0; 64]);
        self.world.entropy.fill(&mut drawn.0);
        drawn
    }

    /// Returns the time, never less than what the machine was last told.
    fn now(&self) -> Instant {
        self.world.clock.now().max(self.last)
    }
}

/// Who was first, whatever the order of looking.
enum First<N, U> {
    Network(N),
    Users(U),
    Due,
}

fn unnest<N, U>(won: Won<N, Won<U, ()>>) -> First<N, U> {
    match won {
        Won::Left(network) => First::Network(network),
        Won::Right(Won::Left(users)) => First::Users(users),
        Won::Right(Won::Right(())) => First::Due,
    }
}

fn flip<N, U>(won: Won<U, Won<N, ()>>) -> First<N, U> {
    match won {
        Won::Left(users) => First::Users(users),
        Won::Right(Won::Left(network)) => First::Network(network),
        Won::Right(Won::Right(())) => First::Due,
    }
}

/// Fails to compile if the run loop could not be spawned on a runtime with several threads.
#[allow(dead_code)]
fn the_loop_can_move_between_threads<E: Env, M: Machine>(
    world: World<E>,
    machine: M,
    commands: Commands<M>,
) -> impl Future<Output = Result<Ended, RunError>> + Send {
    run(world, machine, commands, 1, |_, _| {})
}

#[cfg(test)]
mod tests;
