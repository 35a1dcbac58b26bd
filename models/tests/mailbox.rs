//! Goal: the two lanes, the policies, the waker and the end of the last channel fit together.
//! Method: `Channel` and `Inbox` themselves, under loom, with a receiver that sleeps; shuttle with
//! 8 senders.

use models::atomics::Weakening;
use models::{Bound, Calm, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak, twin};
use sync::mailbox::channel_in;
use sync::{Channel, Inbox, LaneKind, MailboxOptions, Policy, Received, Sent};

/// Whose message, and which.
type Item = (usize, u32);
/// The two ends.
type Ends<C> = (Calm<Channel<Item, C>>, Calm<Inbox<Item, C>>);

fn ends<C: Checker>(options: MailboxOptions) -> Ends<C> {
    let (channel, inbox) = channel_in(options);
    (Calm::new(channel), Calm::new(inbox))
}

/// The user lane and the system lane each have a sender; the receiver sleeps, gets both, and is
/// told that the last channel has gone.
fn both_lanes<C: Checker>(options: MailboxOptions) {
    let (channel, mut inbox) = ends::<C>(options);
    let user = channel.clone();
    let first = C::spawn(move || assert!(user.send((0, 0)).is_ok()));
    let second = C::spawn(move || assert!(channel.send_system((1, 0)).is_ok()));
    let mut seen = [false; 2];
    while let Some((sender, _)) = C::block_on(inbox.receive()) {
        assert!(!seen[sender], "nothing twice");
        seen[sender] = true;
    }
    assert_eq!(seen, [true; 2], "nothing lost");
    first();
    second();
}

/// Senders wait for credit; the receiver gets all, in the order of each sender, and then the end.
fn blocks<C: Checker>(capacity: u32, senders: usize, messages: u32) {
    let options = MailboxOptions::bounded(capacity, Policy::Block).expect("a sound capacity");
    let (channel, mut inbox) = ends::<C>(options);
    let mut joins = Vec::new();
    for sender in 0..senders {
        let channel = channel.clone();
        joins.push(C::spawn(move || {
            for number in 0..messages {
                let sent = C::block_on(channel.send_wait((sender, number)));
                assert_eq!(sent, Ok(Sent::Delivered));
            }
        }));
    }
    drop(channel);
    let mut next = vec![0; senders];
    while let Some((sender, number)) = C::block_on(inbox.receive()) {
        assert_eq!(number, next[sender], "per-sender FIFO");
        next[sender] += 1;
    }
    assert!(next.iter().all(|&count| count == messages), "nothing is lost");
    for join in joins {
        join();
    }
}

/// Senders evict; each message is received or counted as evicted or dropped.
fn evicts<C: Checker>(capacity: u32, senders: usize, messages: u32) {
    let options = MailboxOptions::bounded(capacity, Policy::DropOld)
        .expect("a sound capacity")
        .evict_tries(2);
    let (channel, mut inbox) = ends::<C>(options);
    let mut joins = Vec::new();
    for sender in 0..senders {
        let channel = channel.clone();
        joins.push(C::spawn(move || {
            for number in 0..messages {
                assert!(channel.send((sender, number)).is_ok());
            }
        }));
    }
    drop(channel);
    let mut received = 0;
    while C::block_on(inbox.receive()).is_some() {
        received += 1;
    }
    for join in joins {
        join();
    }
    let discarded = inbox.discarded();
    let total = u64::try_from(senders).expect("a few senders") * u64::from(messages);
    assert_eq!(received + discarded.evicted + discarded.dropped, total, "each message once");
}

/// A waiting sender against an inbox that goes: it is told, and does not sleep on.
fn inbox_goes<C: Checker>() {
    let options = MailboxOptions::bounded(1, Policy::Block).expect("a sound capacity");
    let (channel, inbox) = ends::<C>(options);
    assert_eq!(channel.send((0, 0)), Ok(Sent::Delivered));
    let join = C::spawn(move || {
        assert!(C::block_on(channel.send_wait((0, 1))).is_err(), "nobody took the first message");
    });
    drop(inbox);
    join();
}

/// A receiver that only tries gets everything that was sent before the channel was dropped.
fn tries<C: Checker>() {
    let (channel, mut inbox) = ends::<C>(MailboxOptions::lane(LaneKind::Stack));
    let join = C::spawn(move || assert!(channel.send((0, 0)).is_ok()));
    let mut received = 0;
    loop {
        match inbox.try_receive() {
            Received::Some(_) => received += 1,
            Received::Empty => C::spin_hint(),
            Received::Closed => break,
        }
    }
    assert_eq!(received, 1, "what was sent before the end came before it");
    join();
}

/// G72, G73, G402: for both lanes of a mailbox.
#[test]
fn both_lanes_wake_one_receiver() {
    for kind in [LaneKind::Stack, LaneKind::Linked] {
        Loom::check(&format!("mailbox both lanes {kind:?}"), Bound::Preemptions(2), move || {
            both_lanes::<Loom>(MailboxOptions::lane(kind));
        });
    }
    Loom::check("mailbox both lanes ring", Bound::Preemptions(1), || {
        both_lanes::<Loom>(MailboxOptions::bounded(1, Policy::Fail).expect("a sound capacity"));
    });
    Shuttle::check("mailbox both lanes shuttle", Bound::Full, || {
        both_lanes::<Shuttle>(MailboxOptions::unbounded());
    });
}

/// G85, G91, G405.
#[test]
fn block_loses_nothing_and_ends() {
    Loom::check("mailbox block 1x2", Bound::Preemptions(2), || blocks::<Loom>(1, 1, 2));
    Shuttle::check("mailbox block shuttle", Bound::Full, || blocks::<Shuttle>(2, 8, 10));
}

/// G87, G93, G95, G401.
#[test]
fn drop_old_takes_each_message_once() {
    Loom::check("mailbox evicts", Bound::Preemptions(2), || evicts::<Loom>(1, 1, 2));
    Shuttle::check("mailbox evicts shuttle", Bound::Full, || evicts::<Shuttle>(2, 8, 10));
}

/// G83, G85, G403.
#[test]
fn a_waiting_sender_is_told_of_the_end() {
    Loom::check("mailbox inbox goes", Bound::Preemptions(2), inbox_goes::<Loom>);
    Shuttle::check("mailbox inbox goes shuttle", Bound::Full, inbox_goes::<Shuttle>);
}

/// G83, G403.
#[test]
fn the_last_channel_ends_the_mailbox() {
    Loom::check("mailbox tries", Bound::Preemptions(3), tries::<Loom>);
}

/// A model that cannot fail proves nothing: without its orderings, the mailbox must be caught.
#[test]
fn notices_lost_orderings() {
    twin("mailbox without orderings", Weakening::Everything, "", Bound::Preemptions(2), || {
        blocks::<Weak>(1, 1, 2);
    });
}
