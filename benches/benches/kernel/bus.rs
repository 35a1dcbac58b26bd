//! `kernel/bus` (K462): an event is published to 100 subscribers, beside 100 pushes into bounded
//! rings. Both push shared messages into queues that have room, and are emptied in between.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::rig::{user, worker};
use benches::{sized, turns};
use machines::kernel::Time;
use machines::kernel::bus::io::{
    CallId, ConnectionId, Input, Output, Overflow, Payload, Subscribe, SubscriptionNumber,
};
use machines::kernel::bus::pattern::Pattern;
use machines::kernel::bus::{Bus, BusConfig};
use machines::kernel::ids::MessageType;
use sync::lane::Pop;
use sync::ring::Ring;

const SUBSCRIBERS: u32 = 100;
const QUEUE: u32 = 256;

/// A bus with subscribers that take nothing until they are asked to.
struct Station {
    bus: Bus,
    subscriptions: Vec<SubscriptionNumber>,
    kind: MessageType,
    payload: Payload,
}

impl Station {
    fn new() -> Self {
        let kind = MessageType::parse("type", "order.placed").expect("it is a type");
        let bus = Bus::new(BusConfig::standard());
        let payload = [7; 64].as_slice().into();
        let mut station = Self { bus, subscriptions: Vec::new(), kind, payload };
        for number in 0..SUBSCRIBERS {
            station.subscribe(number);
        }
        station
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.bus.handle(Time::from_millis(1), input);
        std::iter::from_fn(|| self.bus.poll()).collect()
    }

    fn subscribe(&mut self, number: u32) {
        let outputs = self.tell(Input::Subscribe(Subscribe {
            call: CallId(number.into()),
            by: worker(),
            connection: ConnectionId(number.into()),
            types: vec![Pattern::parse("types", "order.placed").expect("it is a pattern")],
            handles: Vec::new(),
            overflow: Overflow::DropOldest,
        }));
        let Some(Output::Subscribed { result: Ok(number), .. }) = outputs.first() else {
            panic!("{outputs:?}");
        };
        self.subscriptions.push(*number);
    }

    fn publish(&mut self, events: u32) -> Duration {
        let inputs: Vec<_> = (0..events)
            .map(|number| Input::Publish {
                call: CallId(number.into()),
                by: user(1),
                kind: self.kind.clone(),
                payload: Arc::clone(&self.payload),
                to_all: false,
            })
            .collect();
        let start = OnCore::thread();
        for input in inputs {
            self.bus.handle(Time::from_millis(1), input);
            while let Some(output) = self.bus.poll() {
                black_box(output);
            }
        }
        let took = start.elapsed();
        self.empty(events);
        took
    }

    fn empty(&mut self, events: u32) {
        for subscription in self.subscriptions.clone() {
            let outputs = self.tell(Input::Pull { subscription, credit: events });
            assert_eq!(outputs.len(), events as usize, "everyone hears everything");
        }
    }
}

/// What a ring holds: as large as an event of the bus.
type Shared = Arc<[u64; 16]>;

fn push_rings(rings: &[Ring<Shared>], events: u32) -> Duration {
    let start = OnCore::thread();
    for number in 0..events {
        let message: Shared = Arc::new([number.into(); 16]);
        for ring in rings {
            assert!(ring.push(Arc::clone(&message)).is_ok(), "there is room");
        }
    }
    let took = start.elapsed();
    for ring in rings {
        let taken = std::iter::from_fn(|| match ring.pop() {
            Pop::Some(message) => Some(message),
            Pop::Empty | Pop::InFlight | Pop::Closed => None,
        });
        assert_eq!(taken.count(), events as usize, "everything is there");
    }
    took
}

pub(crate) fn run(results: &mut Results) {
    let events = sized(200, 5);
    let mut station = Station::new();
    let rings: Vec<_> = (0..SUBSCRIBERS).map(|_| Ring::new(QUEUE)).collect();
    Case::new("kernel/bus", events.into(), Unit::NanosecondsEach)
        .timed("bus", || station.publish(events))
        .timed("rings", || push_rings(&rings, events))
        .measure(turns(25), results);
}
