//! Unit tests.

use std::future::{Future, pending, ready};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::atomics::flaky::{Flaky, hints};
use crate::lane::suite::Grenade;
use crate::ring::tests::claimed as claimed_stamp;
use crate::segmented::tests::claimed as claimed_slot;

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn bounded(capacity: u32, policy: Policy) -> (Channel<u32>, Inbox<u32>) {
    channel(MailboxOptions::bounded(capacity, policy).unwrap())
}

/// G90, G360: a bounded lane has 1 to 2²⁰ slots, chosen at creation.
#[test]
fn options_that_mean_nothing_are_refused() {
    for capacity in [0, CAPACITY_MAX + 1, u32::MAX] {
        let refused = MailboxOptions::bounded(capacity, Policy::Fail);
        assert_eq!(refused.unwrap_err(), BadOption::Capacity(capacity));
    }
}

/// G80: after 32 in a row, one user message is taken.
#[test]
fn system_messages_come_first_but_not_for_ever() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::unbounded());
    for number in 0..100 {
        channel.send_system(number).unwrap();
    }
    channel.send(1_000).unwrap();
    channel.send(1_001).unwrap();
    let mut order = Vec::new();
    while let Received::Some(message) = inbox.try_receive() {
        order.push(message);
    }
    assert_eq!(order[..32], (0..32).collect::<Vec<_>>());
    assert_eq!(order[32], 1_000);
    assert_eq!(order[65], 1_001);
    assert_eq!(order.len(), 102);
}

/// G80: system lane, due timers, user lane.
#[test]
fn a_due_timer_comes_between_the_lanes() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::unbounded());
    channel.send(3).unwrap();
    channel.send_system(1).unwrap();
    let mut timer = Some(2);
    let order: Vec<_> = (0..4).map(|_| inbox.try_receive_with(|| timer.take())).collect();
    let some = Received::Some;
    assert_eq!(order, [some(1), some(2), some(3), Received::Empty]);
}

/// G88, G95.
#[test]
fn fail_hands_the_message_back_and_counts() {
    let (channel, mut inbox) = bounded(1, Policy::Fail);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    assert_eq!(channel.send(2), Err(SendError::Full(2)));
    assert_eq!(channel.discarded().refused, 1);
    assert_eq!(inbox.try_receive(), Received::Some(1));
    assert_eq!(channel.send(3), Ok(Sent::Delivered));
}

/// G86, G95: what is dropped goes to `discard`, once.
#[test]
fn drop_new_drops_the_new_one() {
    let (channel, mut inbox) = bounded(1, Policy::DropNew);
    let mut gone = Vec::new();
    assert_eq!(channel.send_with(1, |message| gone.push(message)), Ok(Sent::Delivered));
    assert_eq!(channel.send_with(2, |message| gone.push(message)), Ok(Sent::Dropped));
    assert_eq!(gone, [2]);
    assert_eq!(inbox.discarded().dropped, 1);
    assert_eq!(inbox.try_receive(), Received::Some(1));
}

/// G87, G95: what is evicted goes to `discard`, once.
#[test]
fn drop_old_drops_the_oldest() {
    let (channel, mut inbox) = bounded(2, Policy::DropOld);
    let mut gone = Vec::new();
    for number in 1..=2 {
        assert_eq!(channel.send(number), Ok(Sent::Delivered));
    }
    assert_eq!(channel.send_with(3, |message| gone.push(message)), Ok(Sent::Evicted(1)));
    assert_eq!(gone, [1]);
    assert_eq!(inbox.try_receive(), Received::Some(2));
    assert_eq!(inbox.try_receive(), Received::Some(3));
    assert_eq!(inbox.discarded().evicted, 1);
}

/// G85, G91.
#[test]
fn a_blocked_send_goes_on_when_a_slot_is_free_and_nobody_overtakes() {
    let (channel, mut inbox) = bounded(1, Policy::Block);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    let mut first = channel.send_wait(2);
    let mut second = channel.send_wait(3);
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    assert_eq!(inbox.try_receive(), Received::Some(1));
    assert_eq!(channel.send(9), Err(SendError::Full(9)), "a newcomer does not overtake");
    assert!(poll(&mut second).is_pending());
    assert_eq!(poll(&mut first), Poll::Ready(Ok(Sent::Delivered)));
    assert_eq!(inbox.try_receive(), Received::Some(2));
    assert_eq!(poll(&mut second), Poll::Ready(Ok(Sent::Delivered)));
    assert_eq!(inbox.try_receive(), Received::Some(3));
}

/// G81, G92: a dropped send has sent nothing and holds no credit.
#[test]
fn a_dropped_send_hands_its_credit_on() {
    let (channel, mut inbox) = bounded(1, Policy::Block);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    let mut first = channel.send_wait(2);
    let mut second = channel.send_wait(3);
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    assert_eq!(inbox.try_receive(), Received::Some(1));
    drop(first); // It had been granted the credit.
    assert_eq!(inbox.try_receive(), Received::Empty, "looking hands the credit on");
    assert_eq!(poll(&mut second), Poll::Ready(Ok(Sent::Delivered)));
    assert_eq!(inbox.try_receive(), Received::Some(3));
}

/// G85: a bounded mailbox is bounded, also in those that wait and give up.
#[test]
fn sends_that_time_out_again_and_again_are_told_full_until_a_slot_is_free() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::bounded(1, Policy::Block).unwrap());
    assert_eq!(now(channel.send_until(1, ready(()))), Some(Ok(Sent::Delivered)));
    let mut last = None;
    for _ in 0..5_000 {
        last = now(channel.send_until(2, ready(())));
    }
    assert_eq!(last, Some(Err(SendError::Full(2))));
    assert_eq!(inbox.try_receive(), Received::Some(1));
    assert_eq!(now(channel.send_until(3, ready(()))), Some(Ok(Sent::Delivered)));
    assert_eq!(now(channel.send_until(4, ready(()))), Some(Err(SendError::Timeout(4))));
}

/// G85.
#[test]
fn a_send_until_gives_the_message_back_at_its_deadline() {
    let (channel, _inbox) = bounded(1, Policy::Block);
    assert_eq!(now(channel.send_until(1, ready(()))), Some(Ok(Sent::Delivered)));
    assert_eq!(now(channel.send_until(2, ready(()))), Some(Err(SendError::Timeout(2))));
    assert_eq!(now(channel.send_until(2, pending())), None);
}

/// G83, G85.
#[test]
fn closing_lets_out_what_is_inside_and_tells_who_waits() {
    let (channel, mut inbox) = bounded(1, Policy::Block);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    let mut waiting = channel.send_wait(2);
    assert!(poll(&mut waiting).is_pending());
    inbox.close();
    assert_eq!(poll(&mut waiting), Poll::Ready(Err(SendError::Closed(2))));
    assert_eq!(channel.send_system(3), Err(Closed(3)));
    assert_eq!(inbox.try_receive(), Received::Some(1));
    assert_eq!(inbox.try_receive(), Received::Closed);
    assert_eq!(now(inbox.receive()), Some(None));
}

/// G73, G83.
#[test]
fn the_last_channel_closes_and_wakes() {
    for kind in [LaneKind::Linked, LaneKind::Stack, LaneKind::Segmented] {
        let (channel, mut inbox) = channel::<u32>(MailboxOptions::lane(kind));
        let other = channel.clone();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        assert!(inbox.poll_receive(&cx).is_pending());
        drop(channel);
        assert_eq!(count.0.load(Relaxed), 0);
        other.send(1).unwrap();
        assert_eq!(count.0.load(Relaxed), 1);
        assert_eq!(inbox.poll_receive(&cx), Poll::Ready(Some(1)));
        assert!(inbox.poll_receive(&cx).is_pending());
        drop(other);
        assert_eq!(count.0.load(Relaxed), 2);
        assert_eq!(inbox.poll_receive(&cx), Poll::Ready(None));
    }
}

/// G71, G72: only the push that finds the lane parked wakes, and it wakes the fixed target.
#[test]
fn a_busy_receiver_is_not_woken() {
    let count = Arc::new(Count::default());
    let (channel, mut inbox) =
        channel_waking::<u32>(MailboxOptions::unbounded(), Waker::from(count.clone()));
    channel.send(1).unwrap();
    assert_eq!(count.0.load(Relaxed), 0, "nobody sleeps");
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(inbox.poll_receive(&cx), Poll::Ready(Some(1)));
    assert!(inbox.poll_receive(&cx).is_pending());
    channel.send(2).unwrap();
    channel.send(3).unwrap();
    assert_eq!(count.0.load(Relaxed), 1, "one wake for two messages");
}

/// G81, G96.
#[test]
fn a_batch_takes_what_is_there_up_to_its_size() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::unbounded().measured());
    for number in 0..5 {
        channel.send(number).unwrap();
    }
    assert_eq!(channel.len(), Some(5));
    let mut batch = Vec::new();
    let three = NonZeroU32::new(3).unwrap();
    assert_eq!(now(inbox.receive_batch(&mut batch, three)), Some(3));
    assert_eq!(now(inbox.receive_batch(&mut batch, three)), Some(2));
    assert_eq!(batch, [0, 1, 2, 3, 4]);
    assert_eq!(inbox.len(), Some(0));
    assert_eq!(now(inbox.receive_batch(&mut batch, three)), None);
    drop(channel);
    assert_eq!(now(inbox.receive_batch(&mut batch, three)), Some(0));
}

/// G81.
#[test]
fn a_message_wins_over_a_deadline_that_has_passed() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::unbounded());
    channel.send(1).unwrap();
    assert_eq!(now(inbox.receive_until(ready(()))), Some(Until::Message(1)));
    assert_eq!(now(inbox.receive_until(ready(()))), Some(Until::Deadline));
    assert_eq!(now(inbox.receive_until(pending())), None);
    drop(channel);
    assert_eq!(now(inbox.receive_until(ready(()))), Some(Until::Closed));
}

/// G83, G110.
#[test]
fn an_inbox_that_goes_drops_what_is_inside() {
    let witness = Arc::new(());
    let (channel, inbox) = channel::<Arc<()>>(MailboxOptions::unbounded());
    for _ in 0..100 {
        channel.send(witness.clone()).unwrap();
    }
    assert_eq!(Arc::strong_count(&witness), 101);
    drop(inbox);
    assert_eq!(Arc::strong_count(&witness), 1);
    assert!(matches!(channel.send(witness), Err(SendError::Closed(_))));
}

/// A counting waker, and its count.
fn counting() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), Waker::from(count))
}

/// G61: the default lane is the one that the measurements chose.
#[test]
fn the_default_lane_is_the_measured_one() {
    let measured = include_str!("../../../../benches/thresholds.toml");
    let name = format!("{:?}", LaneKind::default()).to_lowercase();
    assert!(measured.contains(&format!("default_lane = \"{name}\"")), "{name}");
    let (channel, _inbox) = channel::<u32>(MailboxOptions::unbounded());
    assert!(matches!(channel.mailbox.user, User::Segmented(_)));
}

/// G63, G81: a receiver that meets a message in flight comes back by itself, and is not parked:
/// senders that come meanwhile pay for no wake. `try_receive` says Empty.
#[test]
fn a_message_in_flight_keeps_the_receiver_awake() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::unbounded());
    let User::Segmented(lane) = &channel.mailbox.user else { panic!("the default lane") };
    let arrive = claimed_slot(lane, 7);
    assert_eq!(inbox.try_receive(), Received::Empty);
    let (count, waker) = counting();
    let cx = Context::from_waker(&waker);
    assert!(inbox.poll_receive(&cx).is_pending());
    assert_eq!(count.0.load(Relaxed), 1, "it comes back");
    channel.send(8).unwrap();
    channel.send_system(1).unwrap();
    assert_eq!(count.0.load(Relaxed), 1, "no lane is parked");
    arrive();
    let order: Vec<_> = (0..4).map(|_| inbox.try_receive()).collect();
    let some = Received::Some;
    assert_eq!(order, [some(1), some(7), some(8), Received::Empty]);
}

/// G72, G73: whichever lane it comes by, the first message wakes a receiver that sleeps; a park
/// cycle has at most one needless wake for each lane.
#[test]
fn a_park_cycle_costs_at_most_one_wake_a_lane() {
    for kind in [LaneKind::Linked, LaneKind::Stack, LaneKind::Segmented] {
        for system_first in [true, false] {
            let (count, waker) = counting();
            let (channel, mut inbox) = channel_waking::<u32>(MailboxOptions::lane(kind), waker);
            assert!(inbox.poll_receive(&Context::from_waker(Waker::noop())).is_pending());
            for number in 0..4 {
                if system_first == (number % 2 == 0) {
                    channel.send_system(number).unwrap();
                } else {
                    channel.send(number).unwrap();
                }
                let wakes = count.0.load(Relaxed);
                assert_eq!(wakes, (number + 1).min(2), "{kind:?}, system first: {system_first}");
            }
        }
    }
}

/// G73: a needless wake costs a turn and changes nothing.
#[test]
fn a_needless_wake_parks_again() {
    let (channel, mut inbox) = bounded(1, Policy::Fail);
    let (count, waker) = counting();
    let cx = Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(inbox.poll_receive(&cx).is_pending());
    }
    assert_eq!(count.0.load(Relaxed), 0);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    assert_eq!(count.0.load(Relaxed), 1);
    assert_eq!(inbox.poll_receive(&cx), Poll::Ready(Some(1)));
}

/// G80: a user lane with nothing in it does not hold up a long row of system messages.
#[test]
fn a_long_row_of_system_messages_is_not_interrupted_by_nothing() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::unbounded());
    for number in 0..100 {
        channel.send_system(number).unwrap();
    }
    for number in 0..100 {
        assert_eq!(inbox.try_receive(), Received::Some(number));
    }
    assert_eq!(inbox.try_receive(), Received::Empty);
}

/// G80: due timers count in the row, so that they cannot starve users either.
#[test]
fn timers_that_are_always_due_let_a_user_message_through() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::unbounded());
    channel.send(7).unwrap();
    let order: Vec<_> = (0..34).map(|_| inbox.try_receive_with(|| Some(0))).collect();
    let user = order.iter().position(|received| *received == Received::Some(7));
    assert_eq!(user, Some(32));
}

/// G81: a future dropped before it was ready has taken nothing.
#[test]
fn a_receive_that_is_dropped_takes_nothing() {
    let (channel, mut inbox) = channel::<u32>(MailboxOptions::unbounded());
    let mut batch = Vec::new();
    let (count, waker) = counting();
    let mut cx = Context::from_waker(&waker);
    {
        let mut receive = pin!(inbox.receive_batch(&mut batch, NonZeroU32::MIN));
        assert!(receive.as_mut().poll(&mut cx).is_pending());
        channel.send(1).unwrap();
        assert_eq!(count.0.load(Relaxed), 1, "it was woken for the message, and goes");
    }
    {
        let mut receive = pin!(inbox.receive_until(pending()));
        channel.send(2).unwrap();
        assert_eq!(receive.as_mut().poll(&mut cx), Poll::Ready(Until::Message(1)));
    }
    assert!(batch.is_empty());
    assert_eq!(inbox.try_receive(), Received::Some(2));
}

/// G83, G111: what waits in both lanes comes out, then Closed, for ever and by every way to ask.
#[test]
fn closed_is_said_for_ever_and_by_every_way_to_ask() {
    for kind in [LaneKind::Linked, LaneKind::Stack, LaneKind::Segmented] {
        let (channel, mut inbox) = channel::<u32>(MailboxOptions::lane(kind));
        channel.send(2).unwrap();
        channel.send_system(1).unwrap();
        inbox.close();
        assert_eq!(channel.send(3), Err(SendError::Closed(3)));
        assert_eq!(now(inbox.receive()), Some(Some(1)));
        assert_eq!(now(inbox.receive_until(ready(()))), Some(Until::Message(2)));
        for _ in 0..3 {
            assert_eq!(inbox.try_receive(), Received::Closed, "{kind:?}");
            assert_eq!(now(inbox.receive()), Some(None));
            assert_eq!(now(inbox.receive_until(ready(()))), Some(Until::Closed));
            assert_eq!(now(inbox.receive_batch(&mut Vec::new(), NonZeroU32::MIN)), Some(0));
            inbox.close();
        }
    }
}

/// G83, G85: without a free slot, and without room for one more that waits, a closed mailbox says
/// Closed; it would be full for ever.
#[test]
fn a_full_mailbox_that_is_closed_says_closed() {
    let (channel, mut inbox) = bounded(1, Policy::Block);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    while now(channel.send_until(2, ready(()))) != Some(Err(SendError::Full(2))) {}
    inbox.close();
    assert_eq!(channel.send(3), Err(SendError::Closed(3)));
    assert_eq!(now(channel.send_wait(4)), Some(Err(SendError::Closed(4))));
    for policy in [Policy::DropNew, Policy::DropOld, Policy::Fail] {
        let (channel, mut inbox) = bounded(1, policy);
        assert_eq!(channel.send(1), Ok(Sent::Delivered));
        inbox.close();
        assert_eq!(channel.send(2), Err(SendError::Closed(2)), "{policy:?}");
        assert_eq!(inbox.try_receive(), Received::Some(1), "{policy:?}");
        assert_eq!(channel.discarded(), Discarded::default(), "{policy:?}");
    }
}

/// G95: a send that is turned away since too many gave up is counted as any that met a full lane.
#[test]
fn every_message_handed_back_as_full_is_counted() {
    let (channel, _inbox) = bounded(1, Policy::Block);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    assert_eq!(channel.send(2), Err(SendError::Full(2)));
    assert_eq!(channel.discarded().refused, 1);
    while now(channel.send_until(3, ready(()))) != Some(Err(SendError::Full(3))) {}
    assert_eq!(channel.discarded().refused, 2);
}

/// G90: the system lane has no bound: a full user lane keeps no system message out.
#[test]
fn a_full_mailbox_takes_system_messages() {
    for policy in [Policy::Block, Policy::DropNew, Policy::DropOld, Policy::Fail] {
        let (channel, mut inbox) = bounded(1, policy);
        assert_eq!(channel.send(1_000), Ok(Sent::Delivered));
        for number in 0..1_000 {
            assert_eq!(channel.send_system(number), Ok(()), "{policy:?}");
        }
        assert_eq!(inbox.try_receive(), Received::Some(0));
    }
}

/// G92: a send that was granted and is dropped wakes the receiver, which hands the credit on.
#[test]
fn a_dropped_send_wakes_a_sleeping_receiver_to_hand_its_credit_on() {
    let (channel, mut inbox) = bounded(1, Policy::Block);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    let mut first = channel.send_wait(2);
    let mut second = channel.send_wait(3);
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    let (count, waker) = counting();
    let cx = Context::from_waker(&waker);
    assert_eq!(inbox.poll_receive(&cx), Poll::Ready(Some(1)));
    assert!(inbox.poll_receive(&cx).is_pending());
    drop(first);
    assert_eq!(count.0.load(Relaxed), 1);
    assert!(poll(&mut second).is_pending());
    assert!(inbox.poll_receive(&cx).is_pending());
    assert_eq!(poll(&mut second), Poll::Ready(Ok(Sent::Delivered)));
}

/// G93: with neither a free slot nor a message to evict, `DropOld` tries 64 times, with a hint
/// between two tries, and drops its own message; so no sender waits for another.
#[test]
fn drop_old_gives_up_after_its_tries_and_drops_its_own() {
    let options = MailboxOptions::bounded(1, Policy::DropOld).unwrap();
    for (options, tries) in [(options, 64), (options.evict_tries(2), 2)] {
        let (channel, mut inbox) = channel_in::<u32, Flaky>(options);
        let User::Ring(ring, _, _) = &channel.mailbox.user else { panic!("it is bounded") };
        let arrive = claimed_stamp(ring, 1);
        let mut gone = Vec::new();
        let given = hints(|| {
            let sent = channel.send_with(2, |message| gone.push(message));
            assert_eq!(sent, Ok(Sent::Dropped));
        });
        assert_eq!(given, tries - 1);
        assert_eq!(gone, [2]);
        let dropped = Discarded { dropped: 1, ..Discarded::default() };
        assert_eq!(channel.discarded(), dropped);
        arrive();
        assert_eq!(inbox.try_receive(), Received::Some(1));
    }
}

/// G96: the length is exact when nothing is in progress, and an unbounded lane keeps none unasked.
#[test]
fn a_length_is_known_where_it_costs_nothing_or_was_asked_for() {
    let (unmeasured, _inbox) = channel::<u32>(MailboxOptions::unbounded());
    assert_eq!((unmeasured.len(), unmeasured.is_empty()), (None, None));
    let measured = MailboxOptions::unbounded().measured();
    for options in [measured, MailboxOptions::bounded(4, Policy::Block).unwrap()] {
        let (channel, mut inbox) = channel::<u32>(options);
        assert_eq!((channel.is_empty(), inbox.is_empty()), (Some(true), Some(true)));
        channel.send_system(9).unwrap();
        for number in 0..3 {
            channel.send(number).unwrap();
        }
        assert_eq!((channel.len(), inbox.len()), (Some(3), Some(3)), "of the user lane");
        assert_eq!(inbox.try_receive(), Received::Some(9));
        assert_eq!(inbox.try_receive(), Received::Some(0));
        assert_eq!((channel.len(), inbox.len()), (Some(2), Some(2)));
    }
}

/// G110: both lanes are emptied, and a drop that panics keeps no other message.
#[test]
fn a_panicking_drop_does_not_keep_the_other_messages_of_either_lane() {
    let ring = MailboxOptions::bounded(8, Policy::Fail).unwrap();
    let lanes = [LaneKind::Linked, LaneKind::Stack, LaneKind::Segmented].map(MailboxOptions::lane);
    for options in lanes.into_iter().chain([ring]) {
        let drops = Arc::new(AtomicU32::new(0));
        let (channel, inbox) = channel::<Grenade>(options);
        for number in 0..6 {
            let grenade = Grenade { drops: drops.clone(), live: number % 3 == 0 };
            let sent = if number % 2 == 0 {
                channel.send_system(grenade).is_ok()
            } else {
                channel.send(grenade).is_ok()
            };
            assert!(sent);
        }
        assert!(catch_unwind(AssertUnwindSafe(|| drop(inbox))).is_err(), "the first panic goes on");
        assert_eq!(drops.load(Relaxed), 6);
        drop(channel);
        assert_eq!(drops.load(Relaxed), 6, "each once");
    }
}
