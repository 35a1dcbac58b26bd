//! What befalls the nodes of a run, and what must be true in the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use machines::Choices;
use machines::cluster::ids::{Life, NodeId, Ref};
use machines::cluster::swim::Snapshot;
use machines::cluster::wire::State;
use madsim::net::NetSim;
use madsim::runtime::Handle as Supervisor;
use madsim::task::NodeId as Host;
use madsim::time::{TimeHandle, sleep};

use super::client::name;
use super::{NODES, Process, Run};

/// How long faults strike.
const TROUBLE: Duration = Duration::from_secs(40);
/// After the last fault, members and names must agree within this: H(3) + X(3)·⌈log₂3⌉ of C140.
const HEAL: Duration = Duration::from_secs(90);
/// How often a process that is over is started again, and agreement is looked for.
const LOOK: Duration = Duration::from_millis(250);

/// Tells the story of `run`: trouble, healing, agreement.
pub(super) async fn tell(run: &Arc<Run>, hosts: &[Host], network: &NetSim) {
    let mut choices = run.choices.scoped(u64::MAX);
    while TimeHandle::current().elapsed() < TROUBLE {
        let pause = choices.choose("story.pause", [0; 2], 5_000);
        live(run, hosts, Duration::from_millis(pause)).await;
        trouble(run, hosts, network, &mut choices).await;
    }
    run.faults.heal();
    run.record.note(NODES, &"healed");

    let healed = TimeHandle::current().elapsed();
    let mut disagreement = Some("nobody looked".to_owned());
    while disagreement.is_some() && TimeHandle::current().elapsed() < healed + HEAL {
        live(run, hosts, LOOK).await;
        disagreement = disagree(run).await;
    }
    match disagreement {
        Some(what) => {
            run.record.broken(format!("C140, C149: {HEAL:?} after the last fault, {what}"))
        }
        None => {
            let took = TimeHandle::current().elapsed() - healed;
            run.record.note(NODES, &("agreed", took));
        }
    }
    // Users go on for a while, undisturbed: whatever is in flight gets its outcome.
    live(run, hosts, Duration::from_secs(5)).await;
    for place in 0..NODES {
        digest(run, place).await;
    }
}

/// Lets time pass; a process that is over is started again.
async fn live(run: &Run, hosts: &[Host], span: Duration) {
    let end = TimeHandle::current().elapsed() + span;
    loop {
        for (place, host) in run.places.iter().zip(hosts) {
            let over = matches!(*place.process(), Process::Over);
            if over {
                start(place, *host);
            }
        }
        let now = TimeHandle::current().elapsed();
        if now >= end {
            return;
        }
        sleep((end - now).min(LOOK)).await;
    }
}

/// Starts the process of a node that was killed or is over.
fn start(place: &super::Place, host: Host) {
    *place.process() = Process::Starting;
    // A restart without a kill would find its addresses taken.
    Supervisor::current().kill(host);
    Supervisor::current().restart(host);
}

/// One trouble at a time, so that two of three are always well (T22).
async fn trouble(run: &Run, hosts: &[Host], network: &NetSim, choices: &mut Choices) {
    let kind = choices.choose("story.kind", [0; 2], 5);
    let victim = choices.choose("story.victim", [0; 2], NODES as u64);
    let victim = usize::try_from(victim).expect("an answer is below its bound");
    let span = Duration::from_millis(100 + choices.choose("story.span", [0; 2], 12_000));
    let (place, host) = (&run.places[victim], hosts[victim]);
    let others = || hosts.iter().copied().filter(move |other| *other != host);
    match kind {
        0 => {}
        1 => {
            run.record.count("killed");
            run.record.note(victim, &"killed");
            *place.process() = Process::Starting;
            Supervisor::current().kill(host);
            live(run, hosts, span).await;
            run.record.note(victim, &"restarted");
            start(place, host);
        }
        2 => {
            run.record.count("paused");
            run.record.note(victim, &"paused");
            Supervisor::current().pause(host);
            let paused = TimeHandle::current().elapsed();
            live(run, hosts, span / 4).await;
            let span = TimeHandle::current().elapsed() - paused;
            run.record.was_paused(victim, span);
            Supervisor::current().resume(host);
        }
        3 => {
            run.record.count("cut off");
            run.record.note(victim, &"cut off");
            network.clog_node(host);
            live(run, hosts, span).await;
            network.unclog_node(host);
        }
        _ => {
            run.record.count("cut off one way");
            run.record.note(victim, &"cut off one way");
            others().for_each(|other| network.clog_link(host, other));
            live(run, hosts, span).await;
            others().for_each(|other| network.unclog_link(host, other));
        }
    }
}

/// Says who does not agree with whom, if someone does not (C140, C149).
async fn disagree(run: &Run) -> Option<String> {
    let everyone: BTreeSet<NodeId> = run.places.iter().map(|place| place.id).collect();
    let mut lives: Option<BTreeSet<(NodeId, Life)>> = None;
    let mut holders: Vec<Option<Ref>> = Vec::new();
    for (index, place) in run.places.iter().enumerate() {
        let Some(handle) = place.handle() else {
            return Some(format!("node {index} does not run"));
        };
        let Ok(members) = handle.look(|_, subject| subject.node().swim().snapshot()).await else {
            return Some(format!("node {index} has stopped"));
        };
        let alive = alive(&members);
        if alive.iter().map(|(node, _)| *node).collect::<BTreeSet<_>>() != everyone {
            return Some(format!("node {index} holds {members:?}"));
        }
        if lives.get_or_insert_with(|| alive.clone()) != &alive {
            return Some(format!("node {index} holds {alive:?}, another {lives:?}"));
        }
        let mut found = Vec::new();
        for held in 0..NODES {
            match handle.lookup(name(held)).await {
                Ok(Some(holder)) if holder.node == run.places[held].id => found.push(Some(holder)),
                other => return Some(format!("node {index} finds {other:?} for name {held}")),
            }
        }
        if index == 0 {
            holders.clone_from(&found);
        }
        if holders != found {
            return Some(format!("node {index} finds {found:?}, another {holders:?}"));
        }
    }
    None
}

fn alive(members: &Snapshot) -> BTreeSet<(NodeId, Life)> {
    let alive = members.members.iter().filter(|row| row.state == State::Alive);
    alive.map(|row| (row.node, row.life)).collect()
}

/// Feeds the hash with the whole state of a node.
async fn digest(run: &Run, place: usize) {
    if let Some(handle) = run.places[place].handle() {
        let state = handle
            .look(|_, subject| blake3::hash(format!("{:?}", subject.node()).as_bytes()))
            .await;
        run.record.note(place, &state);
    }
}
