//! Who breaks what links, messages and names promise (cluster.md, section 13).
//!
//! Each saboteur comes as close to the fault that its property's row names as the boundary of a
//! production node allows. Those of membership stand in a table of their own.

mod lanes;
mod limits;
mod links;
mod messages;
mod names;

use machines::node::Node;
use toml::Spanned;

use super::{Sabotaged, Turn, Turned};
use crate::lab::Sabotage;
use crate::scenario::file::{File, Word};

/// Returns the saboteurs of C130–C135 and C145–C151.
#[must_use]
pub fn all() -> Vec<Sabotage<Sabotaged<Node>>> {
    let mut all = of_links();
    all.extend(of_messages());
    all
}

fn of_links() -> Vec<Sabotage<Sabotaged<Node>>> {
    vec![
        sabotage("keeps-revoked", "C130", "key-revoked", 3, links::keeps_revoked)
            .about("does not look at a changed allowlist"),
        sabotage("unsealed", "C131", "calm-3", 2, links::unsealed)
            .about("writes everything in clear"),
        sabotage("control-in-clear", "C131", "calm-3", 2, links::control_in_clear)
            .about("does not seal what no user sent"),
        sabotage("gossip-in-clear", "C131", "calm-3", 2, links::gossip_in_clear)
            .about("does not seal datagrams"),
        sabotage("accepts-twice", "C132", "duplicate-reorder", 2, links::accepts_twice)
            .about("forgets which datagrams it accepted"),
        sabotage("seals-twice", "C132", "calm-3", 2, links::seals_twice)
            .about("uses counters of datagrams again"),
        sabotage("seals-streams-twice", "C132", "calm-3", 2, links::seals_streams_twice)
            .about("uses counters of streams again"),
        sabotage("window-before-tag", "C133", "forged-frames", 5, links::window_before_tag)
            .about("moves the replay window before it checks the tag"),
        sabotage("closes-all", "C133", "forged-frames", 5, links::closes_all)
            .about("closes all links when one stream breaks"),
        sabotage("keeps-both-dials", "C134", "two-dials", 2, links::keeps_both_dials)
            .about("has a second link with a peer before the first is gone"),
        sabotage("drops-dials", "C134", "flapping-link", 3, links::drops_dials)
            .about("dials one peer no more after the first link, and is not dialled"),
        sabotage("closes-silently", "C134", "flapping-link", 3, links::closes_silently)
            .about("forgets its links with one peer without a word"),
        sabotage("takes-any-feature", "C135", "calm-3", 2, links::takes_any_feature)
            .about("negotiates features that are not configured"),
        sabotage("requires-nothing", "C135", "mixed-versions", 2, links::requires_nothing)
            .about("links with nodes that lack a required feature"),
        sabotage("speaks-the-least", "C135", "mixed-versions", 2, links::speaks_the_least)
            .about("never speaks more than its least version"),
    ]
}

fn of_messages() -> Vec<Sabotage<Sabotaged<Node>>> {
    vec![
        sabotage("ignores-session", "C145", "rolling-restart", 5, messages::ignores_session)
            .about("sends to whatever session of a node runs"),
        sabotage("resends-on-reconnect", "C146", "flapping-link", 5, messages::resends)
            .about("sends again what it sent before a link went down")
            .change(|file| file.workload.get_or_insert_default().send = Some(written(20.0))),
        sabotage("swallows-sends", "C146", "calm-3", 2, messages::swallows_replies)
            .about("drops every second send, and says nothing"),
        sabotage("invents-gaps", "C146", "calm-3", 2, messages::invents_gaps)
            .about("reports messages missing that nobody sent"),
        sabotage("late-answer-wins", "C147", "duplicate-reorder", 2, messages::late_answer)
            .about("lets an answer that comes after the timeout count")
            .change(|file| file.workload.get_or_insert_default().wait = Some(text("20ms"))),
        sabotage("never-aging", "C148", "registry-churn", 5, names::never_aging)
            .about("answers look-ups from copies that do not age"),
        sabotage("keeps-withdrawn", "C148", "calm-16", 5, names::keeps_withdrawn)
            .about("answers look-ups by withdrawn names for half a ttl"),
        sabotage("finds-nothing", "C149", "calm-3", 2, names::finds_nothing)
            .about("finds no name that another node holds"),
        sabotage("first-come", "C149", "registry-churn", 5, names::first_come)
            .about("gives no name away that another owner holds too"),
        sabotage("unbounded-asks", "C150", "calm-3", 2, limits::unbounded_asks)
            .about("accepts any number of asks")
            .change(few_asks),
        sabotage("unbounded-unconfirmed", "C150", "calm-3", 2, limits::unbounded_unconfirmed)
            .about("accepts any number of sends that nobody has confirmed")
            .change(few_unconfirmed),
        sabotage("unbounded-endpoints", "C150", "calm-3", 2, limits::unbounded_endpoints)
            .about("opens endpoints without end")
            .change(|file| {
                file.config.get_or_insert_default().endpoints_max = Some(written(4));
            }),
        sabotage("unbounded-queue", "C150", "calm-3", 2, limits::unbounded_queue)
            .about("queues any number of bytes for a link")
            .change(short_queues),
        sabotage("pings-behind-bulk", "C151", "bulk-and-heartbeats", 3, lanes::behind_bulk)
            .about("lets datagrams wait for stream bytes")
            .change(|file| {
                let config = file.config.get_or_insert_default();
                config.unsent_bytes_max = Some(written(2 << 20));
            }),
    ]
}

/// Many asks, slow answers, and room for one.
fn few_asks(file: &mut File) {
    let work = file.workload.get_or_insert_default();
    work.ask = Some(written(50.0));
    work.answer = Some(text("500ms"));
    file.config.get_or_insert_default().asks_max = Some(written(1));
}

/// Many sends, seldom confirmed, and room for three.
fn few_unconfirmed(file: &mut File) {
    file.workload.get_or_insert_default().send = Some(written(50.0));
    let config = file.config.get_or_insert_default();
    config.confirm_after = Some(text("1s"));
    config.unconfirmed_max = Some(written(3));
}

/// More to send than a link carries, and queues that hold a few messages: for a short while, since
/// it is much.
fn short_queues(file: &mut File) {
    (file.duration, file.quiet) = (text("15s"), Some(text("5s")));
    let network = file.network.get_or_insert_default();
    (network.rate, network.queue) = (Some(written(20_000)), Some(written(1 << 20)));
    let work = file.workload.get_or_insert_default();
    (work.send, work.payload) = (Some(written(400.0)), Some(written(4_000)));
    let config = file.config.get_or_insert_default();
    config.link_queue_bytes_max = Some(written(20_000));
    config.dial_queue_bytes_max = Some(written(20_000));
}

fn text(text: &str) -> Spanned<String> {
    Word::new(text).0
}

fn written<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Makes an entry of the table.
fn sabotage(
    name: &'static str,
    property: &'static str,
    scenario: &'static str,
    seeds: u64,
    turn: Turn<Node>,
) -> Sabotage<Sabotaged<Node>> {
    let kind = Turned { inner: (), turn: Some(turn) };
    Sabotage { name, about: "", property, scenario, seeds, kind, change: |_| {} }
}
