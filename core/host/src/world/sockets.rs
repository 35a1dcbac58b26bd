//! UDP and TCP of one node on one port, driven by the run loop: no task per connection.
//!
//! ```text
//! Dialling ── connected ──► Open ── close ──► Closing ── all written ──► Draining ─ end ─► gone
//!     └── failed, close ──► gone ├── end ──► gone └── too long, too many ──► gone ◄──┘
//!                                └── close, and nothing was ever written ──► gone
//! ```
//!
//! A connection that waits for its socket is a future in one set; the set polls only those that
//! were woken. Bytes are read when the loop asks for them and at no other time, so a slow node
//! slows its peers down and does not fill its memory.
//!
//! *Draining* reads and drops what the peer still sends, so that the kernel does not answer it
//! with a reset that would overtake our last bytes (the Close or Reject frame). A stream on which
//! nothing was ever written has no last bytes, so it is dropped at once: a flood of connections
//! that are refused without a byte (C21) holds no file descriptor. Those that were answered are
//! capped; the one that closed first makes room.
//!
//! A wait does not own its socket, so a stream that is gone is closed at once, whoever waits.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{AbortHandle, Aborted, abortable};
use futures_util::stream::{FuturesUnordered, Stream};
use machines::cluster::ids::Conn;
use runtime::{Happened, Network};
use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Sleep, sleep, timeout};

/// The longest datagram read: one byte over the longest legal one is enough to be malformed (C15).
const DATAGRAM_READ_MAX: usize = 2_048;
/// The most bytes of a stream read at once.
const READ_MAX: usize = 16 << 10;
/// After so many datagrams in a row, streams are looked at first.
const DATAGRAMS_IN_A_ROW: u32 = 64;
/// How long a closed stream may take to write what is left, and to hear its peer's end.
const LINGER: Duration = Duration::from_secs(2);
/// A dial that the machine has not given up by then is given up here.
const DIAL_MAX: Duration = Duration::from_secs(90);
/// The pause after an accept that failed, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How many connections the kernel keeps until they are accepted.
const BACKLOG: u32 = 1_024;

/// The sockets of one node.
pub struct Sockets {
    udp: UdpSocket,
    /// The same socket, to be read without asking whether it is ready (C53).
    udp_now: std::net::UdpSocket,
    tcp: TcpListener,
    accept_pause: Option<Pin<Box<Sleep>>>,
    dials: BTreeMap<Conn, AbortHandle>,
    streams: BTreeMap<Conn, Peer>,
    /// Closed for the machine, not yet for the peer; at most `closing_max`.
    closing: BTreeMap<Conn, Peer>,
    closing_max: usize,
    /// Streams closed so far.
    closed: u64,
    counts: Arc<Counts>,
    waits: FuturesUnordered<Pin<Box<dyn Future<Output = Ready> + Send>>>,
    /// Who is looked at first, of those that wait and those that connect.
    waits_first: bool,
    told: VecDeque<Happened>,
    datagrams_in_a_row: u32,
    /// The last odd number given to a connection.
    accepted: u64,
    unsent_max: u32,
    buffer: Box<[u8]>,
}

/// What the sockets count; read by whoever shows a status.
#[derive(Debug, Default)]
pub struct Counts {
    cut: AtomicU64,
    not_accepted: AtomicU64,
}

impl Counts {
    /// Returns how many closed streams were cut short because too many were closing.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut.load(Relaxed) // Relaxed: a number to be shown, no more.
    }

    /// Returns how often accepting a connection failed.
    #[must_use]
    pub fn not_accepted(&self) -> u64 {
        self.not_accepted.load(Relaxed) // Relaxed: as above.
    }
}

/// One stream. Dropping it closes the socket and gives up its waits.
struct Peer {
    socket: Arc<TcpStream>,
    unwritten: VecDeque<Vec<u8>>,
    /// How much of the first of them is written.
    offset: usize,
    /// Whether anything was ever to be written.
    answered: bool,
    /// When it was closed, counted in closed streams.
    closed: u64,
    reading: Option<AbortHandle>,
    /// The wait for writability, while one is in the set.
    writing: Option<AbortHandle>,
    expiry: Option<AbortHandle>,
}

/// What a wait came to.
enum Ready {
    Dialled(Conn, Result<io::Result<TcpStream>, Aborted>),
    Readable(Conn),
    Writable(Conn),
    Expired(Conn),
    /// Its stream went first.
    GivenUp,
}

impl Sockets {
    /// Listens at `addr` with TCP and UDP; port 0 takes a port that is free for both.
    /// A stream keeps at most about `unsent_max` bytes in the kernel (C37). Of the streams that
    /// were closed, at most `closing_max` may still be writing their last bytes.
    ///
    /// # Errors
    ///
    /// The address is in use, is not ours, or may not be used. Nothing is left open.
    ///
    /// # Panics
    ///
    /// If `closing_max` is 0.
    pub fn bind(addr: SocketAddr, unsent_max: u32, closing_max: u32) -> io::Result<Self> {
        assert!(closing_max >= 1, "a closed stream has room to write its last bytes");
        let mut tries = 16;
        let (tcp, udp_now) = loop {
            let tcp = listen(addr, unsent_max)?;
            match std::net::UdpSocket::bind(tcp.local_addr()?) {
                Ok(udp) => break (tcp, udp),
                // Someone has the UDP port that TCP was given; the next port is another one.
                Err(_) if addr.port() == 0 && tries > 0 => tries -= 1,
                Err(error) => return Err(error),
            }
        };
        udp_now.set_nonblocking(true)?;
        let udp = UdpSocket::from_std(udp_now.try_clone()?)?;
        Ok(Self {
            udp,
            udp_now,
            tcp,
            accept_pause: None,
            dials: BTreeMap::new(),
            streams: BTreeMap::new(),
            closing: BTreeMap::new(),
            closing_max: closing_max as usize,
            closed: 0,
            counts: Arc::default(),
            waits: FuturesUnordered::new(),
            waits_first: false,
            told: VecDeque::new(),
            datagrams_in_a_row: 0,
            accepted: 0,
            unsent_max,
            buffer: vec![0; READ_MAX].into(),
        })
    }

    /// Returns where it listens.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Returns what is counted here, to be read at any time.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Returns how many streams have a socket: open or closing, dials not counted.
    #[must_use]
    pub fn held(&self) -> usize {
        self.streams.len() + self.closing.len()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if self.datagrams_in_a_row < DATAGRAMS_IN_A_ROW
            && let Poll::Ready(bytes) = self.poll_datagram(cx)
        {
            self.datagrams_in_a_row += 1;
            return Poll::Ready(Happened::Datagram(bytes));
        }
        let passed_over = self.datagrams_in_a_row >= DATAGRAMS_IN_A_ROW;
        self.datagrams_in_a_row = 0;
        if let Some(happened) = self.told.pop_front() {
            return Poll::Ready(happened);
        }
        if let Poll::Ready(happened) = self.poll_streams(cx) {
            return Poll::Ready(happened);
        }
        match passed_over {
            true => self.poll_datagram(cx).map(Happened::Datagram),
            false => Poll::Pending,
        }
    }

    fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        loop {
            let mut buffer = ReadBuf::new(&mut self.buffer[..DATAGRAM_READ_MAX]);
            match self.udp.poll_recv_from(cx, &mut buffer) {
                Poll::Ready(Ok(_)) => return Poll::Ready(buffer.filled().to_vec()),
                // An ICMP answer to an earlier datagram: a lost datagram, no more.
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Those that connect and those that have something to say take turns at being first.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        self.waits_first = !self.waits_first;
        let first = match self.waits_first {
            true => self.poll_waits(cx),
            false => self.poll_accept(cx),
        };
        match (first, self.waits_first) {
            (Poll::Ready(happened), true | false) => Poll::Ready(happened),
            (Poll::Pending, true) => self.poll_accept(cx),
            (Poll::Pending, false) => self.poll_waits(cx),
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        loop {
            if let Some(pause) = &mut self.accept_pause {
                match pause.as_mut().poll(cx) {
                    Poll::Ready(()) => self.accept_pause = None,
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.tcp.poll_accept(cx) {
                Poll::Ready(Ok((stream, source))) => {
                    // Without it, small frames wait for the peer's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    self.accepted += 2;
                    let conn = Conn(self.accepted - 1);
                    self.open(conn, stream);
                    return Poll::Ready(Happened::Accepted {
                        conn,
                        source: source.ip().to_canonical(),
                    });
                }
                Poll::Ready(Err(error)) => {
                    self.counts.not_accepted.fetch_add(1, Relaxed); // Relaxed: only a number.
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.accept_pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_waits(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        while let Poll::Ready(Some(ready)) = Pin::new(&mut self.waits).poll_next(cx) {
            match ready {
                Ready::Dialled(conn, dialled) => {
                    if let Some(happened) = self.dialled(conn, dialled) {
                        return Poll::Ready(happened);
                    }
                }
                Ready::Readable(conn) => {
                    if let Some(happened) = self.read(conn) {
                        return Poll::Ready(happened);
                    }
                }
                Ready::Writable(conn) => self.writable(conn),
                Ready::Expired(conn) => {
                    self.closing.remove(&conn);
                }
                Ready::GivenUp => {}
            }
            if let Some(happened) = self.told.pop_front() {
                return Poll::Ready(happened);
            }
        }
        Poll::Pending
    }

    fn dialled(
        &mut self,
        conn: Conn,
        dialled: Result<io::Result<TcpStream>, Aborted>,
    ) -> Option<Happened> {
        // No entry: the machine gave it up, and wants to hear no more.
        self.dials.remove(&conn)?;
        match dialled {
            Ok(Ok(stream)) => {
                self.open(conn, stream);
                Some(Happened::Connected { conn })
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, conn = conn.0, "a dial failed");
                Some(Happened::DialFailed { conn })
            }
            Err(Aborted) => None,
        }
    }

    fn open(&mut self, conn: Conn, stream: TcpStream) {
        let peer = Peer {
            socket: Arc::new(stream),
            unwritten: VecDeque::new(),
            offset: 0,
            answered: false,
            closed: 0,
            reading: None,
            writing: None,
            expiry: None,
        };
        self.streams.insert(conn, peer);
        self.wait_to_read(conn);
    }

    fn read(&mut self, conn: Conn) -> Option<Happened> {
        if self.closing.contains_key(&conn) {
            self.drain(conn);
            return None;
        }
        let socket = Arc::clone(&self.streams.get(&conn)?.socket);
        match socket.try_read(&mut self.buffer) {
            Ok(0) => {
                self.streams.remove(&conn);
                Some(Happened::Closed { conn })
            }
            Ok(count) => {
                self.wait_to_read(conn);
                let bytes = self.buffer[..count].to_vec();
                Some(Happened::Bytes { conn, bytes })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait_to_read(conn);
                None
            }
            Err(_) => {
                self.streams.remove(&conn);
                Some(Happened::Closed { conn })
            }
        }
    }

    /// Reads and drops; at the peer's end the stream is gone.
    fn drain(&mut self, conn: Conn) {
        let Some(peer) = self.closing.get(&conn) else {
            return;
        };
        let socket = Arc::clone(&peer.socket);
        match socket.try_read(&mut self.buffer) {
            Ok(count) if count > 0 => self.wait_to_read(conn),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait_to_read(conn);
            }
            Ok(_) | Err(_) => {
                self.closing.remove(&conn);
            }
        }
    }

    fn writable(&mut self, conn: Conn) {
        let closing = self.closing.contains_key(&conn);
        let peers = match closing {
            true => &mut self.closing,
            false => &mut self.streams,
        };
        let Some(peer) = peers.get_mut(&conn) else {
            return;
        };
        peer.writing = None;
        let written = peer.write();
        let is_done = peer.unwritten.is_empty();
        let socket = Arc::clone(&peer.socket);
        match written {
            Ok(count) if !closing => self.wrote(conn, count),
            Ok(_) => {}
            Err(_) if closing => {
                self.closing.remove(&conn);
                return;
            }
            Err(_) => {
                self.streams.remove(&conn);
                self.told.push_back(Happened::Closed { conn });
                return;
            }
        }
        if !is_done {
            self.wait_to_write(conn);
        } else if closing {
            end_writing(&socket);
        }
    }

    fn wrote(&mut self, conn: Conn, count: usize) {
        if count > 0 {
            let count = u32::try_from(count).expect("the machine keeps less than 4 GiB unsent");
            self.told.push_back(Happened::Wrote { conn, count });
        }
    }

    fn wait_to_read(&mut self, conn: Conn) {
        let Some(peer) = find(&mut self.streams, &mut self.closing, conn) else {
            return;
        };
        let socket = Arc::downgrade(&peer.socket);
        // An error is found again by the read that follows.
        let ready = poll_fn(move |cx| match socket.upgrade() {
            Some(socket) => socket.poll_read_ready(cx).map(|_| ()),
            None => Poll::Ready(()),
        });
        let (wait, abort) = abortable(ready);
        peer.reading = Some(abort);
        self.waits.push(Box::pin(async move {
            match wait.await {
                Ok(()) => Ready::Readable(conn),
                Err(Aborted) => Ready::GivenUp,
            }
        }));
    }

    fn wait_to_write(&mut self, conn: Conn) {
        let Some(peer) = find(&mut self.streams, &mut self.closing, conn) else {
            return;
        };
        if peer.writing.is_some() {
            return;
        }
        let socket = Arc::downgrade(&peer.socket);
        // An error is found again by the write that follows.
        let ready = poll_fn(move |cx| match socket.upgrade() {
            Some(socket) => socket.poll_write_ready(cx).map(|_| ()),
            None => Poll::Ready(()),
        });
        let (wait, abort) = abortable(ready);
        peer.writing = Some(abort);
        self.waits.push(Box::pin(async move {
            match wait.await {
                Ok(()) => Ready::Writable(conn),
                Err(Aborted) => Ready::GivenUp,
            }
        }));
    }

    /// Lets a closed stream write its last bytes, for a while, and not for ever more of them.
    fn linger(&mut self, conn: Conn, mut peer: Peer) {
        if self.closing.len() >= self.closing_max {
            let oldest = self.closing.iter().min_by_key(|(_, peer)| peer.closed);
            let oldest = oldest.map(|(conn, _)| *conn).expect("the cap is at least 1");
            self.closing.remove(&oldest);
            self.counts.cut.fetch_add(1, Relaxed); // Relaxed: only a number.
        }
        self.closed += 1;
        peer.closed = self.closed;
        let (wait, abort) = abortable(sleep(LINGER));
        peer.expiry = Some(abort);
        self.closing.insert(conn, peer);
        self.waits.push(Box::pin(async move {
            match wait.await {
                Ok(()) => Ready::Expired(conn),
                Err(Aborted) => Ready::GivenUp,
            }
        }));
    }
}

fn find<'a>(
    streams: &'a mut BTreeMap<Conn, Peer>,
    closing: &'a mut BTreeMap<Conn, Peer>,
    conn: Conn,
) -> Option<&'a mut Peer> {
    streams.get_mut(&conn).or_else(|| closing.get_mut(&conn))
}

impl Drop for Peer {
    fn drop(&mut self) {
        for wait in [&self.reading, &self.writing, &self.expiry].into_iter().flatten() {
            wait.abort();
        }
    }
}

impl Peer {
    /// Writes as much as the kernel takes; returns how much that was.
    fn write(&mut self) -> io::Result<usize> {
        let mut total = 0;
        while let Some(first) = self.unwritten.front() {
            match self.socket.try_write(&first[self.offset..]) {
                Ok(count) => {
                    total += count;
                    self.offset += count;
                    if self.offset == first.len() {
                        self.unwritten.pop_front();
                        self.offset = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }
}

impl Network for Sockets {
    async fn next(&mut self) -> io::Result<Happened> {
        Ok(poll_fn(|cx| self.poll_next(cx)).await)
    }

    fn ready(&mut self) -> Option<Vec<u8>> {
        // Not through tokio: a process that slept has not yet been told that it can read.
        for _ in 0..DATAGRAMS_IN_A_ROW {
            match self.udp_now.recv_from(&mut self.buffer[..DATAGRAM_READ_MAX]) {
                Ok((count, _)) => return Some(self.buffer[..count].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {}
            }
        }
        None
    }

    fn datagram(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        // Dropped if the kernel has no room: datagrams may be lost, and membership tries again.
        if let Err(error) = self.udp_now.send_to(&bytes, to) {
            tracing::trace!(%error, %to, "a datagram was not sent");
        }
    }

    fn dial(&mut self, conn: Conn, to: SocketAddr) {
        let unsent_max = self.unsent_max;
        let (dial, abort) = abortable(async move {
            match timeout(DIAL_MAX, connect(to, unsent_max)).await {
                Ok(connected) => connected,
                Err(elapsed) => Err(elapsed.into()),
            }
        });
        self.dials.insert(conn, abort);
        self.waits.push(Box::pin(async move { Ready::Dialled(conn, dial.await) }));
    }

    fn write(&mut self, conn: Conn, bytes: Vec<u8>) {
        let Some(peer) = self.streams.get_mut(&conn) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        peer.answered = true;
        let is_first = peer.unwritten.is_empty();
        peer.unwritten.push_back(bytes);
        if !is_first {
            return;
        }
        match peer.write() {
            Ok(count) => {
                let is_done = peer.unwritten.is_empty();
                self.wrote(conn, count);
                if !is_done {
                    self.wait_to_write(conn);
                }
            }
            Err(_) => {
                self.streams.remove(&conn);
                self.told.push_back(Happened::Closed { conn });
            }
        }
    }

    fn close(&mut self, conn: Conn) {
        if let Some(dial) = self.dials.remove(&conn) {
            dial.abort();
        }
        self.told.retain(|happened| !is_about(happened, conn));
        let Some(peer) = self.streams.remove(&conn) else {
            return;
        };
        if !peer.answered {
            return; // Nothing can be lost (C21, C23): the socket is closed now.
        }
        if peer.unwritten.is_empty() {
            end_writing(&peer.socket);
        }
        self.linger(conn, peer);
    }

    async fn finish(&mut self) {
        let all = poll_fn(|cx| {
            // What happens to other streams does not matter any more.
            while self.poll_waits(cx).is_ready() {}
            match self.closing.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        // Every closing stream expires by itself; this only bounds the sum.
        let _ = timeout(LINGER * 2, all).await;
    }
}

fn is_about(happened: &Happened, closed: Conn) -> bool {
    match happened {
        Happened::Datagram(_) => false,
        Happened::Connected { conn }
        | Happened::DialFailed { conn }
        | Happened::Accepted { conn, .. }
        | Happened::Bytes { conn, .. }
        | Happened::Wrote { conn, .. }
        | Happened::Closed { conn } => *conn == closed,
    }
}

/// Tells the peer that nothing more will come.
fn end_writing(socket: &TcpStream) {
    // An error means that the peer has gone already; the read that follows finds that out.
    let _ = SockRef::from(socket).shutdown(Shutdown::Write);
}

fn socket_for(addr: SocketAddr, unsent_max: u32) -> io::Result<TcpSocket> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Linux doubles what it is told.
    socket.set_send_buffer_size((unsent_max / 2).max(4_096))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn listen(addr: SocketAddr, unsent_max: u32) -> io::Result<TcpListener> {
    let socket = socket_for(addr, unsent_max)?;
    // A restarted node finds its port again while old connections are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

async fn connect(to: SocketAddr, unsent_max: u32) -> io::Result<TcpStream> {
    socket_for(to, unsent_max)?.connect(to).await
}

#[cfg(test)]
mod tests;
