//! Properties of a whole node: what its user can ask for never makes it say what no peer takes.

use std::time::Duration;

use proptest::prelude::*;

use super::io::{Call, Reply};
use super::tests::params;
use super::*;
use crate::cluster::registry::io::RegisterError;
use crate::cluster::wire::{Entry, Frame, Name, NameEntry};
use crate::codec::Wire;

fn name() -> impl Strategy<Value = Name> {
    (0..3_u8).prop_map(|n| Name::new(&format!("name/{n}")).unwrap())
}

fn call() -> impl Strategy<Value = Call> {
    let actor = || (0..4_u64).prop_map(ActorId);
    let ttl = prop::option::of((0..4_000_u64).prop_map(Duration::from_secs));
    prop_oneof![
        2 => Just(Call::Open),
        1 => actor().prop_map(Call::Close),
        4 => (name(), actor(), ttl, any::<bool>())
            .prop_map(|(name, actor, ttl, manual)| Call::Register { name, actor, ttl, manual }),
        1 => name().prop_map(Call::Renew),
        1 => name().prop_map(Call::Unregister),
    ]
}

/// Returns every entry that the node would sync to one who knows nothing.
fn entries(node: &Node, now: Instant) -> Vec<NameEntry> {
    node.registry().delta(now, &[])
}

proptest! {
    /// C19: every name that a user can register is an entry that every peer takes, in gossip and
    /// in a sync. C71, C72: it belongs to an actor that is open.
    #[test]
    fn whatever_is_registered_can_be_decoded(
        calls in prop::collection::vec((call(), 0..20_000_u64), 1..40),
    ) {
        let mut node = Node::new(Instant::START, params(0, 1, 1));
        let mut now = Instant::START;
        let mut open = Vec::new();
        for (request, wait) in calls {
            while node.poll().is_some() {}
            now = now + Duration::from_millis(wait);
            let mut asked = None;
            if let Call::Register { actor, .. } = &request {
                asked = Some(*actor);
            }
            if let Call::Close(actor) = &request {
                open.retain(|other| other != actor);
            }
            node.handle(now, Input::Call { call: CallId(1), request });
            while let Some(output) = node.poll() {
                if let Output::Reply { reply, .. } = output {
                    match (reply, asked) {
                        (Reply::Opened(Ok(at)), _) => open.push(at.actor),
                        (Reply::Registered(result), Some(actor)) => prop_assert_eq!(
                            result == Err(RegisterError::NoActor),
                            !open.contains(&actor)
                        ),
                        _ => {}
                    }
                }
            }
            node.handle(now, Input::Tick);
            for entry in entries(&node, now) {
                let holder = entry.actor;
                prop_assert!(holder.is_none_or(|actor| open.contains(&actor)));
                let gossiped = Entry::Name(entry);
                prop_assert_eq!(Entry::from_bytes(&gossiped.to_bytes()), Ok(gossiped));
            }
            let mut body = Vec::new();
            let frame = Frame::Sync3(entries(&node, now));
            frame.encode_body(&mut body);
            prop_assert_eq!(Frame::decode_body(frame.kind(), &body), Ok(frame));
        }
    }
}
