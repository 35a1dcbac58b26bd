//! Goal: the loop carries everything, in the order that C53 and fairness ask for.
//! Method: a machine that follows a script and notes what it is told, in a world made of queues.

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};

use machines::Instant;
use machines::cluster::ids::{ActorId, CallId, Conn, NodeId, Ref, Session};
use machines::cluster::registry::io::{NameEvent, NameEventKind};
use machines::cluster::router::io::{Delivery, Outcome, SendError};
use machines::cluster::swim::Snapshot;
use machines::cluster::wire::BounceCode;
use machines::kernel::Time;
use machines::node::io::{Call, Event, Input, OpenError, Output, Reply, StopReason};

use super::*;
use crate::handle::{Gone, Handle, handle};
use crate::machine::Names;
use crate::ports::{Fault, Files, Task, TaskId, Told};
use crate::watch::Watched;

#[test]
fn datagrams_that_were_there_come_before_the_timer_that_is_late() {
    let mut stage = Stage::new();
    stage.machine.deadline = at(100);
    stage.network.ready = (0..3).map(|n| vec![n]).collect();

    let notes = stage.play_asleep_until(900);

    for (n, note) in (0..3).zip(&notes) {
        assert_eq!(note, &(at(900), datagram(n)));
    }
    assert_eq!(notes[3], (at(900), Input::Tick));
}

/// C53: after a pause in the wait, what was readable goes before the call that ends the wait.
#[test]
fn datagrams_that_were_there_come_before_a_call_after_the_deadline() {
    let mut stage = Stage::new();
    stage.machine.deadline = at(100);
    let node = stage.handle.clone();
    stage.network.ready = (0..3).map(|n| vec![n]).collect();
    let mut run = Box::pin(stage.start());
    assert!(turn(&mut run).is_none(), "nobody stopped the node");
    stage.clock.set(900);
    node.tell(Input::Seeds(Vec::new())).unwrap();
    assert!(turn(&mut run).is_none(), "nobody stopped the node");

    let inputs: Vec<Input> = stage.notes.try_iter().map(|(_, input)| input).collect();
    assert_eq!(inputs, [datagram(0), datagram(1), datagram(2), Input::Seeds(Vec::new())]);
}

/// C27: a node that stops at a timer does not act on until something else happens.
#[test]
fn a_stop_at_a_timer_ends_the_run_at_once() {
    let mut stage = Stage::new();
    stage.machine.deadline = at(0);
    stage.machine.on_first = vec![Output::Stop(StopReason::KeyInUse)];

    let (_, ended) = stage.play_to_end();

    let ended = ended.expect("the run ends").expect("nothing failed");
    assert_eq!(ended, Ended::Stopped(StopReason::KeyInUse));
}

#[test]
fn a_flood_of_datagrams_holds_a_timer_back_only_so_long() {
    let mut stage = Stage::new();
    stage.machine.deadline = at(100);
    stage.network.ready = (0..2_000).map(|_| vec![7]).collect();

    let notes = stage.play_asleep_until(900);

    let tick = notes.iter().position(|(_, input)| *input == Input::Tick);
    assert_eq!(tick, Some(1_024));
}

#[test]
fn a_busy_network_does_not_keep_a_timer_waiting() {
    let mut stage = Stage::new();
    stage.machine.deadline = at(100);
    stage.network.happened = (0..50).map(|n| Happened::Datagram(vec![n])).collect();
    stage.clock.set(900);

    let notes = stage.play();

    assert_eq!(notes[0], (at(900), Input::Tick));
    assert_eq!(notes.len(), 51);
}

#[test]
fn users_are_heard_while_the_network_never_rests() {
    let mut stage = Stage::new();
    stage.network.happened = (0..100).map(|n| Happened::Datagram(vec![n])).collect();
    let node = stage.handle.clone();
    for _ in 0..10 {
        node.tell(Input::Seeds(Vec::new())).unwrap();
    }

    let notes = stage.play();

    let last = notes.iter().rposition(|(_, input)| *input == Input::Seeds(Vec::new()));
    assert!(last < Some(21), "the tenth wish came at place {last:?}");
    assert_eq!(notes.len(), 110);
}

#[test]
fn a_session_that_cannot_be_stored_ends_the_run() {
    let mut stage = Stage::new();
    stage.machine.on_first =
        vec![Output::StoreSession { session: Session(9), offset: 16, bytes: [1; 16] }];
    stage.network.happened.push_back(Happened::Datagram(vec![1]));
    stage.disk_fails = true;

    let (_, ended) = stage.play_to_end();

    let failed = ended.expect("the run ends").expect_err("the disk failed");
    assert!(matches!(failed, RunError::Disk { session: Session(9), .. }));
}

#[test]
fn a_stored_session_is_told_to_the_node() {
    let mut stage = Stage::new();
    stage.machine.on_first =
        vec![Output::StoreSession { session: Session(9), offset: 16, bytes: [1; 16] }];
    stage.network.happened.push_back(Happened::Datagram(vec![1]));

    let notes = stage.play();

    assert_eq!(notes[1].1, Input::SessionStored(Session(9)));
}

#[test]
fn a_node_that_stops_ends_the_run_after_what_it_had_to_write() {
    let mut stage = Stage::new();
    stage.machine.on_first = vec![
        Output::Stop(StopReason::KeyInUse),
        Output::Datagram {
            to: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7),
            bytes: vec![3],
        },
    ];
    stage.network.happened.push_back(Happened::Datagram(vec![1]));
    let sent = stage.sent.take().expect("nobody took it before");

    let (_, ended) = stage.play_to_end();

    let ended = ended.expect("the run ends").expect("nothing failed");
    assert_eq!(ended, Ended::Stopped(StopReason::KeyInUse));
    assert_eq!(sent.try_iter().collect::<Vec<_>>(), vec![vec![3]]);
}

#[test]
fn entropy_comes_with_each_connection_and_is_never_the_same() {
    let mut stage = Stage::new();
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for conn in [Conn(1), Conn(3)] {
        stage.network.happened.push_back(Happened::Accepted { conn, source });
    }

    let notes = stage.play();

    let drawn: Vec<_> = notes
        .into_iter()
        .map(|(_, input)| {
            let Input::Accepted { entropy, .. } = input else {
                panic!("not a connection: {input:?}");
            };
            entropy
        })
        .collect();
    assert_ne!(drawn[0], drawn[1]);
}

#[test]
fn a_tracked_send_has_a_number_and_then_an_outcome() {
    let mut stage = Stage::new();
    stage.machine.answers = vec![Reply::Sent(Ok(5)), Reply::Outcome(Outcome::Delivered)];
    let node = stage.handle.clone();

    let outcome = stage.play_with(async move {
        let tracked = node.send_tracked(somewhere(), 1, vec![]).await??;
        assert_eq!(tracked.number, 5);
        Ok::<_, Refusal>(tracked.outcome().await?)
    });

    assert_eq!(outcome, Some(Ok(Outcome::Delivered)));
}

#[test]
fn a_refused_send_has_no_outcome() {
    let mut stage = Stage::new();
    stage.machine.answers = vec![Reply::Sent(Err(SendError::NoRoute))];
    let node = stage.handle.clone();

    let refused = stage.play_with(async move {
        node.send_tracked(somewhere(), 1, vec![])
            .await
            .map(|sent| sent.map(|tracked| tracked.number))
    });

    assert_eq!(refused, Some(Ok(Err(SendError::NoRoute))));
}

#[test]
fn an_ask_that_is_dropped_is_cancelled() {
    let stage = Stage::new();
    let node = stage.handle.clone();
    let wait = std::time::Duration::from_secs(1);
    {
        let mut ask = pin!(node.ask(somewhere(), wait, 1, vec![]));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(ask.as_mut().poll(&mut cx).is_pending());
    }

    let notes = stage.play();

    let calls: Vec<_> = notes
        .iter()
        .map(|(_, input)| {
            let Input::Call { call, request } = input else {
                panic!("not a call: {input:?}");
            };
            (*call, request.clone())
        })
        .collect();
    assert!(matches!(calls[0], (CallId(1), Call::Ask { .. })));
    assert_eq!(calls[1].1, Call::Cancel(CallId(1)));
}

/// C10: an actor that nobody waits for any more is closed, or its address would be taken for ever.
#[test]
fn an_endpoint_whose_opening_was_given_up_is_closed() {
    let opened = somewhere();
    // Given up before the loop saw the wish, and while the answer lay there unread.
    for polls in [0, 1] {
        let mut stage = Stage::new();
        stage.machine.answers = vec![Reply::Opened(Ok(opened))];
        let node = stage.handle.clone();
        let mut run = Box::pin(stage.start());
        let mut open = Box::pin(node.open(4));
        assert!(turn(&mut open).is_none(), "the loop has not seen it");
        for _ in 0..polls {
            assert!(turn(&mut run).is_none(), "nobody stopped the node");
        }
        drop(open);
        assert!(turn(&mut run).is_none(), "nobody stopped the node");
        let calls: Vec<Input> = stage.notes.try_iter().map(|(_, input)| input).collect();
        let close = Call::Close(opened.actor);
        let closed =
            |input: &&Input| matches!(input, Input::Call { request, .. } if *request == close);
        assert_eq!(calls.iter().filter(closed).count(), 1, "{polls}: {calls:?}");
    }
}

/// C79: a watcher's index has no gaps, whatever its prefix leaves out.
#[test]
fn the_index_of_a_watcher_of_names_has_no_gaps() {
    let mut stage = Stage::new();
    let node = stage.handle.clone();
    let name = |text: &str| machines::cluster::wire::Name::new(text).unwrap();
    let event = |index, text| {
        let kind = NameEventKind::Registered;
        Output::Event(Event::Name(NameEvent { index, name: name(text), holder: somewhere(), kind }))
    };
    stage.machine.answers = vec![Reply::Found(None)];
    let told = ["b/1", "a/1", "b/2", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7", "a/8", "a/9"];
    stage.machine.after_answers =
        (40..).zip(told).map(|(index, text)| event(index, text)).collect();

    let seen = stage.play_with(async move {
        let mut watch = node.watch_names("a/").await?;
        node.lookup(name("clock")).await?;
        let mut seen = Vec::new();
        for turn in 0..9 {
            if turn == 8 {
                node.tell(Input::Seeds(Vec::new()))?; // Whatever happens next.
            }
            seen.push(match watch.next().await {
                Some(Watched::Snapshot(names)) => ("snapshot", names.next),
                Some(Watched::Event(event)) => ("event", event.index),
                Some(Watched::Lagged { missed, snapshot }) => {
                    assert_eq!(missed, 2, "a buffer of eight holds the snapshot and seven events");
                    ("lagged", snapshot.next)
                }
                None => ("end", 0),
            });
        }
        Ok::<_, Gone>(seen)
    });

    let events = (0..7).map(|index| ("event", index));
    let expected: Vec<_> =
        [("snapshot", 0)].into_iter().chain(events).chain([("lagged", 9)]).collect();
    assert_eq!(seen, Some(Ok(expected)));
}

#[test]
fn an_endpoint_that_is_refused_is_told_and_gets_no_letters() {
    let mut stage = Stage::new();
    stage.machine.answers = vec![Reply::Opened(Err(OpenError::Full))];
    stage.machine.after_answers = vec![letter(4, 1)];
    let node = stage.handle.clone();
    let refused = stage.play_with(async move {
        let refused = node.open(1).await?.err();
        Ok::<_, Gone>(refused)
    });
    assert_eq!(refused, Some(Ok(Some(OpenError::Full))));
    let bounced = stage.notes.try_iter().any(|(_, input)| {
        let no_actor = |code| code == BounceCode::NoActor;
        matches!(input, Input::Call { request: Call::NotTaken { code, .. }, .. } if no_actor(code))
    });
    assert!(bounced);
}

#[test]
fn a_letter_to_a_full_mailbox_is_bounced_and_the_first_one_is_read() {
    let mut stage = Stage::new();
    let here = Ref { actor: ActorId(4), ..somewhere() };
    stage.machine.answers = vec![Reply::Opened(Ok(here))];
    stage.machine.after_answers = vec![letter(4, 1), letter(4, 2), letter(5, 3)];
    let node = stage.handle.clone();

    let read = stage.play_with(async move {
        let mut endpoint = node.open(1).await?.expect("the stage opens");
        Ok::<_, Gone>(endpoint.receive().await.map(|letter| letter.tag))
    });

    assert_eq!(read, Some(Ok(Some(1))));
    let bounced: Vec<_> = stage
        .notes
        .try_iter()
        .filter_map(|(_, input)| {
            let Input::Call { request, .. } = input else {
                return None;
            };
            let Call::NotTaken { delivery, code } = request else {
                return None;
            };
            Some((delivery.number, code))
        })
        .collect();
    assert_eq!(bounced, vec![(2, BounceCode::MailboxFull), (3, BounceCode::NoActor)]);
}

#[test]
fn whoever_waits_for_joining_hears_of_it_before_or_after() {
    let mut stage = Stage::new();
    stage.machine.on_first = vec![Output::Event(Event::Joined)];
    stage.network.happened.push_back(Happened::Datagram(vec![1]));
    let node = stage.handle.clone();

    let joined = stage.play_with(async move {
        node.joined().await?;
        node.joined().await
    });

    assert_eq!(joined, Some(Ok(())));
}

/// C45: the snapshot first, then every event.
#[test]
fn a_watcher_sees_events_in_order_after_its_snapshot() {
    let mut stage = Stage::new();
    let node = stage.handle.clone();
    let peer = NodeId::from_bytes([1; 16]);
    stage.machine.answers = vec![Reply::Found(None)];
    stage.machine.after_answers = vec![
        Output::Event(Event::LinkUp { peer }),
        Output::Event(Event::SessionRenewed(Session(2))),
    ];

    let seen = stage.play_with(async move {
        let mut watch = node.watch_events().await?;
        let name = machines::cluster::wire::Name::new("clock").unwrap();
        node.lookup(name).await?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(watch.next().await);
        }
        Ok::<_, Gone>(seen)
    });

    let expected = vec![
        Some(Watched::Snapshot(())),
        Some(Watched::Event(Event::LinkUp { peer })),
        Some(Watched::Event(Event::SessionRenewed(Session(2)))),
    ];
    assert_eq!(seen, Some(Ok(expected)));
}

#[test]
fn the_run_ends_when_the_last_handle_is_dropped_and_calls_after_it_are_gone() {
    let stage = Stage::new();
    let Stage { handle: node, .. } = &stage;
    let other = node.clone();
    let (_, ended) = stage.play_to_end();
    assert_eq!(ended.expect("the run ends").expect("nothing failed"), Ended::Asked);

    let mut cx = Context::from_waker(Waker::noop());
    let joined = pin!(other.joined()).poll(&mut cx);
    assert_eq!(joined, Poll::Ready(Err(Gone)));
}

/// Why a tracked send gave nothing.
#[derive(Debug, PartialEq)]
enum Refusal {
    Gone,
    Refused(SendError),
}

impl From<Gone> for Refusal {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        Self::Refused(error)
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn datagram(byte: u8) -> Input {
    Input::Datagram(vec![byte])
}

fn somewhere() -> Ref {
    Ref { node: NodeId::from_bytes([9; 16]), session: Session(1), actor: ActorId(1) }
}

fn letter(to: u64, number: u64) -> Output {
    Output::Deliver {
        to: ActorId(to),
        from: somewhere(),
        delivery: Delivery { node: somewhere().node, number },
        request: None,
        tag: u32::try_from(number).unwrap(),
        payload: vec![],
    }
}

/// A machine that notes what it is told, and says what it was told to say.
struct Script {
    notes: Sender<(Instant, Input)>,
    deadline: Instant,
    /// Said after the first input.
    on_first: Vec<Output>,
    /// Said as replies to the first call.
    answers: Vec<Reply>,
    /// Said after the replies.
    after_answers: Vec<Output>,
    outputs: VecDeque<Output>,
}

impl Machine for Script {
    fn handle(&mut self, now: Instant, input: Input) {
        assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        if self.deadline <= now {
            self.deadline = Instant::FAR;
        }
        self.outputs.extend(self.on_first.drain(..));
        if let Input::Call { call, .. } = &input {
            let call = *call;
            let replies = self.answers.drain(..);
            self.outputs.extend(replies.map(|reply| Output::Reply { call, reply }));
            self.outputs.extend(self.after_answers.drain(..));
        }
        // The test may have ended.
        let _ = self.notes.send((now, input));
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn members(&self) -> Snapshot {
        Snapshot { index: 0, members: Vec::new() }
    }

    fn names(&self, _: &str) -> Names {
        Names { next: 0, rows: Vec::new() }
    }
}

/// A clock that stands where the test put it.
#[derive(Clone)]
struct Still(Arc<AtomicU64>);

impl Still {
    fn set(&self, millis: u64) {
        // Relaxed: tests have one thread.
        self.0.store(millis, Relaxed);
    }
}

impl Clock for Still {
    fn now(&self) -> Instant {
        at(self.0.load(Relaxed))
    }

    fn wall(&self) -> Time {
        Time::from_millis(self.0.load(Relaxed))
    }

    async fn sleep_until(&self, due: Instant) {
        poll_fn(|_| match due <= self.now() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

/// A network that brings what the test put there.
struct Queue {
    happened: VecDeque<Happened>,
    ready: VecDeque<Vec<u8>>,
    sent: Sender<Vec<u8>>,
}

impl Network for Queue {
    async fn next(&mut self) -> io::Result<Happened> {
        match self.happened.pop_front() {
            Some(happened) => Ok(happened),
            None => pending().await,
        }
    }

    fn ready(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    fn datagram(&mut self, _: SocketAddr, bytes: Vec<u8>) {
        // The test may not look.
        let _ = self.sent.send(bytes);
    }

    fn dial(&mut self, _: Conn, _: SocketAddr) {}
    fn write(&mut self, _: Conn, _: Vec<u8>) {}
    fn close(&mut self, _: Conn) {}
    async fn finish(&mut self) {}
}

/// A disk without bytes, that works or does not.
struct Paper {
    fails: bool,
    writes: u32,
}

impl Disk for Paper {
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn write(&mut self, _: u64, _: Vec<u8>) {
        self.writes += 1;
    }

    async fn written(&mut self) -> io::Result<()> {
        if self.writes == 0 {
            pending().await
        }
        self.writes -= 1;
        match self.fails {
            true => Err(io::Error::other("the disk is gone")),
            false => Ok(()),
        }
    }
}

/// Files that nobody uses: no machine here has a ledger.
struct Nowhere;

impl Files for Nowhere {
    fn submit(&mut self, id: TaskId, task: Task) {
        panic!("{id:?} is submitted: {task:?}");
    }

    async fn ended(&mut self) -> (TaskId, Result<Told, Fault>) {
        pending().await
    }
}

/// Entropy that counts.
struct Count(u8);

impl Entropy for Count {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.fill(self.0);
    }
}

struct Tests;

impl Env for Tests {
    type Clock = Still;
    type Network = Queue;
    type Disk = Paper;
    type Files = Nowhere;
    type Entropy = Count;
}

/// What the machine was told, and when.
type Notes = Vec<(Instant, Input)>;

struct Stage {
    clock: Still,
    network: Queue,
    disk_fails: bool,
    machine: Script,
    handle: Handle<Script>,
    commands: Option<Commands<Script>>,
    notes: Receiver<(Instant, Input)>,
    sent: Option<Receiver<Vec<u8>>>,
}

impl Stage {
    fn new() -> Self {
        let (note, notes) = channel();
        let (send, sent) = channel();
        let (handle, commands) = handle(NodeId::from_bytes([9; 16]));
        Self {
            clock: Still(Arc::new(AtomicU64::new(0))),
            network: Queue { happened: VecDeque::new(), ready: VecDeque::new(), sent: send },
            disk_fails: false,
            machine: Script {
                notes: note,
                deadline: Instant::FAR,
                on_first: Vec::new(),
                answers: Vec::new(),
                after_answers: Vec::new(),
                outputs: VecDeque::new(),
            },
            handle,
            commands: Some(commands),
            notes,
            sent: Some(sent),
        }
    }

    /// Runs until nothing more happens, and returns what the machine was told.
    fn play(mut self) -> Notes {
        self.play_with(pending::<()>());
        self.notes.try_iter().collect()
    }

    /// As [`Stage::play`], with a process that does not run between 0 and `millis`.
    fn play_asleep_until(mut self, millis: u64) -> Notes {
        let mut run = Box::pin(self.start());
        assert!(turn(&mut run).is_none(), "nobody stopped the node");
        self.clock.set(millis);
        assert!(turn(&mut run).is_none(), "nobody stopped the node");
        self.notes.try_iter().collect()
    }

    /// As [`Stage::play`], and stops the node in the end.
    fn play_to_end(mut self) -> (Notes, Option<Result<Ended, RunError>>) {
        let mut run = Box::pin(self.start());
        let mut ended = turn(&mut run);
        if ended.is_none() {
            self.handle.stop().unwrap();
            ended = turn(&mut run);
        }
        drop(run);
        (self.notes.try_iter().collect(), ended)
    }

    /// Runs node and user until neither gets further.
    fn play_with<T>(&mut self, user: impl Future<Output = T>) -> Option<T> {
        let mut run = Box::pin(self.start());
        let mut user = Box::pin(user);
        for _ in 0..20 {
            assert!(turn(&mut run).is_none(), "nobody stopped the node");
            if let Some(done) = turn(&mut user) {
                turn(&mut run);
                return Some(done);
            }
        }
        None
    }

    fn start(&mut self) -> impl Future<Output = Result<Ended, RunError>> + use<> {
        let (send, _) = channel();
        let (note, _) = channel();
        let empty_network = Queue { happened: VecDeque::new(), ready: VecDeque::new(), sent: send };
        let empty_machine = Script {
            notes: note,
            deadline: Instant::FAR,
            on_first: Vec::new(),
            answers: Vec::new(),
            after_answers: Vec::new(),
            outputs: VecDeque::new(),
        };
        let world = World::<Tests> {
            clock: self.clock.clone(),
            network: std::mem::replace(&mut self.network, empty_network),
            disk: Paper { fails: self.disk_fails, writes: 0 },
            entropy: Count(0),
        };
        let machine = std::mem::replace(&mut self.machine, empty_machine);
        let commands = self.commands.take().expect("a stage plays once");
        run(world, machine, commands, 8, |_, _| {})
    }
}

/// Polls until the future would sleep.
fn turn<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(poll_fn(|cx| pin!(&mut *future).poll(cx))).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
