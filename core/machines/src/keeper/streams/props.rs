//! K444: whatever happens to the node and to a reader, the reader sees each event once, in order.
//! Method: a crowd of readers of all kinds on a keeper whose disk completes, cuts and starts again
//! as the steps say. The oracle is the list of all events that were decided, cut back where a
//! crash took some; it shares nothing with the files.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::keeper::io::Reader;
use crate::keeper::rig::Rig;
use crate::keeper::{Phase, Waiting};
use crate::kernel::Code;
use crate::kernel::CommandBody;
use crate::kernel::event::Event;
use crate::kernel::ids::{ProcessId, UserId};
use crate::kernel::principal::{Principal, Role};
use crate::kernel::rig::submit;
use crate::kernel::stream::{Batch, Detail, Filter, Numbered, Reading};

/// What can happen.
#[derive(Clone, Debug)]
enum Do {
    /// A user submits so many processes.
    Submit(u8, u8),
    /// So many operations of the disk complete.
    Complete(u8),
    /// Time passes, in milliseconds.
    Pass(u16),
    /// The node starts again; with or without the power gone.
    Restart(bool),
    /// A reader wants more; it connects if it has to.
    Want(usize),
    /// A reader goes away.
    Leave(usize),
}

/// After every so many batches a copy of the world loses its power, to see what was durable.
const CUTS: u64 = 6;

/// How a reader says where it is when it comes back.
type Back = fn(u64) -> u64;

/// One who reads, through all reconnections.
struct Person {
    by: Principal,
    filter: Filter,
    detail: Detail,
    follow: bool,
    cursor: Option<u64>,
    open: Option<Reader>,
    /// Whether the reader that is open was asked for more.
    asked: bool,
    /// Events shown.
    seen: u64,
}

fn user(name: &str) -> UserId {
    UserId::parse("user", name).unwrap()
}

fn people() -> Vec<Person> {
    let person = |name: &str, role, cursor, filter, detail, follow| Person {
        by: Principal::new(user(name), &[role]),
        filter,
        detail,
        follow,
        cursor,
        open: None,
        asked: false,
        seen: 0,
    };
    let all = Filter::default();
    let kind = Filter { kind: Some("process.state".into()), ..all.clone() };
    let pid = Filter { pid: ProcessId::parse("pid", "u0-3").ok(), ..all.clone() };
    let of = Filter { user: Some(user("u1")), ..all.clone() };
    vec![
        person("eve", Role::Operator, Some(0), all.clone(), Detail::Full, true),
        person("eve", Role::Operator, None, all.clone(), Detail::Brief, true),
        person("u0", Role::User, Some(0), all.clone(), Detail::Full, true),
        person("eve", Role::Operator, Some(0), kind, Detail::Full, true),
        person("eve", Role::Operator, Some(0), pid, Detail::Full, false),
        person("u1", Role::User, Some(0), of, Detail::Brief, false),
    ]
}

/// The rig, who reads, and all that was decided.
struct Play {
    rig: Rig,
    people: Vec<Person>,
    decided: BTreeMap<u64, Event>,
    submitted: u64,
    batches: u64,
    back: Back,
}

impl Play {
    fn new(back: Back) -> Self {
        let rig = Rig::new();
        let mut play = Self {
            rig,
            people: people(),
            decided: BTreeMap::new(),
            submitted: 0,
            batches: 0,
            back,
        };
        // The start was decided before anybody could look.
        play.rig.restart(true);
        let started = play.rig.keeper.kernel().unwrap().last_event();
        assert_eq!(started, 2);
        play.people.iter_mut().for_each(|person| {
            person.cursor = person.cursor.map(|_| started);
        });
        play
    }

    /// Writes down what was decided and is not durable yet: before it is, everything is held.
    fn note(&mut self) {
        let Phase::Running(running) = &self.rig.keeper.phase else {
            return;
        };
        for (_, waiting) in &running.held {
            if let Waiting::Events { first, events, .. } = waiting {
                self.decided.extend((*first..).zip(events.iter().cloned()));
            }
        }
    }

    fn step(&mut self, step: &Do) -> Result<(), String> {
        match step {
            Do::Submit(who, count) => {
                for _ in 0..*count {
                    let name = format!("u{who}-{}", self.submitted);
                    self.submitted += 1;
                    let by = Principal::new(user(&format!("u{who}")), &[Role::User]);
                    self.rig.send(&by, CommandBody::Submit(Box::new(submit(&name))));
                    self.note();
                    let pid = ProcessId::parse("pid", &name).unwrap();
                    self.rig.send(&by, CommandBody::Schedule { pid });
                    self.note();
                }
            }
            Do::Complete(count) => {
                for _ in 0..*count {
                    self.rig.step();
                    self.note();
                    self.hear()?;
                }
            }
            Do::Pass(millis) => {
                self.rig.pass(Duration::from_millis(u64::from(*millis)));
                self.note();
            }
            Do::Restart(power) => self.restart(*power),
            Do::Want(who) => self.want(*who),
            Do::Leave(who) => {
                if let Some(reader) = self.people[*who].open.take() {
                    self.people[*who].asked = false;
                    self.rig.input(crate::keeper::io::Input::Close(reader));
                }
            }
        }
        self.hear()
    }

    fn restart(&mut self, power: bool) {
        self.rig.restart(power);
        let recovered = self.rig.reports.last().unwrap().events;
        self.decided.retain(|number, _| *number <= recovered);
        for person in &mut self.people {
            (person.open, person.asked) = (None, false);
        }
        // The start itself is decided and durable by now.
        let events = self.rig.events;
        assert_eq!(events, recovered + 1);
        let started = self.rig.last.clone().expect("the start is an event");
        self.decided.insert(events, started);
    }

    fn want(&mut self, who: usize) {
        let person = &mut self.people[who];
        let reader = match person.open {
            Some(reader) => reader,
            None => {
                let cursor = person.cursor.map(|cursor| (self.back)(cursor));
                let Person { filter, detail, follow, .. } = person;
                let (filter, detail, follow) = (filter.clone(), *detail, *follow);
                let Phase::Running(running) = &self.rig.keeper.phase else {
                    return;
                };
                person.cursor.get_or_insert(running.streams.places.durable().event);
                let reading = Reading { cursor, follow, filter, detail };
                let reader = self.rig.open(&person.by, reading);
                person.open = Some(reader);
                reader
            }
        };
        let person = &mut self.people[who];
        if !person.asked {
            person.asked = true;
            self.rig.input(crate::keeper::io::Input::Want(reader));
        }
    }

    /// Compares what readers were told with what there is.
    fn hear(&mut self) -> Result<(), String> {
        for (reader, why) in std::mem::take(&mut self.rig.ended) {
            let who = self.people.iter_mut().find(|person| person.open == Some(reader));
            let person = who.ok_or("a reader that has left is told of its end")?;
            (person.open, person.asked) = (None, false);
            let cursor = person.cursor.unwrap_or(0);
            if why.code != Code::CursorTooOld {
                return Err(format!("{why}"));
            }
            let oldest = why.text.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
            let oldest = oldest.ok_or_else(|| why.text.clone())?;
            if oldest <= cursor + 1 {
                return Err(format!("cursor {cursor} is not too old: {why}"));
            }
            person.cursor = Some(oldest - 1);
        }
        for (reader, batch) in std::mem::take(&mut self.rig.batches) {
            let Some(who) = self.people.iter().position(|person| person.open == Some(reader))
            else {
                return Err("a batch for a reader that has left".to_owned());
            };
            self.check(who, &batch)?;
        }
        Ok(())
    }

    fn check(&mut self, who: usize, batch: &Batch) -> Result<(), String> {
        let person = &mut self.people[who];
        let from = person.cursor.unwrap_or(0);
        let there = self.decided.range(from + 1..(batch.cursor + 1).max(from + 1));
        let there: Vec<(&u64, &Event)> = there.collect();
        if from + there.len() as u64 != batch.cursor {
            return Err(format!("reader {who}: {from} to {} was not decided", batch.cursor));
        }
        let expected: Vec<Numbered> = there
            .into_iter()
            .filter(|(_, event)| person.by.may_read(event) && person.filter.picks(event))
            .map(|(number, event)| Numbered {
                number: *number,
                event: person.detail.of(event.clone()),
            })
            .collect();
        if expected != batch.events {
            let numbers = |events: &[Numbered]| -> Vec<u64> {
                events.iter().map(|numbered| numbered.number).collect()
            };
            let (wanted, got) = (numbers(&expected), numbers(&batch.events));
            return Err(format!("reader {who} from {from}: {got:?}, not {wanted:?}"));
        }
        person.cursor = Some(batch.cursor);
        person.seen += batch.events.len() as u64;
        person.asked = false;
        if batch.last {
            person.open = None;
        }
        self.batches += 1;
        if !self.batches.is_multiple_of(CUTS) {
            return Ok(());
        }
        let mut disk = self.rig.disk.clone();
        disk.cut();
        let mut after = Rig::on(disk);
        after.settle();
        let kept = after.reports.last().map_or(0, |report| report.events);
        match kept >= batch.cursor {
            true => Ok(()),
            false => Err(format!("event {} was told, and a crash takes it", batch.cursor)),
        }
    }

    /// Lets all who follow read all that there is.
    fn end(&mut self) -> Result<(), String> {
        self.rig.settle();
        self.note();
        let all = self.rig.events;
        for who in 0..self.people.len() {
            for _ in 0..10_000 {
                if self.people[who].cursor.is_some_and(|cursor| cursor >= all) {
                    break;
                }
                let before = self.people[who].cursor;
                self.want(who);
                self.rig.settle();
                self.hear()?;
                // Of what it does not want it is not told while nothing else comes.
                if self.people[who].cursor == before && self.people[who].asked {
                    break;
                }
            }
        }
        let first = &self.people[0];
        match first.cursor == Some(all) {
            true => Ok(()),
            false => Err(format!("who reads all is at {:?} of {all}", first.cursor)),
        }
    }
}

fn run(steps: &[Do], back: Back) -> Result<u64, String> {
    let mut play = Play::new(back);
    for step in steps {
        play.step(step)?;
    }
    play.end()?;
    Ok(play.people.iter().map(|person| person.seen).sum())
}

fn step() -> impl Strategy<Value = Do> {
    prop_oneof![
        4 => (0..2_u8, 1..20_u8).prop_map(|(who, count)| Do::Submit(who, count)),
        6 => (1..12_u8).prop_map(Do::Complete),
        1 => (1..50_u16).prop_map(Do::Pass),
        1 => any::<bool>().prop_map(Do::Restart),
        8 => (0..6_usize).prop_map(Do::Want),
        1 => (0..6_usize).prop_map(Do::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// K331, K332, K444.
    #[test]
    fn a_reader_sees_each_event_once_in_order_and_durable(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        if let Err(told) = run(&steps, |cursor| cursor) {
            prop_assert!(false, "{}", told);
        }
    }
}

/// Crashes, reconnections and old segments that go, all at once.
fn long() -> Vec<Do> {
    let mut steps = Vec::new();
    for round in 0..12_u8 {
        steps.push(Do::Submit(round % 2, 17));
        steps.push(Do::Complete(200));
        steps.extend((0..6).map(Do::Want));
        steps.push(Do::Complete(7));
        steps.push(Do::Leave(usize::from(round) % 6));
        steps.push(Do::Submit(round % 2, 2));
        steps.push(Do::Complete(1));
        steps.push(Do::Restart(round % 3 == 0));
        steps.extend((0..6).map(Do::Want));
        steps.push(Do::Complete(100));
    }
    steps
}

#[test]
fn the_long_story_is_read_by_all() {
    assert!(run(&long(), |cursor| cursor).unwrap() > 1_000);
}

/// A twin that forgets one event when it comes back, or asks for one twice, is caught.
#[test]
fn a_reader_that_comes_back_to_the_wrong_place_is_caught() {
    let skips = run(&long(), |cursor| cursor + 1).unwrap_err();
    assert!(skips.contains("not ["), "{skips}");
    let repeats = run(&long(), |cursor| cursor.saturating_sub(1)).unwrap_err();
    assert!(repeats.contains("not ["), "{repeats}");
}
