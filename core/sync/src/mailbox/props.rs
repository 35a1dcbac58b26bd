//! Goal: a bounded mailbox is a bounded queue under each policy. Method: random steps against a
//! `VecDeque` that does what the policy says.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Block),
        Just(Policy::DropNew),
        Just(Policy::DropOld),
        Just(Policy::Fail),
    ]
}

proptest! {
    /// Sends and receives give what the policy says, and the counters add up (G95, G227).
    #[test]
    fn does_what_its_policy_says(
        capacity in 1_u32..5,
        policy in policy(),
        sends in proptest::collection::vec(any::<bool>(), 0..200),
    ) {
        let (channel, mut inbox) =
            channel::<usize>(MailboxOptions::bounded(capacity, policy).unwrap());
        let mut oracle = VecDeque::new();
        let mut received = 0;
        let mut given_back = 0;
        let mut sent = 0;
        for (number, send) in sends.into_iter().enumerate() {
            if !send {
                let expected = oracle.pop_front().map_or(Received::Empty, Received::Some);
                received += u64::from(expected != Received::Empty);
                prop_assert_eq!(inbox.try_receive(), expected);
                continue;
            }
            sent += 1;
            let full = oracle.len() == capacity as usize;
            let expected = match policy {
                _ if !full => {
                    oracle.push_back(number);
                    Ok(Sent::Delivered)
                }
                Policy::Block | Policy::Fail => {
                    given_back += 1;
                    Err(SendError::Full(number))
                }
                Policy::DropNew => Ok(Sent::Dropped),
                Policy::DropOld => {
                    oracle.pop_front();
                    oracle.push_back(number);
                    Ok(Sent::Evicted(1))
                }
            };
            prop_assert_eq!(channel.send(number), expected);
            prop_assert_eq!(channel.len(), Some(oracle.len() as u64));
        }
        let discarded = channel.discarded();
        prop_assert_eq!(discarded.refused, given_back);
        let gone = discarded.dropped + discarded.evicted + discarded.refused;
        prop_assert_eq!(sent, received + gone + oracle.len() as u64);
    }
}
