//! The users of one node: they hold a name, answer asks, and send and ask by name.

use std::time::Duration;

use machines::Choices;
use machines::cluster::ids::Ref;
use machines::cluster::router::io::{Answer, AskError};
use machines::cluster::swim::Snapshot;
use machines::cluster::swim::io::MemberEvent;
use machines::cluster::wire::Name;
use madsim::task::spawn_local;
use madsim::time::{TimeHandle, sleep};
use runtime::{Endpoint, Gone, Handle, Letter, Machine, Watch, Watched};

use super::record::Record;

/// Letters that an endpoint holds.
const LETTERS: u32 = 64;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// What an ask that must be answered carries.
const TAG_ASK: u32 = 2;
/// What a message carries.
const TAG_SEND: u32 = 1;

/// One process's user.
pub(super) struct Client<M: 'static> {
    pub(super) place: usize,
    pub(super) nodes: usize,
    /// Names the process among all of the run; the high half of its messages' ids.
    pub(super) process: u64,
    pub(super) handle: Handle<M>,
    pub(super) record: Record,
    pub(super) choices: Choices,
}

/// The name that node `place` holds.
pub(super) fn name(place: usize) -> Name {
    Name::new(&format!("worker-{place}")).expect("printable and short")
}

impl<M: Machine> Client<M> {
    /// Works until the node stops.
    pub(super) async fn work(mut self) {
        // Gone: the process ended, and its users with it.
        let _ = self.work_on().await;
    }

    async fn work_on(&mut self) -> Result<(), Gone> {
        self.handle.joined().await?;
        let endpoint = self.handle.open(LETTERS).await?.expect("one endpoint has room");
        let own = endpoint.reference();
        spawn_local(serve(endpoint, self.place, self.record.clone()));
        spawn_local(watch(self.handle.watch().await?, self.place, self.record.clone()));

        let registered = self.handle.register(name(self.place), own.actor, None, false).await?;
        self.record.note(self.place, &registered);
        for number in 1.. {
            let pause = 20 + self.choices.choose("client.pause", [0; 2], 400);
            sleep(Duration::from_millis(pause)).await;
            self.once(number).await?;
        }
        Ok(())
    }

    /// Looks a worker up, and sends it something or asks it.
    async fn once(&mut self, number: u64) -> Result<(), Gone> {
        let place = self.choices.choose("client.whom", [0; 2], self.nodes as u64);
        let place = usize::try_from(place).expect("an answer is below its bound");
        let found = self.handle.lookup(name(place)).await?;
        self.record.note(self.place, &found);
        let Some(to) = found else {
            self.record.count("name not found");
            return Ok(());
        };
        match self.choices.choose("client.op", [0; 2], 3) {
            0 => self.ask(to, number).await,
            _ => self.send(to, number).await,
        }
    }

    async fn send(&mut self, to: Ref, number: u64) -> Result<(), Gone> {
        let message = self.process << 32 | number;
        self.record.sends(message, to);
        let payload = [message.to_le_bytes(), number.to_le_bytes()].concat();
        let sent = self.handle.send_tracked(to, TAG_SEND, payload).await?;
        match sent {
            Ok(tracked) => {
                let (record, place) = (self.record.clone(), self.place);
                spawn_local(async move {
                    if let Ok(outcome) = tracked.outcome().await {
                        record.told(place, message, outcome);
                    }
                });
            }
            Err(refused) => {
                self.record.note(self.place, &refused);
                self.record.count("send refused");
            }
        }
        Ok(())
    }

    async fn ask(&mut self, to: Ref, number: u64) -> Result<(), Gone> {
        let (handle, record, place) = (self.handle.clone(), self.record.clone(), self.place);
        let (asked, paused) = (TimeHandle::current().elapsed(), record.paused(place));
        let question = (self.process << 32 | number).to_le_bytes().to_vec();
        spawn_local(async move {
            let result = handle.ask(to, PATIENCE, TAG_ASK, question.clone()).await;
            if let Ok(result) = result {
                let paused = record.paused(place) - paused;
                let took = TimeHandle::current().elapsed() - asked - paused;
                record.asked(place, &result, PATIENCE, took);
                check(&record, &question, &result);
            }
        });
        Ok(())
    }
}

/// The answer to a question is the question, reversed.
fn check(record: &Record, question: &[u8], result: &Result<Answer, AskError>) {
    let Ok(answer) = result else {
        return;
    };
    record.count("answered");
    if answer.payload.iter().rev().ne(question) || answer.status != 0 {
        record.broken(format!("C147: {question:?} was answered {answer:?}"));
    }
}

/// Takes what comes to an endpoint; questions are answered.
async fn serve<M: Machine>(mut endpoint: Endpoint<M>, place: usize, record: Record) {
    let own = endpoint.reference();
    while let Some(letter) = endpoint.receive().await {
        let Letter { from, request, payload, .. } = letter;
        if let Some(request) = request {
            record.note(place, &(from, &payload));
            endpoint.answer(request, 0, TAG_ASK, payload.into_iter().rev().collect());
        } else if let (Some(message), Some(number)) = (word(&payload, 0), word(&payload, 8)) {
            record.arrived(place, own, from, message, number);
        } else {
            record.broken(format!("C131: {payload:?} is not what anyone sent"));
        }
    }
}

fn word(payload: &[u8], at: usize) -> Option<u64> {
    let bytes = payload.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Watches the members: the stream has no holes (C143).
async fn watch(mut watch: Watch<Snapshot, MemberEvent>, place: usize, record: Record) {
    let mut next = None;
    while let Some(item) = watch.next().await {
        match item {
            Watched::Snapshot(snapshot) | Watched::Lagged { snapshot, .. } => {
                next = Some(snapshot.index);
            }
            Watched::Event(event) => {
                if next != Some(event.index) {
                    let index = event.index;
                    record.broken(format!("C143: node {place} saw {index}, due was {next:?}"));
                }
                next = Some(event.index + 1);
            }
        }
    }
}
