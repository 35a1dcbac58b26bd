//! Which part's output is which part's input: a table, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::{Call, Event, Input, OpenError, Output, Reply};
use super::{Node, Phase, REJECTS_MAX, RejectStatus};
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{ActorId, Addr, CallId, Life, NodeId, Session};
use crate::cluster::registry::io::RegisterError;
use crate::cluster::swim::io::{DeadCause, MemberEvent, MemberEventKind, SyncStep};
use crate::cluster::wire::{CloseReason, Frame, MemberRow, NameDigest, SyncBody};
use crate::cluster::{links, registry, router, swim};
use crate::time::Instant;

/// One part's next input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    Links(links::io::Input),
    Swim(swim::io::Input),
    Registry(registry::io::Input),
    Router(router::io::Input),
    /// Told to watchers after every part has heard of it (C44).
    Tell(Event),
}

/// What partners of syncs said that they know, until the answer is made (C76).
pub(super) type SyncDigests = BTreeMap<NodeId, Vec<NameDigest>>;

impl Node {
    /// Turns an input of the node into its parts' inputs.
    pub(super) fn accept(&mut self, input: Input) {
        use links::io::Input as Link;
        let task = match input {
            Input::Tick => return,
            Input::Datagram(bytes) => Task::Links(Link::Datagram(bytes)),
            Input::Connected { conn, entropy } => Task::Links(Link::Connected { conn, entropy }),
            Input::DialFailed { conn } => Task::Links(Link::DialFailed { conn }),
            Input::Accepted { conn, source, entropy } => {
                Task::Links(Link::Accepted { conn, source, entropy })
            }
            Input::Bytes { conn, bytes } => Task::Links(Link::Bytes { conn, bytes }),
            Input::Wrote { conn, count } => Task::Links(Link::Wrote { conn, count }),
            Input::Closed { conn } => Task::Links(Link::Closed { conn }),
            Input::Drawn { conn, entropy } => Task::Links(Link::Drawn { conn, entropy }),
            Input::SessionStored(session) => return self.session_stored(session),
            Input::Allowed(allowed) => {
                self.allowed = Arc::clone(&allowed);
                self.tasks.push_back(Task::Links(Link::Allowed(Arc::clone(&allowed))));
                self.tell_allowed(&allowed);
                Task::Swim(swim::io::Input::Allowed(allowed))
            }
            Input::Seeds(seeds) => {
                self.tasks.push_back(Task::Links(Link::Reconfigured));
                Task::Swim(swim::io::Input::Seeds(seeds))
            }
            Input::Moved(addr) => {
                self.addr = addr;
                self.tasks.push_back(Task::Links(Link::Reconfigured));
                Task::Swim(swim::io::Input::Moved(addr))
            }
            Input::Meta(meta) => Task::Swim(swim::io::Input::Meta(meta)),
            Input::Call { call, request } => return self.call(call, request),
            Input::Limits(limits) => {
                self.config.links.reload(limits);
                assert_eq!(self.config.links.check(), Ok(()), "limits were checked (C108)");
                return self.links.reload(limits);
            }
        };
        self.tasks.push_back(task);
    }

    /// Tells whom this node trusts to the parts that are not made with it.
    pub(super) fn tell_allowed(&mut self, allowed: &Arc<Allowed>) {
        let names = registry::io::Input::Allowed(Arc::clone(allowed));
        self.tasks.push_back(Task::Registry(names));
        let routes = router::io::Input::Allowed(Arc::clone(allowed));
        self.tasks.push_back(Task::Router(routes));
    }

    fn call(&mut self, call: CallId, request: Call) {
        use registry::io::Input as Names;
        use router::io::Input as Route;
        match request {
            Call::Open => self.open(call),
            Call::Close(actor) => {
                self.tasks.push_back(Task::Registry(Names::ActorEnded(actor)));
                self.done(call, Task::Router(Route::Close(actor)));
            }
            // Names end with their actor (C72): one that ended, or never was, gets none.
            Call::Register { actor, .. } if !self.router.has_actor(actor) => {
                let reply = Reply::Registered(Err(RegisterError::NoActor));
                self.outputs.push_back(Output::Reply { call, reply });
            }
            Call::Register { name, actor, ttl, manual } => self
                .tasks
                .push_back(Task::Registry(Names::Register { call, name, actor, ttl, manual })),
            Call::Renew(name) => self.tasks.push_back(Task::Registry(Names::Renew { call, name })),
            Call::Unregister(name) => {
                self.tasks.push_back(Task::Registry(Names::Unregister { call, name }));
            }
            Call::Lookup(name) => {
                self.tasks.push_back(Task::Registry(Names::Lookup { call, name }));
            }
            Call::Send { from, to, tag, payload, tracked } => self
                .tasks
                .push_back(Task::Router(Route::Send { call, from, to, tag, payload, tracked })),
            Call::Ask { from, to, wait, tag, payload } => self
                .tasks
                .push_back(Task::Router(Route::Ask { call, from, to, wait, tag, payload })),
            Call::Cancel(cancelled) => self.done(call, Task::Router(Route::Cancel(cancelled))),
            Call::Answer { request, status, tag, payload } => {
                self.done(call, Task::Router(Route::Answer { request, status, tag, payload }));
            }
            Call::NotTaken { delivery, code } => {
                self.done(call, Task::Router(Route::NotTaken { delivery, code }));
            }
            Call::Leave => self.leave(call),
        }
    }

    fn open(&mut self, call: CallId) {
        let opened = if self.router.has_room() {
            self.last_actor += 1;
            let actor = ActorId(self.last_actor);
            self.tasks.push_back(Task::Router(router::io::Input::Open(actor)));
            Ok(self.local_ref(actor))
        } else {
            Err(OpenError::Full)
        };
        self.outputs.push_back(Output::Reply { call, reply: Reply::Opened(opened) });
    }

    fn done(&mut self, call: CallId, task: Task) {
        self.tasks.push_back(task);
        self.outputs.push_back(Output::Reply { call, reply: Reply::Done });
    }

    fn leave(&mut self, call: CallId) {
        match &mut self.phase {
            Phase::Left => self.outputs.push_back(Output::Reply { call, reply: Reply::Left }),
            Phase::Leaving(calls) => calls.push(call),
            Phase::Running => {
                self.phase = Phase::Leaving(vec![call]);
                self.tasks.push_back(Task::Links(links::io::Input::Drain));
                self.tasks.push_back(Task::Registry(registry::io::Input::Leave));
                self.tasks.push_back(Task::Router(router::io::Input::Leave));
                self.tasks.push_back(Task::Swim(swim::io::Input::Leave));
            }
        }
    }

    fn session_stored(&mut self, session: Session) {
        if self.identity.session() != session || self.session == session {
            return; // A later jump overtook this one.
        }
        self.session = session;
        let life = Life::first_of(session);
        self.tasks.push_back(Task::Links(links::io::Input::Renewed(life)));
        self.tasks.push_back(Task::Router(router::io::Input::Renewed(session)));
        self.tasks.push_back(Task::Swim(swim::io::Input::Renewed(session)));
        self.tasks.push_back(Task::Registry(registry::io::Input::Renewed(session)));
        self.tasks.push_back(Task::Tell(Event::SessionRenewed(session)));
    }

    /// Hands one task to its part, and takes what the part gives.
    pub(super) fn carry_out(&mut self, now: Instant, task: Task) {
        match task {
            Task::Links(input) => self.links.handle(now, input),
            Task::Swim(input) => self.swim.handle(now, input),
            Task::Registry(input) => self.registry.handle(now, input),
            Task::Router(input) => self.router.handle(now, input),
            Task::Tell(event) => {
                let members = matches!(event, Event::Member(_));
                self.event(event);
                if members {
                    self.judge_ttl();
                }
            }
        }
        self.take_outputs(now);
    }

    /// Makes tasks of what the parts gave.
    pub(super) fn take_outputs(&mut self, now: Instant) {
        while let Some(output) = self.links.poll() {
            self.after_links(now, output);
        }
        while let Some(output) = self.swim.poll() {
            self.after_swim(now, output);
        }
        while let Some(output) = self.registry.poll() {
            self.after_registry(output);
        }
        while let Some(output) = self.router.poll() {
            self.after_router(output);
        }
    }

    fn after_links(&mut self, now: Instant, output: links::io::Output) {
        use links::io::Output as Link;
        match output {
            Link::Dial { conn, addr } => self.outputs.push_back(Output::Dial { conn, addr }),
            Link::Write { conn, bytes } => self.outputs.push_back(Output::Write { conn, bytes }),
            Link::Close { conn } => self.outputs.push_back(Output::Close { conn }),
            Link::Draw { conn } => self.outputs.push_back(Output::Draw { conn }),
            Link::Datagram { to, bytes } => {
                self.outputs.push_back(Output::Datagram { to, bytes });
            }
            Link::LinkUp { peer, hello, seed, fresh } => {
                // The router hears of the same link again as the answer to its Dial.
                self.tasks.push_back(Task::Router(router::io::Input::LinkUp { peer, hello }));
                if fresh {
                    self.event(Event::LinkUp { peer });
                }
                let (life, addr) = (hello.life, hello.addr);
                self.tasks.push_back(Task::Swim(swim::io::Input::LinkUp {
                    peer,
                    life,
                    addr,
                    seed,
                }));
            }
            Link::LinkDown { peer, reason } => {
                self.tasks.push_back(Task::Router(router::io::Input::LinkDown { peer, reason }));
                self.tasks.push_back(Task::Swim(swim::io::Input::LinkDown { peer }));
                self.event(Event::LinkDown { peer, reason });
            }
            Link::Unreachable { peer, seed, code: _ } => {
                if let Some(peer) = peer {
                    self.tasks.push_back(Task::Router(router::io::Input::Unreachable { peer }));
                }
                self.tasks.push_back(Task::Swim(swim::io::Input::Unreachable { peer, seed }));
            }
            Link::Rejected { peer, code: _ } => {
                self.tasks.push_back(Task::Swim(swim::io::Input::Rejected { peer }));
            }
            Link::SessionBehind { above } => self.session_behind(now, above),
            Link::Message { from, lane, message } => {
                self.tasks.push_back(Task::Swim(swim::io::Input::Received { from, lane, message }));
            }
            Link::Frame { from, frame } => self.frame(from, frame),
            Link::Written { to, number } => {
                self.tasks.push_back(Task::Router(router::io::Input::Written { to, number }));
            }
            Link::NotTaken { to, number } => {
                self.tasks.push_back(Task::Router(router::io::Input::NotQueued { to, number }));
            }
            Link::Refused { source, peer, code, inbound } => {
                if self.rejects.len() == REJECTS_MAX {
                    self.rejects.pop_front();
                }
                self.rejects.push_back((now, RejectStatus { source, peer, code, inbound }));
                self.event(Event::Refused { source, peer, code, inbound });
            }
        }
    }

    fn frame(&mut self, from: NodeId, frame: Frame) {
        match frame {
            // The links hand these over as messages.
            Frame::Swim(_) => unreachable!("membership messages do not come as frames"),
            Frame::Sync1(body) => self.synced(from, SyncStep::First, body, Vec::new()),
            Frame::Sync2(body, names) => self.synced(from, SyncStep::Second, body, names),
            Frame::Sync3(names) => {
                self.synced(from, SyncStep::Third, SyncBody::default(), names);
            }
            Frame::User(frame) => {
                self.tasks.push_back(Task::Router(router::io::Input::Frame { from, frame }));
            }
            Frame::NameQuery { query, name } => {
                let input = registry::io::Input::Query { from, query, name };
                self.tasks.push_back(Task::Registry(input));
            }
            Frame::NameReply { query, entry } => {
                let input = registry::io::Input::QueryReply { from, query, entry };
                self.tasks.push_back(Task::Registry(input));
            }
        }
    }

    /// Names first: an answer is made from a table that has merged what came (C54).
    fn synced(
        &mut self,
        from: NodeId,
        step: SyncStep,
        body: SyncBody,
        entries: Vec<crate::cluster::wire::NameEntry>,
    ) {
        let SyncBody { rows, digests } = body;
        self.sync_digests.insert(from, digests.clone());
        let names = registry::io::Input::Synced { from, step, digests, entries };
        self.tasks.push_back(Task::Registry(names));
        self.tasks.push_back(Task::Swim(swim::io::Input::Sync { from, step, rows }));
    }

    fn after_swim(&mut self, now: Instant, output: swim::io::Output) {
        use swim::io::Output as Member;
        let task = match output {
            Member::Send { to, addr, lane, message } => {
                Task::Links(links::io::Input::Message { to, addr, lane, message })
            }
            Member::Want { peer, addr } => Task::Links(links::io::Input::Want { peer, addr }),
            Member::Dial { peer, addr } => Task::Links(links::io::Input::Dial { peer, addr }),
            Member::DialSeed { seed } => Task::Links(links::io::Input::DialSeed { seed }),
            Member::Sync { to, step, rows } => {
                let frame = self.sync_frame(now, to, step, rows);
                let (addr, process) = (self.addr_of(to), None);
                Task::Links(links::io::Input::Frame { to, addr, process, frame })
            }
            Member::Event(event) => return self.member_event(event),
            Member::Known { node: peer, session } => {
                let known = router::io::Input::Known { peer, session };
                self.tasks.push_back(Task::Router(known));
                Task::Links(links::io::Input::SessionKnown { peer, session })
            }
            Member::Name { from, entry } => {
                Task::Registry(registry::io::Input::Entry { from, entry })
            }
            Member::SessionBehind { above } => return self.session_behind(now, above),
            Member::UsedUp => return self.burn(),
            Member::SelfChanged { life, addr } => {
                Task::Links(links::io::Input::SelfChanged { life, addr })
            }
            Member::Joined => Task::Tell(Event::Joined),
            Member::Departed => return self.departed(),
        };
        self.tasks.push_back(task);
    }

    fn sync_frame(
        &mut self,
        now: Instant,
        to: NodeId,
        step: SyncStep,
        rows: Vec<MemberRow>,
    ) -> Frame {
        let theirs = self.sync_digests.remove(&to).unwrap_or_default();
        let body = |digests| SyncBody { rows, digests };
        match step {
            SyncStep::First => Frame::Sync1(body(self.registry.digests(now, to))),
            SyncStep::Second => {
                let delta = self.registry.delta(now, &theirs);
                Frame::Sync2(body(self.registry.digests(now, to)), delta)
            }
            SyncStep::Third => Frame::Sync3(self.registry.delta(now, &theirs)),
        }
    }

    /// Links, registry, asks, watchers: in this order (C44).
    fn member_event(&mut self, event: MemberEvent) {
        let (peer, session) = (event.node, event.life.session);
        let current = self
            .links
            .link(peer)
            .map(|link| link.hello().life.session)
            .is_some_and(|linked| linked <= session);
        let disconnect = |reason| Task::Links(links::io::Input::Disconnect { peer, reason });
        match event.kind {
            MemberEventKind::Dead(DeadCause::Timeout | DeadCause::Told) if current => {
                self.tasks.push_back(disconnect(CloseReason::MemberDead));
            }
            MemberEventKind::Left if current => {
                self.tasks.push_back(disconnect(CloseReason::MemberLeft));
            }
            MemberEventKind::Dead(DeadCause::Revoked) => {
                self.tasks.push_back(disconnect(CloseReason::Revoked));
            }
            MemberEventKind::Join
            | MemberEventKind::Suspect
            | MemberEventKind::Alive
            | MemberEventKind::Changed => {
                let known = links::io::Input::SessionKnown { peer, session };
                self.tasks.push_back(Task::Links(known));
            }
            // A newer link or none: what was there is gone already, or goes by the Join's session.
            MemberEventKind::Dead(DeadCause::Timeout | DeadCause::Told | DeadCause::Restarted)
            | MemberEventKind::Left => {}
        }
        self.tasks.push_back(Task::Registry(registry::io::Input::Member(event)));
        self.tasks.push_back(Task::Router(router::io::Input::Member(event)));
        self.tasks.push_back(Task::Tell(Event::Member(event)));
    }

    fn departed(&mut self) {
        self.tasks.push_back(Task::Links(links::io::Input::CloseAll(CloseReason::Shutdown)));
        if let Phase::Leaving(calls) = std::mem::replace(&mut self.phase, Phase::Left) {
            for call in calls {
                self.outputs.push_back(Output::Reply { call, reply: Reply::Left });
            }
        }
    }

    fn addr_of(&self, node: NodeId) -> Option<Addr> {
        self.swim.member(node).and_then(|member| member.addr)
    }

    fn after_registry(&mut self, output: registry::io::Output) {
        use registry::io::Output as Names;
        let frame = |to, addr, frame| {
            Task::Links(links::io::Input::Frame { to, addr, process: None, frame })
        };
        match output {
            Names::Gossip(entry) => {
                self.tasks.push_back(Task::Swim(swim::io::Input::Gossip(entry)));
            }
            Names::Query { to, query, name } => {
                let addr = self.addr_of(to);
                self.tasks.push_back(frame(to, addr, Frame::NameQuery { query, name }));
            }
            Names::QueryReply { to, query, entry } => {
                let addr = self.addr_of(to);
                self.tasks.push_back(frame(to, addr, Frame::NameReply { query, entry }));
            }
            Names::Registered { call, result } => {
                self.outputs.push_back(Output::Reply { call, reply: Reply::Registered(result) });
            }
            Names::Found { call, found } => {
                self.outputs.push_back(Output::Reply { call, reply: Reply::Found(found) });
            }
            Names::Event(event) => self.event(Event::Name(event)),
        }
    }

    fn after_router(&mut self, output: router::io::Output) {
        use router::io::Output as Route;
        match output {
            Route::Want { peer, addr } => {
                self.tasks.push_back(Task::Links(links::io::Input::Want { peer, addr }));
            }
            Route::Frame { to, process, addr, frame } => {
                let (process, frame) = (Some(process), Frame::User(frame));
                let input = links::io::Input::Frame { to, addr, process, frame };
                self.tasks.push_back(Task::Links(input));
            }
            Route::Deliver { to, from, delivery, request, tag, payload } => self
                .outputs
                .push_back(Output::Deliver { to, from, delivery, request, tag, payload }),
            Route::Sent { call, result } => {
                self.outputs.push_back(Output::Reply { call, reply: Reply::Sent(result) });
            }
            Route::Outcome { call, outcome } => {
                self.outputs.push_back(Output::Reply { call, reply: Reply::Outcome(outcome) });
            }
            Route::Asked { call, result } => {
                self.outputs.push_back(Output::Reply { call, reply: Reply::Asked(result) });
            }
            Route::Gap(gap) => self.event(Event::Gap(gap)),
        }
    }
}
