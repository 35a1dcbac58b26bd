//! Unit tests.

use std::future::{Future, pending, ready};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use super::*;

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

#[test]
fn options_that_mean_nothing_are_refused() {
    for capacity in [0, CAPACITY_MAX + 1, u32::MAX] {
        let refused = MailboxOptions::bounded(capacity, Policy::Fail);
        assert_eq!(refused.unwrap_err(), BadOption::Capacity(capacity));
    }
}

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

#[test]
fn fail_hands_the_message_back_and_counts() {
    let (channel, mut inbox) = bounded(1, Policy::Fail);
    assert_eq!(channel.send(1), Ok(Sent::Delivered));
    assert_eq!(channel.send(2), Err(SendError::Full(2)));
    assert_eq!(channel.discarded().refused, 1);
    assert_eq!(inbox.try_receive(), Received::Some(1));
    assert_eq!(channel.send(3), Ok(Sent::Delivered));
}

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

#[test]
fn a_send_until_gives_the_message_back_at_its_deadline() {
    let (channel, _inbox) = bounded(1, Policy::Block);
    assert_eq!(now(channel.send_until(1, ready(()))), Some(Ok(Sent::Delivered)));
    assert_eq!(now(channel.send_until(2, ready(()))), Some(Err(SendError::Timeout(2))));
    assert_eq!(now(channel.send_until(2, pending())), None);
}

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
