//! Watchers of an event stream: a snapshot, then every later event, and never a silent hole (C45).

use std::sync::{Arc, Weak};

use sync::{Channel, Inbox, MailboxOptions, Policy, SendError, channel};

/// One thing a watcher sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched<S, E> {
    /// Everything up to now; comes first, once.
    Snapshot(S),
    /// What happened next.
    Event(E),
    /// The watcher was too slow: `missed` events were left out, and this is how things are now.
    Lagged {
        /// How many events are missing between the last one seen and the snapshot.
        missed: u64,
        /// Everything up to now.
        snapshot: S,
    },
}

/// The watcher's end of a stream of `E`, with snapshots `S`.
pub struct Watch<S, E> {
    items: Inbox<Watched<S, E>>,
    /// Tells the loop, by its end, that nobody watches any more.
    _alive: Arc<()>,
}

impl<S: Send, E: Send> Watch<S, E> {
    /// Waits for the next item; `None` once the node has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Watched<S, E>> {
        self.items.receive().await
    }
}

/// The loop's end of all watchers of one stream.
pub(crate) struct Watchers<K, S, E> {
    buffer: u32,
    all: Vec<Watcher<K, S, E>>,
}

/// The loop's end of one watcher.
struct Watcher<K, S, E> {
    /// Chooses what it sees.
    key: K,
    items: Channel<Watched<S, E>>,
    alive: Weak<()>,
    /// Events that it was to see, those left out included: the index of the next one.
    next: u64,
    /// Events left out since the mailbox was full; while it is not 0, no event goes in.
    missed: u64,
}

impl<K, S: Send, E: Send> Watchers<K, S, E> {
    /// No watchers yet; each may fall `buffer` events behind.
    pub(crate) const fn new(buffer: u32) -> Self {
        Self { buffer, all: Vec::new() }
    }

    /// Adds a watcher, which sees `snapshot` first.
    pub(crate) fn add(&mut self, key: K, snapshot: S) -> Watch<S, E> {
        self.all.retain(Watcher::is_alive);
        let options = MailboxOptions::bounded(self.buffer, Policy::Fail)
            .expect("1 to 2^20 is a capacity: the configuration was checked");
        let (items, inbox) = channel(options);
        let first = items.send(Watched::Snapshot(snapshot));
        assert!(first.is_ok(), "a new mailbox has room for one item");
        let alive = Arc::new(());
        self.all.push(Watcher { key, items, alive: Arc::downgrade(&alive), next: 0, missed: 0 });
        Watch { items: inbox, _alive: alive }
    }

    /// Tells an event to all watchers, as each sees it: by its key, and by how many it was to see
    /// before. Those that are gone are forgotten.
    pub(crate) fn tell(&mut self, seen: impl Fn(&K, u64) -> Option<E>) {
        for watcher in &mut self.all {
            if let Some(event) = seen(&watcher.key, watcher.next) {
                watcher.tell(event);
            }
        }
        self.all.retain(Watcher::is_alive);
    }

    /// Gives a new snapshot to those that missed events and have room again.
    ///
    /// Called when the machine is drained: then a snapshot holds exactly the events told so far.
    pub(crate) fn resync(&mut self, snapshot: impl Fn(&K, u64) -> S) {
        for watcher in &mut self.all {
            let room = watcher.items.len() < Some(u64::from(self.buffer));
            if watcher.missed > 0 && room {
                let snapshot = snapshot(&watcher.key, watcher.next);
                let lagged = Watched::Lagged { missed: watcher.missed, snapshot };
                if watcher.items.send(lagged).is_ok() {
                    watcher.missed = 0;
                }
            }
        }
    }

    /// Says whether some watcher waits for a new snapshot.
    pub(crate) fn are_behind(&self) -> bool {
        self.all.iter().any(|watcher| watcher.missed > 0)
    }
}

impl<K, S: Send, E: Send> Watcher<K, S, E> {
    fn is_alive(&self) -> bool {
        self.alive.strong_count() > 0
    }

    fn tell(&mut self, event: E) {
        self.next += 1;
        if self.missed > 0 {
            self.missed += 1;
            return;
        }
        match self.items.send(Watched::Event(event)) {
            // Closed: nobody sees it, and `is_alive` will say so.
            Ok(_) | Err(SendError::Closed(_)) => {}
            Err(SendError::Full(_) | SendError::Timeout(_)) => self.missed = 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn next(watch: &mut Watch<u32, u32>) -> Option<Watched<u32, u32>> {
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(watch.next()).poll(&mut cx) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        }
    }

    /// C45: a watcher that falls behind gets Lagged and a new snapshot: never a silent hole.
    #[test]
    fn a_slow_watcher_learns_how_much_it_missed_and_how_things_are() {
        let mut watchers = Watchers::new(3);
        let mut watch = watchers.add((), 0);
        for event in 1..=5 {
            watchers.tell(|(), _| Some(event));
        }
        assert!(watchers.are_behind());

        watchers.resync(|(), _| panic!("there is no room for a snapshot yet"));
        assert_eq!(next(&mut watch), Some(Watched::Snapshot(0)));
        assert_eq!(next(&mut watch), Some(Watched::Event(1)));
        watchers.tell(|(), _| Some(6));
        watchers.resync(|(), _| 6);
        watchers.tell(|(), _| Some(7));

        assert_eq!(next(&mut watch), Some(Watched::Event(2)));
        let lagged = Watched::Lagged { missed: 4, snapshot: 6 };
        assert_eq!(next(&mut watch), Some(lagged));
        assert_eq!(next(&mut watch), Some(Watched::Event(7)));
        assert!(!watchers.are_behind());
    }

    #[test]
    fn watchers_see_only_what_they_want_and_are_forgotten_when_gone() {
        let mut watchers = Watchers::new(8);
        let mut even = watchers.add(0, 0);
        let odd = watchers.add(1, 0);
        assert_eq!(next(&mut even), Some(Watched::Snapshot(0)));

        drop(odd);
        for event in 1..=4 {
            watchers.tell(|rest, _| (event % 2 == *rest).then_some(event));
        }
        assert_eq!(watchers.all.len(), 1);
        assert_eq!(next(&mut even), Some(Watched::Event(2)));
        assert_eq!(next(&mut even), Some(Watched::Event(4)));
        assert_eq!(next(&mut even), None);
    }
}
