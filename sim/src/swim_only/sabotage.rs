//! What a membership machine can do wrong, as a wrapper around the production one (T32).

use machines::cluster::ids::{Incarnation, Life, NodeId};
use machines::cluster::swim::Swim;
use machines::cluster::swim::io::{Input, MemberEventKind, Output};
use machines::cluster::wire::{Entry, Fact, Message, State};

/// One promise broken, by every machine of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing: the production machine.
    None,
    /// A machine does not hear accusations of itself (C139).
    NoRefutation,
    /// Alive is accepted at the life that is accused (C136).
    AliveAtEqualLife,
    /// One member is thought to answer whether it does or not (C138).
    BlindTo(u32),
    /// The dead are never dialled (C140).
    NoReprobe,
    /// A restart keeps its session (C141).
    SessionNotSynced,
    /// Left is taken for Dead (C142).
    LeftBelowDead,
    /// A member that comes back does not join (C143).
    NoJoinOnRevival,
    /// The last fact heard counts, whatever its life (C144).
    LastWriterWins,
    /// No Lifeguard buddy: accusations reach the accused by gossip alone (C164).
    NoBuddy,
}

impl Sabotage {
    /// How much a session grows with a restart.
    #[must_use]
    pub(super) const fn session_step(self) -> u32 {
        match self {
            Self::SessionNotSynced => 0,
            Self::None
            | Self::NoRefutation
            | Self::AliveAtEqualLife
            | Self::BlindTo(_)
            | Self::NoReprobe
            | Self::LeftBelowDead
            | Self::NoJoinOnRevival
            | Self::LastWriterWins
            | Self::NoBuddy => 1,
        }
    }

    /// What the machine hears in place of `input`.
    pub(super) fn input(self, swim: &Swim, input: Input) -> Input {
        let mut input = input;
        if let Input::Received { message, .. } = &mut input {
            self.twist_message(swim, message);
        }
        if let Input::Sync { rows, .. } = &mut input
            && self == Self::NoRefutation
        {
            rows.retain(|row| row.node != swim.node());
        }
        input
    }

    fn twist_message(self, swim: &Swim, message: &mut Message) {
        for entry in &mut message.entries {
            if let Entry::Fact(fact) = entry {
                *fact = self.twist(swim, *fact);
            }
        }
        if self == Self::NoRefutation {
            message.entries.retain(|entry| match entry {
                Entry::Fact(fact) => subject(fact) != swim.node(),
                Entry::Name(_) => true,
            });
        }
    }

    fn twist(self, swim: &Swim, fact: Fact) -> Fact {
        let Some(held) = swim.member(subject(&fact)) else {
            return fact;
        };
        let above = Life {
            session: held.life.session,
            incarnation: Incarnation(held.life.incarnation.0.saturating_add(1)),
        };
        let accused = matches!(held.state, State::Suspect | State::Dead);
        match (self, fact) {
            (
                Self::AliveAtEqualLife,
                Fact::Alive {
                    node,
                    life,
                    addr,
                    meta,
                },
            ) if accused && life == held.life => Fact::Alive {
                node,
                life: above,
                addr,
                meta,
            },
            (
                Self::LastWriterWins,
                Fact::Suspect {
                    node,
                    life,
                    accuser,
                },
            ) if held.state == State::Alive && life < held.life => Fact::Suspect {
                node,
                life: above,
                accuser,
            },
            (Self::LeftBelowDead, Fact::Left { node, .. }) if held.state != State::Left => {
                Fact::Dead {
                    node,
                    life: held.life,
                    accuser: node,
                }
            }
            (_, fact) => fact,
        }
    }

    /// What comes out of the machine in place of `output`, if anything.
    pub(super) fn output(self, swim: &Swim, output: Output) -> Option<Output> {
        match (self, output) {
            (Self::NoReprobe, Output::Dial { peer, addr }) => {
                let dead = swim.member(peer).is_some_and(|m| m.state == State::Dead);
                (!dead).then_some(Output::Dial { peer, addr })
            }
            (Self::NoJoinOnRevival, Output::Event(event))
                if event.kind == MemberEventKind::Join && event.life.incarnation.0 > 0 =>
            {
                None
            }
            (
                Self::NoBuddy,
                Output::Send {
                    to,
                    addr,
                    lane,
                    mut message,
                },
            ) => {
                if swim.gossip_queue() == 0 {
                    message.entries.retain(|entry| !accuses(entry, to));
                }
                Some(Output::Send {
                    to,
                    addr,
                    lane,
                    message,
                })
            }
            (_, output) => Some(output),
        }
    }

    /// Says whether the machines believe in an answer of `to` without asking.
    pub(super) fn is_blind_to(self, to: u32) -> bool {
        self == Self::BlindTo(to)
    }
}

fn accuses(entry: &Entry, of: NodeId) -> bool {
    match entry {
        Entry::Fact(Fact::Suspect { node, .. } | Fact::Dead { node, .. }) => *node == of,
        Entry::Fact(Fact::Alive { .. } | Fact::Left { .. }) | Entry::Name(_) => false,
    }
}

fn subject(fact: &Fact) -> NodeId {
    match fact {
        Fact::Alive { node, .. }
        | Fact::Suspect { node, .. }
        | Fact::Dead { node, .. }
        | Fact::Left { node, .. } => *node,
    }
}
