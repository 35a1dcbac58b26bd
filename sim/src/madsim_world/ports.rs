//! The ports of a node in madsim's world: its time, its network, a file, a seed's randomness.

use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::Conn;
use machines::kernel::Time;
use machines::ledger::journal::io::DiskError;
use machines::ledger::recovery::io::Listed;
use machines::time::nanos;
use madsim::net::{TcpListener, TcpStream, UdpSocket};
use madsim::task::spawn_local;
use madsim::time::TimeHandle;
use runtime::{
    Clock, Disk, Entropy, Env, Fault, Files, Happened, LedgerFile, Network, Task, TaskId,
    Told as FilesTold,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};

use crate::decorators::{Faulty, Flaky, Skewed};

/// Datagrams that a socket holds for a node, or for the wire; more are dropped.
const SOCKET_ITEMS: usize = 1_024;
/// Events of streams that wait for a node; then streams are no longer read.
const EVENT_ITEMS: usize = 64;
/// Bytes read from a stream at a time.
const READ_BYTES: usize = 16 << 10;
/// A write and its sync take so long: a node killed meanwhile has not written.
const SYNC: Duration = Duration::from_millis(3);
/// Closed streams are given so long to write what is left.
const LINGER: Duration = Duration::from_secs(1);

/// madsim's world, with the faults that madsim has not (T62).
#[derive(Debug)]
pub(super) enum Simulated {}

impl Env for Simulated {
    type Clock = Skewed<VirtualClock>;
    type Network = Flaky<Sockets>;
    type Disk = Faulty<File>;
    type Files = Shelf;
    type Entropy = Drawn;
}

/// The virtual time since the run began.
#[derive(Clone, Debug, Default)]
pub(super) struct VirtualClock;

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        Instant::START + TimeHandle::current().elapsed()
    }

    fn wall(&self) -> Time {
        let millis = TimeHandle::current().elapsed().as_millis();
        Time::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    async fn sleep_until(&self, at: Instant) {
        if at == Instant::FAR {
            return pending().await;
        }
        // A sleep of madsim takes a millisecond at least.
        if self.now() < at {
            madsim::time::sleep(at.since(self.now())).await;
        }
    }
}

/// One UDP socket and one TCP listener at the same port.
///
/// Each socket and stream has a task of its own that lives as long as the node does: madsim's
/// receive is not cancel safe, and its send takes time.
#[derive(Debug)]
pub(super) struct Sockets {
    arriving: Receiver<Vec<u8>>,
    leaving: Sender<(SocketAddr, Vec<u8>)>,
    told: Receiver<Told>,
    tell: Sender<Told>,
    /// Streams that are dialled or open, and where their bytes go.
    streams: BTreeMap<Conn, UnboundedSender<Vec<u8>>>,
    /// Closed when the last stream has ended.
    ended: Receiver<()>,
    /// Held by every stream's task.
    alive: Sender<()>,
}

/// What the tasks tell.
#[derive(Debug)]
enum Told {
    Happened(Happened),
    Accepted(Conn, IpAddr, UnboundedSender<Vec<u8>>),
}

impl Sockets {
    /// Binds both sockets and starts to listen.
    pub(super) async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(addr).await?);
        let listener = TcpListener::bind(addr).await?;
        let (arrived, arriving) = mpsc::channel(SOCKET_ITEMS);
        let (leaving, left) = mpsc::channel(SOCKET_ITEMS);
        let (tell, told) = mpsc::channel(EVENT_ITEMS);
        let (alive, ended) = mpsc::channel(1);
        spawn_local(receive(socket.clone(), arrived));
        spawn_local(send(socket, left));
        spawn_local(accept(listener, tell.clone(), alive.clone()));
        Ok(Self { arriving, leaving, told, tell, streams: BTreeMap::new(), ended, alive })
    }

    /// Returns what is to be told about `told`; nothing, if its stream was closed meanwhile.
    fn admit(&mut self, told: Told) -> Option<Happened> {
        let happened = match told {
            Told::Accepted(conn, source, bytes) => {
                self.streams.insert(conn, bytes);
                return Some(Happened::Accepted { conn, source });
            }
            Told::Happened(happened) => happened,
        };
        let known = match &happened {
            Happened::Closed { conn } | Happened::DialFailed { conn } => {
                self.streams.remove(conn).is_some()
            }
            Happened::Connected { conn }
            | Happened::Bytes { conn, .. }
            | Happened::Wrote { conn, .. } => self.streams.contains_key(conn),
            Happened::Datagram(_) | Happened::Accepted { .. } => true,
        };
        known.then_some(happened)
    }
}

impl Network for Sockets {
    async fn next(&mut self) -> io::Result<Happened> {
        poll_fn(|cx| {
            if let Poll::Ready(Some(bytes)) = self.arriving.poll_recv(cx) {
                return Poll::Ready(Ok(Happened::Datagram(bytes)));
            }
            while let Poll::Ready(Some(told)) = self.told.poll_recv(cx) {
                if let Some(happened) = self.admit(told) {
                    return Poll::Ready(Ok(happened));
                }
            }
            Poll::Pending
        })
        .await
    }

    fn ready(&mut self) -> Option<Vec<u8>> {
        self.arriving.try_recv().ok()
    }

    fn datagram(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        // Full: the socket drops it, as sockets do.
        let _ = self.leaving.try_send((to, bytes));
    }

    fn dial(&mut self, conn: Conn, to: SocketAddr) {
        let (bytes, writing) = mpsc::unbounded_channel();
        self.streams.insert(conn, bytes);
        let (tell, alive) = (self.tell.clone(), self.alive.clone());
        spawn_local(async move {
            let Ok(stream) = TcpStream::connect(to).await else {
                let _ = tell.send(Told::Happened(Happened::DialFailed { conn })).await;
                return;
            };
            let _ = tell.send(Told::Happened(Happened::Connected { conn })).await;
            carry(conn, stream, writing, tell, alive).await;
        });
    }

    fn write(&mut self, conn: Conn, bytes: Vec<u8>) {
        if let Some(stream) = self.streams.get(&conn) {
            // Ended meanwhile: `Closed` is on its way.
            let _ = stream.send(bytes);
        }
    }

    fn close(&mut self, conn: Conn) {
        self.streams.remove(&conn);
    }

    async fn finish(&mut self) {
        self.streams.clear();
        let (alive, _) = mpsc::channel(1);
        self.alive = alive;
        // The listener's task holds a share as well, so this always lasts the whole time.
        tokio::select! {
            biased;
            _ = self.ended.recv() => {}
            () = madsim::time::sleep(LINGER) => {}
        }
    }
}

async fn receive(socket: Arc<UdpSocket>, arrived: Sender<Vec<u8>>) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok((length, _)) = socket.recv_from(&mut buffer).await {
        // Full: the socket drops it, as sockets do.
        let _ = arrived.try_send(buffer[..length].to_vec());
    }
}

async fn send(socket: Arc<UdpSocket>, mut left: Receiver<(SocketAddr, Vec<u8>)>) {
    while let Some((to, bytes)) = left.recv().await {
        // A datagram to nobody is a datagram lost.
        let _ = socket.send_to(to, &bytes).await;
    }
}

async fn accept(listener: TcpListener, tell: Sender<Told>, alive: Sender<()>) {
    let mut next = 1;
    while let Ok((stream, source)) = listener.accept().await {
        let conn = Conn(next);
        next += 2;
        let (bytes, writing) = mpsc::unbounded_channel();
        let accepted = Told::Accepted(conn, source.ip(), bytes);
        if tell.send(accepted).await.is_err() {
            return;
        }
        spawn_local(carry(conn, stream, writing, tell.clone(), alive.clone()));
    }
}

/// Carries the bytes of one stream both ways, until either end closes it.
async fn carry(
    conn: Conn,
    mut stream: TcpStream,
    mut writing: UnboundedReceiver<Vec<u8>>,
    tell: Sender<Told>,
    _alive: Sender<()>,
) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let happened = tokio::select! {
            biased;
            bytes = writing.recv() => match bytes {
                None => return,
                Some(bytes) => match write(&mut stream, &bytes).await {
                    Ok(count) => Happened::Wrote { conn, count },
                    Err(_) => Happened::Closed { conn },
                },
            },
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => Happened::Closed { conn },
                Ok(length) => Happened::Bytes { conn, bytes: buffer[..length].to_vec() },
            },
        };
        let over = matches!(happened, Happened::Closed { .. });
        if tell.send(Told::Happened(happened)).await.is_err() || over {
            return;
        }
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<u32> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    u32::try_from(bytes.len()).map_err(io::Error::other)
}

/// What a node's disk holds; outlives its processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Platter {
    session: Arc<Mutex<Vec<u8>>>,
    ledger: Arc<Mutex<BTreeMap<LedgerFile, Vec<u8>>>>,
}

impl Platter {
    /// Removes the file.
    pub(super) fn wipe(&self) {
        self.bytes().clear();
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        // A panic ends the whole run, so what it left behind does not matter.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, BTreeMap<LedgerFile, Vec<u8>>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session file, as one process of a node sees it.
#[derive(Debug)]
pub(super) struct File {
    platter: Platter,
    writing: VecDeque<(u64, Vec<u8>)>,
    /// When the oldest write is durable.
    due: Option<Duration>,
}

impl File {
    pub(super) fn on(platter: Platter) -> Self {
        Self { platter, writing: VecDeque::new(), due: None }
    }
}

impl Disk for File {
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.platter.bytes().clone();
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        self.writing.push_back((offset, bytes));
    }

    async fn written(&mut self) -> io::Result<()> {
        let Some((offset, bytes)) = self.writing.front() else {
            return pending().await;
        };
        let now = TimeHandle::current().elapsed();
        let due = *self.due.get_or_insert(now + SYNC);
        if now < due {
            madsim::time::sleep(due - now).await;
        }
        let offset = usize::try_from(*offset).map_err(io::Error::other)?;
        let mut file = self.platter.bytes();
        let end = file.len().max(offset + bytes.len());
        file.resize(end, 0);
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        drop(file);
        self.writing.pop_front();
        self.due = None;
        Ok(())
    }
}

/// The files of a ledger, as one process of a node sees them: honest, and one task after the other.
#[derive(Debug)]
pub(super) struct Shelf {
    platter: Platter,
    tasks: VecDeque<(TaskId, Task)>,
    /// When the oldest task has ended.
    due: Option<Duration>,
}

impl Shelf {
    pub(super) fn on(platter: Platter) -> Self {
        Self { platter, tasks: VecDeque::new(), due: None }
    }

    fn perform(&self, task: &Task) -> Result<FilesTold, Fault> {
        let mut files = self.platter.ledger();
        let missing = |file: &LedgerFile| Fault {
            kind: DiskError::Device,
            why: format!("there is no {file}"),
        };
        let place = |offset: u64| usize::try_from(offset).expect("a simulated file is small");
        match task {
            Task::Create { file, bytes } => {
                files.insert(*file, vec![0; place(*bytes)]);
            }
            Task::Write { file, offset, bytes } => {
                let held = files.get_mut(file).ok_or_else(|| missing(file))?;
                let (start, end) = (place(*offset), place(*offset) + bytes.len());
                held.resize(held.len().max(end), 0);
                held[start..end].copy_from_slice(bytes);
            }
            Task::Sync { file } => {
                files.get(file).ok_or_else(|| missing(file))?;
            }
            Task::Rename { from, to } => {
                let held = files.remove(from).ok_or_else(|| missing(from))?;
                files.insert(*to, held);
            }
            Task::Remove { file } => {
                files.remove(file);
            }
            Task::SyncDir { .. } => {}
            Task::List { folder } => {
                let here = files.iter().filter(|(file, _)| file.folder() == *folder);
                let listed = here.filter_map(|(file, held)| {
                    let path = file.to_string();
                    let (_, name) = path.split_once('/')?;
                    Some(Listed { name: name.to_owned(), bytes: held.len() as u64 })
                });
                return Ok(FilesTold::Listed(listed.collect()));
            }
            Task::ReadAt { file, offset, bytes } => {
                let held = files.get(file).ok_or_else(|| missing(file))?;
                let rest = held.get(place(*offset)..).unwrap_or_default();
                return Ok(FilesTold::Read(rest[..rest.len().min(place(*bytes))].to_vec()));
            }
            Task::Room => return Ok(FilesTold::Room(1 << 40)),
        }
        Ok(FilesTold::Done)
    }
}

impl Files for Shelf {
    fn submit(&mut self, id: TaskId, task: Task) {
        self.tasks.push_back((id, task));
    }

    async fn ended(&mut self) -> (TaskId, Result<FilesTold, Fault>) {
        let Some((id, task)) = self.tasks.front() else {
            return pending().await;
        };
        let now = TimeHandle::current().elapsed();
        let due = *self.due.get_or_insert(now + SYNC);
        if now < due {
            madsim::time::sleep(due - now).await;
        }
        let ended = (*id, self.perform(task));
        self.tasks.pop_front();
        self.due = None;
        ended
    }
}

/// Random bytes that the seed, the node and the start decide.
pub(super) struct Drawn(blake3::OutputReader);

impl Drawn {
    pub(super) fn new(seed: u64, node: u64, start: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("lockstep madsim entropy 1");
        for number in [seed, node, start] {
            hasher.update(&number.to_le_bytes());
        }
        Self(hasher.finalize_xof())
    }
}

impl Entropy for Drawn {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

/// Returns a span as the clock of a run counts it.
pub(super) fn elapsed() -> Instant {
    Instant::from_nanos(nanos(TimeHandle::current().elapsed()))
}
