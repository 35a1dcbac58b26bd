//! Who waits for what: open calls, endpoints and watchers of one node, on the loop's side.

use std::collections::BTreeMap;

use machines::Instant;
use machines::cluster::ids::{ActorId, CallId, Ref};
use machines::cluster::registry::io::NameEvent;
use machines::cluster::router::io::{Delivery, Outcome, Request};
use machines::cluster::swim::Snapshot;
use machines::cluster::swim::io::MemberEvent;
use machines::cluster::wire::BounceCode;
use machines::node::io::{Call, Event, Input, OpenError, Reply};
use sync::{Channel, SendError};

use crate::machine::{Machine, Names};
use crate::watch::{Watch, Watchers};

/// A message for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The sender.
    pub from: Ref,
    /// Where to answer, if it is a request.
    pub request: Option<Request>,
    /// What the payload is.
    pub tag: u32,
    /// The message.
    pub payload: Vec<u8>,
}

/// A look at a node between two inputs.
pub(crate) type Look<M> = dyn FnOnce(Instant, &M) + Send;

/// Gives whoever opens an endpoint its reference.
pub(crate) type Opened = dyn FnOnce(Result<Ref, OpenError>) + Send;

/// What a user's handle sends to the loop.
pub(crate) enum Command<M> {
    /// Something happens to the node.
    Input(Input),
    /// A call with one reply.
    Call(CallId, Call, sync::Reply<Reply>),
    /// A tracked send: two replies (C84).
    Tracked(CallId, Call, sync::Reply<Reply>, sync::Reply<Outcome>),
    /// A call whose reply nobody waits for.
    Forget(CallId, Call),
    /// Open an endpoint whose messages go here.
    Open(CallId, Channel<Letter>, Box<Opened>),
    /// Look at the node between two inputs.
    Look(Box<Look<M>>),
    /// Watch the members (C45).
    WatchMembers(sync::Reply<Watch<Snapshot, MemberEvent>>),
    /// Watch the names with this prefix (C79).
    WatchNames(String, sync::Reply<Watch<Names, NameEvent>>),
    /// Watch everything.
    WatchEvents(sync::Reply<Watch<(), Event>>),
    /// Wait until the node has joined (C55).
    Joined(sync::Reply<()>),
    /// Stop the loop.
    Stop,
}

/// The users of one node.
pub(crate) struct Users {
    calls: BTreeMap<CallId, Waiting>,
    endpoints: BTreeMap<ActorId, Channel<Letter>>,
    members: Watchers<(), Snapshot, MemberEvent>,
    names: Watchers<String, Names, NameEvent>,
    events: Watchers<(), (), Event>,
    joined: bool,
    joining: Vec<sync::Reply<()>>,
}

/// Who waits for the replies to a call.
enum Waiting {
    One(sync::Reply<Reply>),
    Tracked(sync::Reply<Reply>, sync::Reply<Outcome>),
    Outcome(sync::Reply<Outcome>),
    Open(Channel<Letter>, Box<Opened>),
}

impl Users {
    /// No users yet; a watcher may fall `watch_buffer` events behind (C107).
    pub(crate) const fn new(watch_buffer: u32) -> Self {
        Self {
            calls: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            members: Watchers::new(watch_buffer),
            names: Watchers::new(watch_buffer),
            events: Watchers::new(watch_buffer),
            joined: false,
            joining: Vec::new(),
        }
    }

    /// Does what a command asks for; what the node must do for it is returned.
    pub(crate) fn obey<M: Machine>(
        &mut self,
        now: Instant,
        machine: &M,
        command: Command<M>,
    ) -> Obeyed {
        match command {
            Command::Input(input) => return Obeyed::Hand(input),
            Command::Call(call, request, reply) => {
                return self.call(call, request, Waiting::One(reply));
            }
            Command::Tracked(call, request, sent, outcome) => {
                return self.call(call, request, Waiting::Tracked(sent, outcome));
            }
            Command::Forget(call, request) => {
                if let Call::Close(actor) = &request {
                    self.endpoints.remove(actor);
                }
                return Obeyed::Hand(Input::Call { call, request });
            }
            Command::Open(call, letters, opened) => {
                return self.call(call, Call::Open, Waiting::Open(letters, opened));
            }
            Command::Stop => return Obeyed::Stop,
            Command::Look(look) => look(now, machine),
            // Late answers below: the asker has gone, and with it the wish.
            Command::WatchMembers(reply) => {
                let _ = reply.send(self.members.add((), machine.members()));
            }
            Command::WatchNames(prefix, reply) => {
                let snapshot = Names { next: 0, ..machine.names(&prefix) };
                let _ = reply.send(self.names.add(prefix, snapshot));
            }
            Command::WatchEvents(reply) => {
                let _ = reply.send(self.events.add((), ()));
            }
            Command::Joined(reply) if self.joined => {
                let _ = reply.send(());
            }
            Command::Joined(reply) => self.joining.push(reply),
        }
        Obeyed::Done
    }

    /// Gives a reply to whoever waits for it.
    pub(crate) fn reply(&mut self, call: CallId, reply: Reply) {
        match (self.calls.remove(&call), reply) {
            (Some(Waiting::Open(letters, told)), Reply::Opened(opened)) => {
                if let Ok(endpoint) = &opened {
                    self.endpoints.insert(endpoint.actor, letters);
                }
                told(opened);
            }
            (Some(Waiting::Tracked(sent, outcome)), reply) => {
                if let Reply::Sent(Ok(_)) = &reply {
                    self.calls.insert(call, Waiting::Outcome(outcome));
                }
                let _ = sent.send(reply);
            }
            (Some(Waiting::Outcome(waiting)), Reply::Outcome(outcome)) => {
                let _ = waiting.send(outcome);
            }
            (Some(Waiting::One(waiting)), reply) => {
                let _ = waiting.send(reply);
            }
            // Dropping a port tells its asker that there is no such answer.
            (Some(Waiting::Open(..) | Waiting::Outcome(_)) | None, _) => {}
        }
    }

    /// Puts a letter into an endpoint's mailbox, or says why not.
    pub(crate) fn deliver(
        &mut self,
        to: ActorId,
        delivery: Delivery,
        letter: Letter,
    ) -> Result<(), Call> {
        let not_taken = |code| Call::NotTaken { delivery, code };
        let Some(endpoint) = self.endpoints.get(&to) else {
            return Err(not_taken(BounceCode::NoActor));
        };
        match endpoint.send(letter) {
            Ok(_) => Ok(()),
            Err(SendError::Full(_) | SendError::Timeout(_)) => {
                Err(not_taken(BounceCode::MailboxFull))
            }
            Err(SendError::Closed(_)) => Err(not_taken(BounceCode::NoActor)),
        }
    }

    /// Tells an event to all who watch it.
    pub(crate) fn tell(&mut self, event: &Event) {
        match event {
            Event::Member(member) => self.members.tell(|(), _| Some(*member)),
            // Each watcher counts what it is to see: a prefix leaves no gaps (C79).
            Event::Name(name) => self.names.tell(|prefix, index| {
                let wanted = name.name.as_str().starts_with(prefix.as_str());
                wanted.then(|| NameEvent { index, ..name.clone() })
            }),
            Event::Joined => {
                self.joined = true;
                for waiting in self.joining.drain(..) {
                    let _ = waiting.send(());
                }
            }
            Event::Gap(_)
            | Event::LinkUp { .. }
            | Event::LinkDown { .. }
            | Event::Refused { .. }
            | Event::SessionRenewed(_)
            | Event::NamesLate { .. } => {}
        }
        self.events.tell(|(), _| Some(event.clone()));
    }

    /// Gives watchers that fell behind a new snapshot; the machine is drained (C45).
    pub(crate) fn resync<M: Machine>(&mut self, machine: &M) {
        if self.members.are_behind() {
            self.members.resync(|(), _| machine.members());
        }
        if self.names.are_behind() {
            self.names.resync(|prefix, next| Names { next, ..machine.names(prefix) });
        }
        if self.events.are_behind() {
            self.events.resync(|(), _| ());
        }
    }

    fn call(&mut self, call: CallId, request: Call, waiting: Waiting) -> Obeyed {
        self.calls.insert(call, waiting);
        Obeyed::Hand(Input::Call { call, request })
    }
}

/// What the loop has to do for a command.
pub(crate) enum Obeyed {
    /// Nothing.
    Done,
    /// Hand this to the machine.
    Hand(Input),
    /// Stop.
    Stop,
}
