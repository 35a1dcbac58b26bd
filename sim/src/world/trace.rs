//! What a run looks like, line by line (T41).

use std::net::SocketAddr;

use machines::node::io::{Input, Output};

use super::World;
use crate::guest::Guest;
use crate::host::place_of;

/// Whom something outside the nodes is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    /// A node.
    Node(u32),
    /// An entry of the plan.
    Entry(u32),
    /// All of them.
    World,
}

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// True time, in nanoseconds.
    pub at: u64,
    /// Which node; `None` for the world.
    pub node: Option<u32>,
    /// What kind of event.
    pub event: String,
    /// More about it.
    pub detail: String,
}

impl<G: Guest> World<G> {
    pub(super) fn trace_step(&mut self, node: u32, input: &Input, outputs: &[Output]) {
        let at = self.now;
        let Some(trace) = &mut self.trace else {
            return;
        };
        let mut line = |event: &str, detail: String| {
            trace.push(Line { at, node: Some(node), event: event.to_owned(), detail });
        };
        let (event, detail) = of_input(input);
        line(event, detail);
        for output in outputs {
            let (event, detail) = of_output(output);
            line(event, detail);
        }
    }

    pub(super) fn trace_world(&mut self, what: &'static str, whom: Whom) {
        let (node, detail) = match whom {
            Whom::Node(node) => (Some(node), String::new()),
            Whom::Entry(entry) => {
                let planned = self.setup.plan.get(entry as usize);
                (None, planned.map_or_else(String::new, |planned| format!("{:?}", planned.act)))
            }
            Whom::World => (None, String::new()),
        };
        if let Some(trace) = &mut self.trace {
            trace.push(Line { at: self.now, node, event: what.to_owned(), detail });
        }
    }
}

fn bytes(count: usize) -> String {
    format!("{count} bytes")
}

fn of_input(input: &Input) -> (&'static str, String) {
    match input {
        Input::Tick => ("tick", String::new()),
        Input::Datagram(held) => ("datagram", bytes(held.len())),
        Input::Connected { conn, .. } => ("connected", format!("conn {}", conn.0)),
        Input::DialFailed { conn } => ("dial failed", format!("conn {}", conn.0)),
        Input::Accepted { conn, source, .. } => {
            let from =
                place_of(*source).map_or_else(|| source.to_string(), |(n, _)| format!("n{n}"));
            ("accepted", format!("conn {} from {from}", conn.0))
        }
        Input::Bytes { conn, bytes: held } => {
            ("bytes", format!("conn {}, {}", conn.0, bytes(held.len())))
        }
        Input::Wrote { conn, count } => ("wrote", format!("conn {}, {count} bytes", conn.0)),
        Input::Closed { conn } => ("closed", format!("conn {}", conn.0)),
        Input::Drawn { conn, .. } => ("drawn", format!("conn {}", conn.0)),
        Input::SessionStored(session) => ("session stored", session.0.to_string()),
        Input::Allowed(_) => ("allowlist", String::new()),
        Input::Seeds(seeds) => ("seeds", seeds.len().to_string()),
        Input::Moved(addr) => ("moved", format!("{addr:?}")),
        Input::Meta(_) => ("meta", String::new()),
        Input::Limits(_) => ("limits", String::new()),
        Input::Call { call, request } => ("call", format!("{} {request:?}", call.0)),
    }
}

fn of_output(output: &Output) -> (&'static str, String) {
    match output {
        Output::Dial { conn, addr } => ("→ dial", format!("conn {} to {}", conn.0, place(addr))),
        Output::Write { conn, bytes: held } => {
            ("→ write", format!("conn {}, {}", conn.0, bytes(held.len())))
        }
        Output::Close { conn } => ("→ close", format!("conn {}", conn.0)),
        Output::Draw { conn } => ("→ draw", format!("conn {}", conn.0)),
        Output::Datagram { to, bytes: held } => {
            ("→ datagram", format!("to {}, {}", place(to), bytes(held.len())))
        }
        Output::StoreSession { session, .. } => ("→ store session", session.0.to_string()),
        Output::Reply { call, reply } => ("→ reply", format!("{} {reply:?}", call.0)),
        Output::Deliver { to, from, .. } => ("→ deliver", format!("to {} from {from:?}", to.0)),
        Output::Event(event) => ("→ event", format!("{event:?}")),
        Output::Stop(reason) => ("→ stop", format!("{reason:?}")),
    }
}

fn place(addr: &SocketAddr) -> String {
    place_of(addr.ip()).map_or_else(|| addr.to_string(), |(node, _)| format!("n{node}"))
}
