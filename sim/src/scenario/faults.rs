//! Entries of a fault plan, understood: which keys fit which kind, who is struck, and when (T20).

use std::collections::BTreeSet;
use std::ops::Range;

use machines::Choices;
use toml::Spanned;

use super::file::{Fault, File, Word};
use super::{At, span};
use crate::plan::{Act, Change, DiskFault, Links, Planned};

/// The kinds, and the keys that each has beside `kind`, `at`, `for`, `times` and `every`.
pub(super) const KINDS: [(&str, &[&str]); 33] = [
    ("partition", &["groups", "direction"]),
    ("cut", LINKS),
    ("loss", &["share", "links", "groups", "nodes", "direction"]),
    ("duplicate", &["share", "links", "groups", "nodes", "direction"]),
    ("reorder", &["share", "by", "links", "groups", "nodes", "direction"]),
    ("corrupt", &["share", "links", "groups", "nodes", "direction"]),
    ("tamper", &["share", "links", "groups", "nodes", "direction"]),
    ("delay", &["delay", "links", "groups", "nodes", "direction"]),
    ("bandwidth", &["rate", "queue", "links", "groups", "nodes", "direction"]),
    ("mtu", &["bytes", "links", "groups", "nodes", "direction"]),
    ("fragment", LINKS),
    ("reset", LINKS),
    ("kill", &["nodes", "power", "stagger"]),
    ("wipe", &["nodes", "power", "stagger"]),
    ("pause", NODES),
    ("slow", &["nodes", "stagger", "cost"]),
    ("leave", NODES),
    ("move", NODES),
    ("revoke", NODES),
    ("forge", &["gap"]),
    ("jump", &["nodes", "stagger", "by"]),
    ("offset", &["nodes", "by"]),
    ("drift", &["nodes", "stagger", "ppm"]),
    ("torn", NODES),
    ("lost-sync", NODES),
    ("misdirected", NODES),
    ("rot", NODES),
    ("read-error", NODES),
    ("full", NODES),
    ("stall", NODES),
    ("failed-sync", &["nodes", "stagger", "share"]),
    ("failed-write", &["nodes", "stagger", "share"]),
    ("second-process", NODES),
];

const LINKS: &[&str] = &["links", "groups", "nodes", "direction"];
const NODES: &[&str] = &["nodes", "stagger"];
/// Kinds that strike the files of a keeper alone.
const OF_KEEPERS: [&str; 3] = ["failed-sync", "failed-write", "second-process"];
/// The other kinds that a keeper can be struck by.
const FOR_KEEPERS: [&str; 11] = [
    "kill",
    "pause",
    "slow",
    "jump",
    "torn",
    "lost-sync",
    "misdirected",
    "rot",
    "read-error",
    "full",
    "stall",
];
/// Those that strike what has no files.
const FOR_BUSES: [&str; 3] = ["kill", "pause", "jump"];
/// The most moments of a plan: every node of the largest cluster twice.
const PLAN_MAX: usize = 2 * super::NODES_MAX as usize;
/// Kinds that can leave a node unable to start: a scenario must say that it expects it (T22).
const BEYOND: [&str; 2] = ["rot", "misdirected"];

/// Compiles the plan of `file`. Entries that say "any" are fixed to what was drawn.
pub(super) fn compile(
    file: &mut File,
    nodes: u32,
    quiet_at: u64,
    choices: &mut Choices,
) -> Result<Vec<Planned>, At> {
    let expects = !file.expect.is_empty();
    let mut plan = Vec::new();
    let subject = file.keeper.as_ref().map(|keeper| keeper.subject.get_ref().clone());
    for (entry, fault) in (0..).zip(&mut file.fault) {
        check_subject(fault, subject.as_deref())?;
        fix_nodes(fault, entry, nodes, choices)?;
        let compiler = Compiler { fault, nodes, quiet_at, expects };
        compiler.compile(&mut plan)?;
    }
    plan.sort_by_key(|planned| planned.at);
    let links = |planned: &&Planned| matches!(planned.act, Act::Links(..));
    let moments = plan.iter().filter(links).map(|planned| planned.at);
    for at in moments.collect::<Vec<_>>() {
        let holds =
            |planned: &&Planned| planned.at <= at && planned.until.is_none_or(|until| until > at);
        if plan.iter().filter(links).filter(holds).count() > 128 {
            return Err((file.name.span(), "more than 128 network faults at once".into()));
        }
    }
    Ok(plan)
}

/// Refuses faults that the subject of the scenario cannot have.
fn check_subject(fault: &Fault, subject: Option<&str>) -> Result<(), At> {
    let kind = fault.kind.text();
    let own = OF_KEEPERS.contains(&kind);
    match subject.is_some() {
        true if subject == Some("bus") && !FOR_BUSES.contains(&kind) => {
            let kinds = FOR_BUSES.join(", ");
            Err((fault.kind.0.span(), format!("a bus has no network and no disk; it has {kinds}")))
        }
        true if own || FOR_KEEPERS.contains(&kind) => Ok(()),
        true if KINDS.iter().any(|(name, _)| *name == kind) => {
            let kinds = [&FOR_KEEPERS[..], &OF_KEEPERS].concat().join(", ");
            Err((fault.kind.0.span(), format!("a keeper has no network; it has {kinds}")))
        }
        false if own => {
            Err((fault.kind.0.span(), format!("{kind} needs [keeper]: only its files fail so")))
        }
        true | false => Ok(()),
    }
}

/// Replaces `nodes = "any"` by one node, drawn at a site of its own (T14).
fn fix_nodes(fault: &mut Fault, entry: u64, nodes: u32, choices: &mut Choices) -> Result<(), At> {
    let Some(named) = &mut fault.nodes else {
        return Ok(());
    };
    if named.get_ref().as_str() == Some("any") {
        let node = choices.choose("plan.node", [entry, 0], u64::from(nodes));
        let node = i64::try_from(node).expect("a node fits");
        let list = toml::Value::Array(vec![toml::Value::Integer(node)]);
        *named = Spanned::new(named.span(), list);
    }
    Ok(())
}

/// Reads `"all"` or a list of some of `nodes` nodes; `wrong` says what would be right.
pub(super) fn listed(
    named: &Spanned<toml::Value>,
    nodes: u32,
    wrong: &dyn Fn() -> At,
) -> Result<Vec<u32>, At> {
    if named.get_ref().as_str() == Some("all") {
        return Ok((0..nodes).collect());
    }
    let list = named.get_ref().as_array().ok_or_else(wrong)?;
    let node =
        |value: &toml::Value| exists(value.as_integer().ok_or_else(wrong)?, nodes, named.span());
    let nodes: Vec<u32> = list.iter().map(node).collect::<Result<_, _>>()?;
    if nodes.is_empty() {
        return Err((named.span(), "must name at least one node".into()));
    }
    Ok(nodes)
}

fn exists(node: i64, nodes: u32, place: Range<usize>) -> Result<u32, At> {
    let known = u32::try_from(node).ok().filter(|node| *node < nodes);
    let what = || format!("there is no node {node}; there are 0 to {}", nodes - 1);
    known.ok_or_else(|| (place, what()))
}

struct Compiler<'a> {
    fault: &'a Fault,
    nodes: u32,
    quiet_at: u64,
    expects: bool,
}

impl Compiler<'_> {
    fn compile(&self, plan: &mut Vec<Planned>) -> Result<(), At> {
        self.check_keys()?;
        let at = self.time(&self.fault.at)?;
        let lasts = self.fault.lasts.as_ref().map(|lasts| self.time(lasts)).transpose()?;
        let every = self.fault.every.as_ref().map_or(Ok(0), |every| self.time(every))?;
        let times = self.fault.times.as_ref().map_or(1, |times| *times.get_ref());
        if times == 0 || (times > 1 && every == 0) {
            let place = self.fault.times.as_ref().map_or(0..0, Spanned::span);
            return Err((place, "times must be at least 1, and needs every".into()));
        }
        let stagger = self.fault.stagger.as_ref().map_or(Ok(0), |step| self.time(step))?;
        for round in 0..u64::from(times) {
            for (turn, act) in (0_u64..).zip(self.acts()?) {
                let later =
                    round.saturating_mul(every).saturating_add(turn.saturating_mul(stagger));
                plan.push(self.planned(at.saturating_add(later), lasts, act)?);
                if plan.len() > PLAN_MAX {
                    let place = self.fault.kind.0.span();
                    return Err((place, format!("more than {PLAN_MAX} faults in all")));
                }
            }
        }
        Ok(())
    }

    fn planned(&self, at: u64, lasts: Option<u64>, act: Act) -> Result<Planned, At> {
        let end = at.saturating_add(lasts.unwrap_or(0));
        if at >= self.quiet_at || end > self.quiet_at {
            let what = format!(
                "ends at {}, but every fault must be over when the quiet period begins at {}",
                span::write(end),
                span::write(self.quiet_at)
            );
            return Err((self.fault.at.0.span(), what));
        }
        let heals = match act {
            Act::Links(..) | Act::Pause(_) | Act::Slow(..) | Act::Disk(..) | Act::Drift(..) => true,
            Act::Forge(_) => true,
            Act::Kill { .. } | Act::Leave(_) | Act::Revoke(_) => false,
            Act::Reset(_) | Act::Jump(..) | Act::Offset(..) | Act::Move(_) => false,
            Act::Second(_) => false,
        };
        let until = lasts.map(|_| end).or_else(|| heals.then_some(self.quiet_at));
        Ok(Planned { at, until, act })
    }

    fn check_keys(&self) -> Result<(), At> {
        let fault = self.fault;
        let kind = fault.kind.text();
        let Some((_, keys)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            let what = format!("no such kind of fault; there are {}", kinds.join(", "));
            return Err((fault.kind.0.span(), what));
        };
        if kind == "offset" {
            self.check_whole_run()?;
        }
        if BEYOND.contains(&kind) && !self.expects {
            let what = format!(
                "{kind} goes beyond what a node survives (T22): say what you expect, such as \
                 expect = [\"session-corrupt\"]"
            );
            return Err((fault.kind.0.span(), what));
        }
        let word = |word: &Option<Word>| word.as_ref().map(|word| word.0.span());
        let given = [
            ("stagger", word(&fault.stagger)),
            ("nodes", fault.nodes.as_ref().map(Spanned::span)),
            ("links", fault.links.as_ref().map(Spanned::span)),
            ("groups", fault.groups.as_ref().map(Spanned::span)),
            ("direction", word(&fault.direction)),
            ("share", fault.share.as_ref().map(Spanned::span)),
            ("delay", word(&fault.delay)),
            ("by", word(&fault.by)),
            ("ppm", fault.ppm.as_ref().map(Spanned::span)),
            ("cost", word(&fault.cost)),
            ("rate", fault.rate.as_ref().map(Spanned::span)),
            ("queue", fault.queue.as_ref().map(Spanned::span)),
            ("bytes", fault.bytes.as_ref().map(Spanned::span)),
            ("gap", word(&fault.gap)),
            ("power", fault.power.as_ref().map(Spanned::span)),
        ];
        for (key, place) in given {
            if let Some(place) = place
                && !keys.contains(&key)
            {
                let what = format!("{kind} has no {key}; it has {}", keys.join(", "));
                return Err((place, what));
            }
        }
        Ok(())
    }

    /// A clock that is not true is so from the start to the end.
    fn check_whole_run(&self) -> Result<(), At> {
        if self.time(&self.fault.at)? != 0 {
            return Err((self.fault.at.0.span(), "must be \"0s\": clocks start with it".into()));
        }
        let window = [&self.fault.lasts, &self.fault.every].into_iter().flatten().next();
        match window {
            Some(word) => Err((word.0.span(), "an offset is there for the whole run".into())),
            None => Ok(()),
        }
    }

    fn acts(&self) -> Result<Vec<Act>, At> {
        let each = |make: &dyn Fn(u32) -> Act| -> Result<Vec<Act>, At> {
            Ok(self.named_nodes()?.into_iter().map(make).collect())
        };
        let power = self.fault.power.as_ref().is_some_and(|power| *power.get_ref());
        let disk = |fault| each(&move |node| Act::Disk(node, fault));
        match self.fault.kind.text() {
            "kill" => each(&|node| Act::Kill { node, power, wipe: false }),
            "wipe" => each(&|node| Act::Kill { node, power, wipe: true }),
            "pause" => each(&Act::Pause),
            "slow" => {
                let cost = self.time(self.word("cost", &self.fault.cost)?)?;
                each(&|node| Act::Slow(node, cost))
            }
            "leave" => each(&Act::Leave),
            "move" => each(&Act::Move),
            "revoke" => each(&Act::Revoke),
            "forge" => {
                let gap = self.time(self.word("gap", &self.fault.gap)?)?;
                Ok(vec![Act::Forge(gap.max(1_000))])
            }
            "jump" => {
                let word = self.word("by", &self.fault.by)?;
                let by = span::signed(word.text()).map_err(|why| (word.0.span(), why))?;
                each(&|node| Act::Jump(node, by))
            }
            "offset" => {
                let by = self.time(self.word("by", &self.fault.by)?)?;
                each(&|node| Act::Offset(node, by))
            }
            "drift" => {
                let ppm = self.drift()?;
                each(&|node| Act::Drift(node, ppm))
            }
            "torn" => disk(DiskFault::Torn),
            "lost-sync" => disk(DiskFault::LostSync),
            "misdirected" => disk(DiskFault::Misdirected),
            "rot" => disk(DiskFault::Rot),
            "read-error" => disk(DiskFault::ReadError),
            "full" => disk(DiskFault::Full),
            "stall" => disk(DiskFault::Stall),
            "failed-sync" => disk(DiskFault::FailedSync(self.share()?)),
            "failed-write" => disk(DiskFault::FailedWrite(self.share()?)),
            "second-process" => each(&Act::Second),
            "reset" => Ok(vec![Act::Reset(self.links()?)]),
            _ => Ok(vec![Act::Links(self.links()?, self.change()?)]),
        }
    }

    fn change(&self) -> Result<Change, At> {
        let fault = self.fault;
        Ok(match fault.kind.text() {
            "loss" => Change::Loss(self.share()?),
            "duplicate" => Change::Duplicate(self.share()?),
            "reorder" => {
                let by = fault.by.as_ref().map_or(Ok(100_000_000), |by| self.time(by))?;
                Change::Reorder(self.share()?, by)
            }
            "corrupt" => Change::Corrupt(self.share()?),
            "tamper" => Change::Tamper(self.share()?),
            "delay" => {
                let word = self.word("delay", &fault.delay)?;
                let (min, more) = span::range(word.text()).map_err(|why| (word.0.span(), why))?;
                Change::Delay(min, more)
            }
            "bandwidth" => {
                let rate = fault.rate.as_ref().ok_or_else(|| self.needs("rate"))?;
                let queue = super::queue(fault.queue.as_ref())?;
                if *rate.get_ref() == 0 {
                    return Err((rate.span(), "must be at least 1 byte a second".into()));
                }
                Change::Bandwidth(*rate.get_ref(), queue)
            }
            "mtu" => {
                let bytes = fault.bytes.as_ref().ok_or_else(|| self.needs("bytes"))?;
                if *bytes.get_ref() == 0 {
                    return Err((bytes.span(), "must be at least 1 byte".into()));
                }
                Change::Mtu(*bytes.get_ref())
            }
            "fragment" => Change::Fragment,
            _ => Change::Cut,
        })
    }

    fn links(&self) -> Result<Links, At> {
        let forward_only = self.forward_only()?;
        self.check_one_set()?;
        if let Some(groups) = &self.fault.groups {
            self.check_groups(groups)?;
            return Ok(Links::Across { groups: groups.get_ref().clone(), forward_only });
        }
        if let Some(links) = &self.fault.links {
            return Ok(Links::Pairs(self.pairs(links, forward_only)?));
        }
        if self.fault.kind.text() == "partition" {
            return Err(self.needs("groups"));
        }
        match &self.fault.nodes {
            None => Ok(Links::All),
            Some(_) => Ok(Links::Touching(self.named_nodes()?)),
        }
    }

    fn forward_only(&self) -> Result<bool, At> {
        let Some(word) = &self.fault.direction else {
            return Ok(false);
        };
        let place = word.0.span();
        if self.fault.groups.is_none() && self.fault.links.is_none() {
            let what = "only groups and links have a direction: say which of the two is struck";
            return Err((place, what.into()));
        }
        match word.text() {
            "both" => Ok(false),
            "forward" => Ok(true),
            _ => Err((place, "must be \"both\" or \"forward\"".into())),
        }
    }

    /// Which links are struck is said in one way only.
    fn check_one_set(&self) -> Result<(), At> {
        let places = [
            self.fault.groups.as_ref().map(Spanned::span),
            self.fault.links.as_ref().map(Spanned::span),
            self.fault.nodes.as_ref().map(Spanned::span),
        ];
        let mut given = places.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(_), Some(second)) => {
                Err((second, "must be one of groups, links and nodes, not several".into()))
            }
            (Some(_), None) | (None, _) => Ok(()),
        }
    }

    fn check_groups(&self, groups: &Spanned<Vec<Vec<u32>>>) -> Result<(), At> {
        let mut seen = BTreeSet::new();
        for node in groups.get_ref().iter().flatten() {
            self.exists(i64::from(*node), groups.span())?;
            if !seen.insert(*node) {
                let what = format!("node {node} must be in one group only, and once");
                return Err((groups.span(), what));
            }
        }
        if groups.get_ref().len() < 2 {
            return Err((groups.span(), "must be at least two groups".into()));
        }
        Ok(())
    }

    fn pairs(
        &self,
        links: &Spanned<Vec<[u32; 2]>>,
        forward_only: bool,
    ) -> Result<Vec<(u32, u32)>, At> {
        let mut pairs = Vec::new();
        for [from, to] in links.get_ref() {
            self.exists(i64::from(*from), links.span())?;
            self.exists(i64::from(*to), links.span())?;
            if from == to {
                let what = format!("[{from}, {to}] is no link: it must join two nodes");
                return Err((links.span(), what));
            }
            pairs.push((*from, *to));
            if !forward_only {
                pairs.push((*to, *from));
            }
        }
        if pairs.is_empty() {
            return Err((links.span(), "must name at least one link".into()));
        }
        Ok(pairs)
    }

    fn named_nodes(&self) -> Result<Vec<u32>, At> {
        let named = self.fault.nodes.as_ref().ok_or_else(|| self.needs("nodes"))?;
        let wrong = || (named.span(), "must be \"all\", \"any\" or a list of nodes".to_owned());
        listed(named, self.nodes, &wrong)
    }

    fn exists(&self, node: i64, place: Range<usize>) -> Result<u32, At> {
        exists(node, self.nodes, place)
    }

    fn share(&self) -> Result<u32, At> {
        let share = self.fault.share.as_ref().ok_or_else(|| self.needs("share"))?;
        span::share(*share.get_ref()).map_err(|why| (share.span(), why))
    }

    fn drift(&self) -> Result<i32, At> {
        let ppm = self.fault.ppm.as_ref().ok_or_else(|| self.needs("ppm"))?;
        if ppm.get_ref().unsigned_abs() > 10_000 {
            return Err((ppm.span(), "must be -10000 to 10000: one percent".into()));
        }
        Ok(*ppm.get_ref())
    }

    fn word<'w>(&self, key: &str, word: &'w Option<Word>) -> Result<&'w Word, At> {
        word.as_ref().ok_or_else(|| self.needs(key))
    }

    fn needs(&self, key: &str) -> At {
        (self.fault.kind.0.span(), format!("{} needs {key}", self.fault.kind.text()))
    }

    fn time(&self, word: &Word) -> Result<u64, At> {
        span::span(word.text()).map_err(|why| (word.0.span(), why))
    }
}
