//! `[config]`: every limit and interval of the machines that a scenario can set (C62, C107, T24).

use std::ops::Range;
use std::time::Duration;

use machines::Choices;
use machines::cluster::config::ClusterConfig;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{span, swarm};

macro_rules! knobs {
    (
        spans { $($time:ident at $part:ident drawn $drawn:expr;)* }
        counts { $($count:ident at $home:ident drawn $values:expr;)* }
    ) => {
        /// Configuration values; what is absent keeps its default.
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs, reason = "the names are the configuration's own")]
        pub struct Knobs {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $time: Option<Spanned<String>>,
            )*
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $count: Option<Spanned<u32>>,
            )*
        }

        impl Knobs {
            /// Puts the values into `config`.
            ///
            /// # Errors
            ///
            /// The place of a value that is none, and what would be right.
            pub fn apply(&self, config: &mut ClusterConfig) -> Result<(), (Range<usize>, String)> {
                $(if let Some(text) = &self.$time {
                    let nanos = span::span(text.get_ref()).map_err(|why| (text.span(), why))?;
                    config.$part.$time = Duration::from_nanos(nanos);
                })*
                $(if let Some(count) = &self.$count {
                    config.$home.$count = *count.get_ref();
                })*
                Ok(())
            }

            /// Returns where the value of `key` stands.
            #[must_use]
            pub fn place(&self, key: &str) -> Option<Range<usize>> {
                match key {
                    $(stringify!($time) => self.$time.as_ref().map(Spanned::span),)*
                    $(stringify!($count) => self.$count.as_ref().map(Spanned::span),)*
                    _ => None,
                }
            }

            /// Draws values that are not set from their ranges, for `crowd` nodes (T24).
            /// Answer 0 keeps the default.
            pub fn draw(&mut self, crowd: u32, choices: &mut Choices) {
                $(if let Some(range) = $drawn
                    && let Some(drawn) = drawn(stringify!($time), range, choices)
                    && self.$time.is_none()
                {
                    self.$time = Some(Spanned::new(0..0, span::write(drawn * US)));
                })*
                $(if let Some(range) = $values
                    && let Some(drawn) = drawn(stringify!($count), range, choices)
                    && self.$count.is_none()
                {
                    let drawn = u32::try_from(drawn).expect("ranges of counts are of u32");
                    let least = least(stringify!($count), crowd);
                    self.$count = Some(Spanned::new(0..0, drawn.max(least)));
                })*
            }

            /// Lists the knobs, and whether a swarm draws them.
            pub fn table() -> Vec<(&'static str, bool)> {
                let spans = [$((stringify!($time), $drawn.is_some()),)*];
                let counts = [$((stringify!($count), $values.is_some()),)*];
                [spans.as_slice(), counts.as_slice()].concat()
            }
        }
    };
}

/// A microsecond in nanoseconds: the unit of the ranges of spans.
const US: u64 = 1_000;
const MS: u64 = 1_000;
const S: u64 = 1_000 * MS;

/// The least value of a count with which `crowd` nodes can do what they promise.
///
/// A table of members that does not hold the cluster is none. Links are one to each other node:
/// with one less (C30 closes the least recently used) members that are well take turns being out
/// of reach, and no bound of C50 is theirs. Of 12 runs of 6 nodes with 4 links, 7 violated C149 in
/// the quiet period: a look-up's question is lost with the link that makes room. With 3 links it
/// is 3 of 12, and no table is quiet for so long that C144 is looked at; with 2, C140 is violated
/// too, and with 1, C148.
fn least(name: &str, crowd: u32) -> u32 {
    match name {
        "members_max" => crowd,
        "links_max" => crowd.saturating_sub(1).max(1),
        _ => 1,
    }
}

/// Draws one knob, if it is turned at all (half of them are). Log-uniform, so that batches of one
/// and timers at their least come up as often as great ones, in integers, so that every platform
/// draws the same, and with two digits, so that a person can read it.
fn drawn(name: &str, (least, most): (u64, u64), choices: &mut Choices) -> Option<u64> {
    let who = [swarm::named(name), 0];
    if choices.choose("swarm.knob", who, 2) == 0 {
        return None;
    }
    let octaves = u64::from((most / least).ilog2());
    let low = least << choices.choose("swarm.knob.octave", who, octaves + 1);
    let high = (2 * low - 1).min(most);
    let place = low + choices.choose("swarm.knob.place", who, high - low + 1);
    let digits = place.ilog10();
    let round = 10_u64.pow(digits.saturating_sub(1));
    Some((place - place % round).max(least))
}

// The ranges are the legal ones (C62, C107) but where a promise of the specification, which the
// checkers hold every run to, needs more; the reason stands there. What `None` leaves alone:
//
// - `forget_after`, `sessions_max`: H(N) and fencing hold while the dead are remembered (C50, C60).
//
// Not here at all: versions and features, which `[[node]]` gives single nodes, and the buffers of
// watchers (nobody watches a `World`).
knobs! {
    spans {
    // Not so long that a run sees few rounds, not so short that it is all probes.
    period at swim drawn Some((200 * MS, 4 * S));
    // Longer than a round trip of the plain network, else each probe needs helpers.
    probe_timeout at swim drawn Some((50 * MS, S));
    indirect_timeout at swim drawn Some((50 * MS, S));
    gossip_tick at swim drawn Some((20 * MS, 2 * S));
    sync at swim drawn Some((S, 60 * S));
    reprobe at swim drawn Some((S, 60 * S));
    forget_after at swim drawn None::<(u64, u64)>;
    forget_left_after at swim drawn Some((S, 3_600 * S));
    leave_timeout at swim drawn Some((50 * MS, 60 * S));
    // The five that a dial waits for: above the round trip, and below what H(N) gives it (C50).
    connect_timeout at links drawn Some((200 * MS, 10 * S));
    step_timeout at links drawn Some((200 * MS, 10 * S));
    handshake_timeout at links drawn Some((500 * MS, 20 * S));
    backoff_base at links drawn Some((MS, 5 * S));
    backoff_cap at links drawn Some((MS, 20 * S));
    backoff_long at links drawn Some((S, 600 * S));
    keepalive at links drawn Some((100 * MS, 60 * S));
    link_idle at links drawn Some((2 * S, 600 * S));
    rekey_after at links drawn Some((2 * S, 600 * S));
    reject_after at links drawn Some((22 * S, 900 * S));
    // Longer than the plain network holds a datagram back.
    rekey_grace at links drawn Some((200 * MS, 60 * S));
    // Longer than a look-up's round trips, else it finds nothing (C76).
    lookup_timeout at registry drawn Some((200 * MS, 10 * S));
    // Two syncs at least (C74): with the shortest time between them.
    default_ttl at registry drawn Some((2 * S, 3_600 * S));
    hint_keep at registry drawn Some((MS, 3_600 * S));
    confirm_after at router drawn Some((MS, S));
    }
    counts {
    helpers at swim drawn Some((1, 16));
    gossip_fanout at swim drawn Some((1, 16));
    // With one send of each fact and round, D(N) is no bound (C50).
    retransmit at swim drawn Some((2, 16));
    suspicion_min at swim drawn Some((1, 16));
    suspicion_max at swim drawn Some((1, 16));
    health_max at swim drawn Some((1, 16));
    relays_max at swim drawn Some((1, 1_024));
    members_max at swim drawn Some((1, 20_000));
    sessions_max at swim drawn None::<(u64, u64)>;
    half_open_max at links drawn Some((1, 256));
    half_open_source_max at links drawn Some((1, 256));
    accept_rate_source at links drawn Some((1, 256));
    accept_burst_source at links drawn Some((1, 256));
    accept_rate_total at links drawn Some((1, 1_024));
    links_max at links drawn Some((1, 2_048));
    // A frame of membership must fit.
    message_bytes_max at links drawn Some((65_536, 64 << 20));
    link_queue_bytes_max at links drawn Some((1, 8 << 20));
    dial_queue_items_max at links drawn Some((1, 2_048));
    dial_queue_bytes_max at links drawn Some((1, 2 << 20));
    unsent_bytes_max at links drawn Some((1, 256 << 10));
    names_per_node_max at registry drawn Some((1, 8_192));
    // Every node holds every name: a table that is too small holds less than all (C149).
    names_max at registry drawn Some((256, 131_072));
    lookups_max at registry drawn Some((1, 8_192));
    confirm_items at router drawn Some((1, 1_024));
    unconfirmed_max at router drawn Some((1, 131_072));
    asks_max at router drawn Some((1, 131_072));
    endpoints_max at router drawn Some((1, 2 << 20));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// T24: what is drawn covers its range from end to end, and 0 keeps every default.
    #[test]
    fn a_knob_covers_its_range_and_its_least_is_common() {
        let mut seen = BTreeMap::<u64, u32>::new();
        for seed in 0..4_000 {
            let mut choices = Choices::new(seed);
            if let Some(drawn) = drawn("asks_max", (1, 1_000), &mut choices) {
                assert!((1..=1_000).contains(&drawn));
                *seen.entry(drawn.ilog2().into()).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), 10, "every octave: {seen:?}");
        assert!(seen.values().all(|count| (130..280).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_swarm_leaves_alone_only_what_a_promise_needs() {
        let table = Knobs::table();
        let left: Vec<&str> =
            table.iter().filter(|(_, drawn)| !drawn).map(|(name, _)| *name).collect();
        assert_eq!(left, ["forget_after", "sessions_max"]);
        assert_eq!(table.len(), 51);
    }

    /// T13: a knob is asked for by its name, wherever it stands.
    #[test]
    fn what_one_knob_draws_does_not_move_another() {
        let alone = drawn("sync", (1, 1 << 20), &mut Choices::new(5));
        let mut choices = Choices::new(5);
        let other = drawn("reprobe", (1, 1 << 20), &mut choices);
        assert_eq!(drawn("sync", (1, 1 << 20), &mut choices), alone);
        assert_ne!(alone, other);
    }
}
