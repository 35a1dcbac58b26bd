//! Structured logs on standard error, and what a node's events become there.
//!
//! Bad input never logs more than one line for each kind and second (C117): what others can
//! bring about (refused handshakes, links that break, gaps) passes a limiter, and the next line
//! says how many were held back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use machines::Instant;
use machines::cluster::ids::NodeId;
use machines::cluster::router::io::Gap;
use machines::cluster::swim::io::{MemberEvent, MemberEventKind};
use machines::cluster::wire::{CloseReason, Code};
use machines::node::io::Event;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing::{debug, info, warn};

/// The shortest time between two lines of one kind (C117).
const QUIET_NANOS: u64 = 1_000_000_000;

/// The least level that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What keeps the node from doing its work.
    Error,
    /// What someone should look at.
    Warn,
    /// Members, names, starts and stops.
    #[default]
    Info,
    /// Links and routine refusals.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends logs to standard error from now on. A second call changes nothing.
pub fn start(level: LogLevel, format: LogFormat) {
    let filter = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // Failing means that the process logs elsewhere already.
    let _ = match format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colours).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// Hears a node's events, and logs them.
#[derive(Debug)]
pub struct Listener {
    limiter: Limiter<Kind>,
}

/// What is logged once a second: one for each counter that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Refused(Code, bool),
    LinkDown(CloseReason),
    Gap,
}

impl Default for Listener {
    fn default() -> Self {
        Self { limiter: Limiter::new() }
    }
}

impl Listener {
    /// Hears one event.
    pub fn hear(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Member(member) => log_member(member),
            Event::Name(name) => debug!(name = ?name.name, kind = ?name.kind, "name"),
            Event::Gap(gap) => {
                if let Some(unlogged) = self.limiter.admit(now, Kind::Gap) {
                    log_gap(gap, unlogged);
                }
            }
            Event::Joined => info!("joined the cluster"),
            Event::LinkUp { peer } => debug!(%peer, "link up"),
            Event::LinkDown { peer, reason } => {
                if let Some(unlogged) = self.limiter.admit(now, Kind::LinkDown(*reason)) {
                    info!(%peer, ?reason, unlogged, "link down");
                }
            }
            Event::Refused { source, peer, code, inbound } => {
                if let Some(unlogged) = self.limiter.admit(now, Kind::Refused(*code, *inbound)) {
                    log_refusal(*source, *peer, *code, *inbound, unlogged);
                }
            }
            Event::SessionRenewed(session) => {
                warn!(session = session.0, "others knew a later session; went on in a new one");
            }
            Event::NamesLate { members, ttl_least } => {
                let why = "names may be missed: raise default_ttl, or let sync be shorter";
                warn!(members, ?ttl_least, "{why}");
            }
        }
    }
}

fn log_gap(gap: &Gap, unlogged: u64) {
    let Gap { peer, first, last, outcome, .. } = gap;
    warn!(%peer, first, last, ?outcome, unlogged, "messages were not delivered, or perhaps not");
}

fn log_refusal(source: IpAddr, peer: Option<NodeId>, code: Code, inbound: bool, unlogged: u64) {
    let node = Shown(peer);
    match is_routine(code) {
        true => debug!(?code, %source, %node, inbound, unlogged, "handshake refused"),
        false => warn!(?code, %source, %node, inbound, unlogged, "handshake refused"),
    }
}

/// Says whether a healthy cluster refuses handshakes with this code now and then.
const fn is_routine(code: Code) -> bool {
    match code {
        Code::DuplicateLink | Code::Draining | Code::Timeout => true,
        Code::BadMagic
        | Code::VersionMismatch
        | Code::SchemaMismatch
        | Code::FeatureMissing
        | Code::WrongCluster
        | Code::Busy
        | Code::NotAllowed
        | Code::SelfConnect
        | Code::WrongPeer
        | Code::StaleSession
        | Code::BadCrypto
        | Code::Malformed
        | Code::Downgraded
        | Code::Revoked => false,
    }
}

fn log_member(event: &MemberEvent) {
    let MemberEvent { node, life, addr, kind, .. } = event;
    let session = life.session.0;
    match kind {
        MemberEventKind::Join => info!(%node, session, ?addr, "member joined"),
        MemberEventKind::Suspect => info!(%node, session, "member suspected"),
        MemberEventKind::Alive => info!(%node, session, "member alive again"),
        MemberEventKind::Changed => info!(%node, session, ?addr, "member changed"),
        MemberEventKind::Dead(cause) => warn!(%node, session, ?cause, "member dead"),
        MemberEventKind::Left => info!(%node, session, "member left"),
    }
}

/// A node that may be unknown.
struct Shown(Option<NodeId>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(node) => node.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// Lets through one of each kind a second, and counts the others.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    /// When a kind was last let through, and how many were held back since.
    kinds: BTreeMap<K, (Instant, u64)>,
}

impl<K: Ord> Limiter<K> {
    pub(crate) const fn new() -> Self {
        Self { kinds: BTreeMap::new() }
    }

    /// Returns how many of this kind were held back before this one, if this one may pass.
    pub(crate) fn admit(&mut self, now: Instant, kind: K) -> Option<u64> {
        let Some((last, held)) = self.kinds.get_mut(&kind) else {
            self.kinds.insert(kind, (now, 0));
            return Some(0);
        };
        if now.nanos_since(*last) < QUIET_NANOS {
            *held += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(held))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Sender, channel};

    use machines::cluster::ids::Session;
    use machines::cluster::router::io::Outcome;

    use super::*;

    #[test]
    fn one_line_a_second_and_kind_and_none_is_lost_from_the_count() {
        let mut limiter = Limiter::new();
        let at = Instant::from_millis;
        assert_eq!(limiter.admit(at(0), 'a'), Some(0));
        assert_eq!(limiter.admit(at(1), 'b'), Some(0));
        for n in 1..10 {
            assert_eq!(limiter.admit(at(n * 100), 'a'), None);
        }
        assert_eq!(limiter.admit(at(1_000), 'a'), Some(9));
        assert_eq!(limiter.admit(at(1_001), 'b'), Some(0));
    }

    /// Sends what is logged to whoever counts the lines.
    #[derive(Clone)]
    struct Lines(Sender<String>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Goal: bad input logs at most one line for each counter and second (C117).
    /// Method: a thousand of each kind within a second, then one more of each after it.
    #[test]
    fn bad_input_logs_one_line_for_each_kind_and_second() {
        let peer = NodeId::of_key(&[7; 32]);
        let gap = Gap {
            peer,
            session: Session(1),
            first: 1,
            last: 2,
            outcome: Some(Outcome::Lost),
            senders: Vec::new(),
        };
        let source = IpAddr::from([10, 0, 0, 9]);
        let refused = |inbound| Event::Refused { source, peer: None, code: Code::Busy, inbound };
        let kinds = [
            refused(true),
            refused(false),
            Event::LinkDown { peer, reason: CloseReason::ProtocolError },
            Event::LinkDown { peer, reason: CloseReason::Reset },
            Event::Gap(gap),
        ];
        let (writer, lines) = channel();
        let writer = Lines(writer);
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        let log = log.with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let mut listener = Listener::default();
            for n in 0..1_000 {
                for event in &kinds {
                    listener.hear(Instant::from_nanos(n * 999_999), event);
                }
            }
            assert_eq!(lines.try_iter().count(), kinds.len());
            for event in &kinds {
                listener.hear(Instant::from_millis(1_000), event);
            }
            let later: Vec<String> = lines.try_iter().collect();
            assert_eq!(later.len(), kinds.len());
            assert!(later.iter().all(|line| line.contains("unlogged=999")), "{later:?}");
        });
    }
}
