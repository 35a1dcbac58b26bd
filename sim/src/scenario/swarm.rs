//! Swarms: from the seed a random subset of fault kinds, each with a random strength (T21, T24).
//!
//! # Source
//!
//! Groce et al., *Swarm testing*, ISSTA 2012.

use std::hash::Hasher;

use machines::Choices;
use machines::digest::Digest;
use machines::time::nanos;
use toml::Spanned;

use super::faults::KINDS;
use super::file::{Fault, File, Swarm, Word};
use super::{At, NODES_MAX, config, span, timed};
use crate::checkers::Bounds;

/// What is drawn from if a swarm names no kinds: what survivors bear (T22).
const BORNE: [&str; 27] = [
    "partition",
    "cut",
    "loss",
    "duplicate",
    "reorder",
    "corrupt",
    "tamper",
    "delay",
    "bandwidth",
    "mtu",
    "fragment",
    "reset",
    "kill",
    "wipe",
    "pause",
    "slow",
    "leave",
    "move",
    "revoke",
    "jump",
    "offset",
    "drift",
    "torn",
    "lost-sync",
    "full",
    "stall",
    "forge",
];

const MS: u64 = 1_000_000;
/// The greatest `most`: what a kind can do, it does in fewer.
const MOST_MAX: u64 = 255;

/// Draws what `swarm` asks for into `file`. Every answer 0 leaves something out.
pub(super) fn draw(file: &mut File, swarm: &Swarm, choices: &mut Choices) -> Result<(), At> {
    if let Some(range) = &swarm.nodes {
        let [least, most] = *range.get_ref();
        if least == 0 || least > most || most > NODES_MAX {
            let what = format!("must be [least, most], 1 to {NODES_MAX}");
            return Err((range.span(), what));
        }
        let more = choices.choose("swarm.nodes", [0, 0], u64::from(most - least) + 1);
        let more = u32::try_from(more).expect("within the range");
        file.nodes = Spanned::new(file.nodes.span(), least + more);
    }
    let kinds = match &swarm.kinds {
        None => BORNE.iter().map(|kind| (*kind).to_owned()).collect(),
        Some(kinds) => checked_kinds(kinds)?,
    };
    let most = swarm.most.as_ref().map_or(3, |most| *most.get_ref());
    if let Some(place) = swarm.most.as_ref().filter(|_| most > MOST_MAX) {
        return Err((place.span(), format!("must be {MOST_MAX} at the most")));
    }
    let quiet = file.quiet.as_ref().map_or(Ok(0), timed)?;
    let quiet_at = timed(&file.duration)?.saturating_sub(quiet);
    let nodes = *file.nodes.get_ref();
    let mut drawn = Vec::new();
    for kind in &kinds {
        let who = named(kind);
        // One node alone has no link.
        let idle = nodes == 1 && matches!(kind.as_str(), "cut" | "reset" | "fragment");
        let on = choices.choose("swarm.kind", [who, 0], 2) == 1 && !idle;
        let count = choices.choose("swarm.count", [who, 0], most.max(1)) + 1;
        for turn in 0..if on { count } else { 0 } {
            let who = [who, turn];
            drawn.extend(Drawer { nodes, quiet_at, choices, who }.faults(kind));
        }
    }
    keep_witness(&mut drawn, nodes);
    file.fault.extend(drawn);
    if swarm.knobs {
        draw_knobs(file, choices)?;
    }
    Ok(())
}

/// Keeps one node alive throughout where others may lose their sessions: a process that takes a
/// session again is told apart from the one before it by whoever met that one (C27). Where nobody
/// is left who did, nobody can (T22).
fn keep_witness(drawn: &mut Vec<Fault>, nodes: u32) {
    let witness = toml::Value::Integer(i64::from(nodes) - 1);
    let names_it = |fault: &Fault| {
        let named = fault.nodes.as_ref().and_then(|nodes| nodes.get_ref().as_array());
        named.is_some_and(|nodes| nodes.contains(&witness))
    };
    if drawn.iter().any(|fault| ["wipe", "lost-sync"].contains(&fault.kind.text())) {
        let ends = ["kill", "wipe", "lost-sync", "leave"];
        drawn.retain(|fault| !(ends.contains(&fault.kind.text()) && names_it(fault)));
    }
}

/// Says whom a question about a kind or a knob concerns: by its name, so that a new one moves the
/// answers of no other (T13).
pub(super) fn named(name: &str) -> u64 {
    let mut digest = Digest::new();
    digest.write(name.as_bytes());
    digest.finish()
}

/// Draws the configuration (T24). Values that cannot be together are drawn again; if that does not
/// help, all keep their defaults.
fn draw_knobs(file: &mut File, choices: &mut Choices) -> Result<(), At> {
    let before = file.config.clone().unwrap_or_default();
    let strangers = file.strangers.as_ref().map_or(0, |strangers| *strangers.get_ref());
    let crowd = file.nodes.get_ref() + strangers;
    for _ in 0..KNOBS_TRIES {
        let mut drawn = before.clone();
        drawn.draw(crowd, choices);
        file.config = Some(drawn);
        if is_borne(file, crowd)? {
            return Ok(());
        }
    }
    file.config = Some(before);
    Ok(())
}

/// How often a configuration is drawn.
const KNOBS_TRIES: u32 = 64;

/// Says whether a configuration can be, and shows within the quiet period what C50 promises: a run
/// whose liveness is never looked at tests less than one without knobs.
fn is_borne(file: &File, crowd: u32) -> Result<bool, At> {
    let Ok(config) = config(file) else {
        return Ok(false);
    };
    let quiet = file.quiet.as_ref().map_or(Ok(0), timed)?;
    let bounds = Bounds::new(&config, crowd);
    let settled = bounds.heal() + bounds.same_lives();
    // Who was refused waits so long before it asks again (C23).
    let revokes = file.fault.iter().any(|fault| fault.kind.text() == "revoke");
    let refused = if revokes { nanos(config.links.backoff_long) } else { 0 };
    let longest = settled.max(bounds.detection(1)).max(bounds.redial() + refused);
    Ok(quiet == 0 || longest + 10_000 * MS <= quiet)
}

fn checked_kinds(kinds: &[Spanned<String>]) -> Result<Vec<String>, At> {
    for kind in kinds {
        if !KINDS.iter().any(|(name, _)| name == kind.get_ref()) {
            let what = format!("no such kind of fault; there are {}", BORNE.join(", "));
            return Err((kind.span(), what));
        }
    }
    Ok(kinds.iter().map(|kind| kind.get_ref().clone()).collect())
}

struct Drawer<'a> {
    nodes: u32,
    quiet_at: u64,
    choices: &'a mut Choices,
    /// The kind and the entry: each has questions of its own (T14).
    who: [u64; 2],
}

impl Drawer<'_> {
    /// Draws one entry, with what it needs in order to strike.
    fn faults(&mut self, kind: &str) -> Vec<Fault> {
        let fault = self.fault(kind);
        match kind {
            "torn" => self.torn(fault),
            _ => vec![fault],
        }
    }

    /// A disk tears only what is being written when power fails, and a session is being written
    /// for a millisecond at each start: so the node loses power, and once more as it comes back.
    fn torn(&mut self, torn: Fault) -> Vec<Fault> {
        let from = span::span(torn.at.text()).unwrap_or(0);
        let lasts = torn.lasts.as_ref().and_then(|lasts| span::span(lasts.text()).ok());
        let lasts = lasts.unwrap_or(0);
        let off = lasts / 3;
        let again = off + 1 + self.number(MS - 1);
        let kill = |at: u64, lasts: u64| Fault {
            kind: Word::new("kill"),
            at: Word::new(&span::write(from + at)),
            lasts: Some(Word::new(&span::write(lasts))),
            nodes: torn.nodes.clone(),
            power: Some(unplaced(true)),
            ..Fault::default()
        };
        let kills = (again + off < lasts).then(|| [kill(0, off), kill(again, off)]);
        std::iter::once(torn.clone()).chain(kills.into_iter().flatten()).collect()
    }

    fn fault(&mut self, kind: &str) -> Fault {
        if kind == "offset" {
            return self.offset();
        }
        // Faults begin in the first three quarters, and are over when the quiet period begins.
        let at = self.quiet_at / 20 + self.number(self.quiet_at * 3 / 4);
        let room = self.quiet_at.saturating_sub(at).max(1);
        let lasts = MS * 100 + self.number(room / 2);
        let lasts = lasts.min(room).min(120_000 * MS);
        let mut fault =
            Fault { kind: Word::new(kind), at: Word::new(&span::write(at)), ..Fault::default() };
        let instant = matches!(kind, "reset" | "move" | "jump" | "second-process");
        fault.lasts = (!instant).then(|| Word::new(&span::write(lasts)));
        self.strength(kind, &mut fault);
        fault
    }

    /// Every clock is ahead by a span of its own.
    fn offset(&mut self) -> Fault {
        let by = MS + self.number(3_600_000 * MS);
        Fault {
            kind: Word::new("offset"),
            at: Word::new("0s"),
            by: Some(Word::new(&span::write(by))),
            nodes: Some(unplaced(toml::Value::from("all"))),
            ..Fault::default()
        }
    }

    fn strength(&mut self, kind: &str, fault: &mut Fault) {
        match kind {
            "partition" => fault.groups = Some(unplaced(self.groups())),
            "cut" | "reset" | "fragment" => fault.links = Some(unplaced(vec![self.link()])),
            "loss" => self.share(fault, 40),
            "duplicate" | "reorder" => self.share(fault, 60),
            "corrupt" => self.share(fault, 20),
            "tamper" => self.share(fault, 2),
            "delay" => {
                let most = MS + self.number(300 * MS);
                fault.delay =
                    Some(Word::new(&format!("{}..{}", span::write(MS), span::write(most))));
            }
            "bandwidth" => fault.rate = Some(unplaced(20_000 + self.number(1_000_000))),
            // Below the longest datagram, which is of 1,200 bytes, and above a probe without news.
            "mtu" => {
                let bytes = u32::try_from(200 + self.number(900)).expect("a datagram is short");
                fault.bytes = Some(unplaced(bytes));
            }
            "forge" => fault.gap = Some(Word::new(&span::write(MS + self.number(200 * MS)))),
            "failed-sync" | "failed-write" => {
                self.share(fault, 60);
                self.node_strength(kind, fault);
            }
            _ => self.node_strength(kind, fault),
        }
        if matches!(kind, "cut") && self.number(2) == 1 {
            fault.direction = Some(Word::new("forward"));
        }
    }

    fn node_strength(&mut self, kind: &str, fault: &mut Fault) {
        let drawn = i64::try_from(self.number(u64::from(self.nodes))).expect("a node fits");
        // One node at the most moves: two that lost sight of each other before could both be
        // where the other does not know (T22).
        let node = if kind == "move" { 0 } else { drawn };
        fault.nodes = Some(unplaced(toml::Value::Array(vec![toml::Value::Integer(node)])));
        match kind {
            "kill" | "wipe" => fault.power = Some(unplaced(self.number(2) == 1)),
            "slow" => fault.cost = Some(Word::new(&span::write(MS / 10 + self.number(20 * MS)))),
            "drift" => {
                let ppm = i32::try_from(self.number(20_001)).expect("small") - 10_000;
                fault.ppm = Some(unplaced(ppm));
            }
            "jump" => {
                let by = span::write(MS + self.number(5_000 * MS));
                let sign = if self.number(2) == 1 { "-" } else { "" };
                fault.by = Some(Word::new(&format!("{sign}{by}")));
            }
            _ => {}
        }
    }

    fn share(&mut self, fault: &mut Fault, percent_max: u64) {
        let percent = u32::try_from(1 + self.number(percent_max)).expect("a percentage");
        fault.share = Some(unplaced(f64::from(percent) / 100.0));
    }

    fn groups(&mut self) -> Vec<Vec<u32>> {
        let mut groups = vec![Vec::new(), Vec::new()];
        for node in 0..self.nodes {
            groups[usize::from(self.number(2) == 1)].push(node);
        }
        groups
    }

    fn link(&mut self) -> [u32; 2] {
        let from = u32::try_from(self.number(u64::from(self.nodes))).expect("a node");
        let other = u32::try_from(self.number(u64::from(self.nodes.max(2) - 1))).expect("a node");
        [from, (from + 1 + other) % self.nodes]
    }

    /// Draws below `bound`, at a site of its own (T14).
    fn number(&mut self, bound: u64) -> u64 {
        self.choices.choose("swarm.strength", self.who, bound.max(1))
    }
}

fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
