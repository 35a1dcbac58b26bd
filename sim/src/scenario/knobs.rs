//! `[config]`: every limit and interval of the machines that a scenario can set (C62, C107, T24).

use std::ops::Range;
use std::time::Duration;

use machines::Choices;
use machines::cluster::config::ClusterConfig;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::span;

macro_rules! knobs {
    (
        spans { $($time:ident at $part:ident drawn $drawn:expr;)* }
        counts { $($count:ident at $home:ident drawn $values:expr;)* }
    ) => {
        /// Configuration values; what is absent keeps its default.
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs, reason = "the names are those of the configuration, documented there")]
        pub struct Knobs {
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $time: Option<Spanned<String>>,)*
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $count: Option<Spanned<u32>>,)*
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

            /// Draws values that are not set from their legal ranges (T24); answer 0 keeps the
            /// default.
            pub fn draw(&mut self, choices: &mut Choices) {
                let mut knob = 0_u64;
                $({
                    knob += 1;
                    let drawn: &[&str] = &$drawn;
                    let place = choices.choose("swarm.knob", [knob, 0], 2 * drawn.len() as u64 + 1);
                    if self.$time.is_none() && let Some(text) = picked(drawn, place) {
                        self.$time = Some(Spanned::new(0..0, (*text).to_owned()));
                    }
                })*
                $({
                    knob += 1;
                    let drawn: &[u32] = &$values;
                    let place = choices.choose("swarm.knob", [knob, 0], 2 * drawn.len() as u64 + 1);
                    if self.$count.is_none() && let Some(count) = picked(drawn, place) {
                        self.$count = Some(Spanned::new(0..0, *count));
                    }
                })*
            }
        }
    };
}

/// Half of the answers keep the default.
fn picked<T>(drawn: &[T], place: u64) -> Option<&T> {
    let place = usize::try_from(place).ok()?.checked_sub(drawn.len() + 1)?;
    drawn.get(place)
}

knobs! {
    spans {
    period at swim drawn [];
    probe_timeout at swim drawn [];
    indirect_timeout at swim drawn [];
    gossip_tick at swim drawn ["50ms", "1s"];
    sync at swim drawn ["2s", "10s", "120s"];
    reprobe at swim drawn ["1s", "5s", "20s"];
    forget_after at swim drawn [];
    forget_left_after at swim drawn [];
    leave_timeout at swim drawn ["100ms", "20s"];
    connect_timeout at links drawn ["1s", "10s"];
    step_timeout at links drawn ["1s", "10s"];
    handshake_timeout at links drawn ["3s", "20s"];
    backoff_base at links drawn ["1ms", "1s"];
    backoff_cap at links drawn ["2s", "20s"];
    backoff_long at links drawn [];
    keepalive at links drawn ["1s", "5s"];
    link_idle at links drawn ["20s", "60s"];
    rekey_after at links drawn ["5s", "20s", "60s"];
    reject_after at links drawn [];
    rekey_grace at links drawn ["1s"];
    lookup_timeout at registry drawn ["300ms", "5s"];
    default_ttl at registry drawn ["1s", "10s", "1h"];
    hint_keep at registry drawn ["1s", "10s"];
    confirm_after at router drawn ["1ms", "500ms"];
    }
    counts {
    helpers at swim drawn [1, 2, 8];
    gossip_fanout at swim drawn [1, 8];
    retransmit at swim drawn [2, 6];
    suspicion_min at swim drawn [];
    suspicion_max at swim drawn [];
    health_max at swim drawn [];
    relays_max at swim drawn [1, 2];
    members_max at swim drawn [];
    sessions_max at swim drawn [];
    half_open_max at links drawn [];
    half_open_source_max at links drawn [];
    links_max at links drawn [];
    message_bytes_max at links drawn [];
    link_queue_bytes_max at links drawn [65_536];
    dial_queue_items_max at links drawn [1, 2];
    unsent_bytes_max at links drawn [1, 1_000, 16_384];
    names_per_node_max at registry drawn [];
    names_max at registry drawn [];
    lookups_max at registry drawn [1, 2];
    confirm_items at router drawn [1, 2, 1_000];
    unconfirmed_max at router drawn [1, 16];
    asks_max at router drawn [1, 16];
    }
}
