//! Scenario files: read, checked, resolved for a seed, and made into the setup of a run (T50–T51).
//!
//! Nothing runs before the whole file is right: a key that is unknown, a type that is wrong or a
//! value that cannot be is refused with its place and what would be right.

mod faults;
pub mod file;
mod keepers;
pub mod knobs;
mod nodes;
pub mod span;
mod swarm;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use machines::choices::Overrides;
use machines::cluster::config::{ClusterConfig, Profile};
use toml::Spanned;

use crate::build::Build;
use crate::clients::Work;
use crate::guest::{Cipher, Guest};
use crate::keeper;
use crate::net::Conditions;
use crate::plan::Planned;
use crate::world::Setup;
use file::File;
pub use keepers::{Kept, Subject};

/// What is wrong with a scenario, and where (T50).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)
    }
}

impl std::error::Error for Wrong {}

/// Something wrong at a place in a text.
pub type At = (Range<usize>, String);

/// A scenario that is right, for any seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// As it was written.
    pub file: File,
    /// Seeds that `run` takes if it is not told.
    pub seeds: u64,
    /// Its properties by number, or `None` for all that there are.
    pub properties: Option<Vec<String>>,
    /// Properties beside those: they hold under conditions that the scenario keeps.
    pub also: Vec<String>,
    /// Properties that are left out: what they need, the scenario does not give.
    pub except: Vec<String>,
    /// Marks that at least one seed must reach.
    pub sometimes: Vec<String>,
    /// Refusals to start that it brings about.
    pub expect: Vec<String>,
    /// Where it stands: the file's name and its text; empty if it was made by a program.
    origin: Arc<(String, String)>,
}

/// A scenario resolved for one seed: no draw of configuration is left (T14).
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The seed that it was resolved for.
    pub seed: u64,
    /// As a file without a swarm: what a failure file holds (T40).
    pub file: File,
    nodes: u32,
    duration: u64,
    quiet_at: u64,
    start_span: u64,
    plain: Conditions,
    plan: Arc<Vec<Planned>>,
    work: Work,
    config: Arc<ClusterConfig>,
    builds: Arc<Vec<Build>>,
    cipher: Cipher,
    keeper: Option<Kept>,
}

/// Seeds of a scenario that names no number.
pub const SEEDS: u64 = 100;
/// Events of a run of a scenario that names no bound.
pub const STEPS: u64 = 50_000_000;
/// The longest payload beyond its head: with it a message is as long as C107 allows.
pub const PAYLOAD_MAX: u32 = (16 << 20) - 64;
/// The most nodes of a scenario.
pub const NODES_MAX: u32 = 10_000;
/// The most seeds that a scenario can name: each is looked at before the first run.
pub const SEEDS_MAX: u64 = 100_000;
/// The most names of a workload: each is listed.
pub const NAMES_MAX: u32 = 100_000;
/// The longest queue of a link, in bytes: what it takes to send it is told in nanoseconds.
pub const QUEUE_MAX: u64 = 1 << 30;

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    ///
    /// [`Wrong`]: where, and what would be right. An unreadable file is wrong at its first letter.
    pub fn read(path: &Path) -> Result<Self, Wrong> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Wrong {
            file: name.clone(),
            line: 1,
            column: 1,
            what: format!("cannot be read: {error}"),
        })?;
        Self::parse(&name, &text)
    }

    /// Reads the text of a scenario file called `name`.
    ///
    /// # Errors
    ///
    /// [`Wrong`]: where, and what would be right.
    pub fn parse(name: &str, text: &str) -> Result<Self, Wrong> {
        let wrong = |(place, what): At| placed(name, text, place, what);
        let file: File = toml::from_str(text).map_err(|error| {
            wrong((error.span().unwrap_or(0..0), error.message().trim().replace('\n', "; ")))
        })?;
        let origin = Arc::new((name.to_owned(), text.to_owned()));
        Self::checked(file).map(|scenario| Self { origin, ..scenario }).map_err(wrong)
    }

    /// Says where in its file something is wrong.
    #[must_use]
    pub fn wrong(&self, (place, what): At) -> Wrong {
        placed(&self.origin.0, &self.origin.1, place, what)
    }

    /// Checks a file whose form is right.
    ///
    /// # Errors
    ///
    /// The place of what is wrong, and what would be right.
    pub fn checked(file: File) -> Result<Self, At> {
        let scenario = Self {
            seeds: file.seeds.as_ref().map_or(SEEDS, |seeds| *seeds.get_ref()),
            properties: file
                .check
                .as_ref()
                .and_then(|check| check.properties.as_deref().map(texts)),
            also: file.check.as_ref().map(|check| texts(&check.also)).unwrap_or_default(),
            except: file.check.as_ref().map(|check| texts(&check.except)).unwrap_or_default(),
            sometimes: file.check.as_ref().map(|check| texts(&check.sometimes)).unwrap_or_default(),
            expect: texts(&file.expect),
            origin: Arc::default(),
            file,
        };
        scenario.check_names()?;
        // A swarm draws what is legal; a few seeds show that what stands in the file is.
        for seed in 0..3 {
            scenario.resolve(seed)?;
        }
        Ok(scenario)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.file.name.get_ref()
    }

    /// Resolves it for `seed`: draws the swarm, and compiles the plan.
    ///
    /// # Errors
    ///
    /// The place of what is wrong; never after [`Scenario::checked`] for what stands in the file.
    pub fn resolve(&self, seed: u64) -> Result<Resolved, At> {
        let mut file = self.file.clone();
        for count in file.strangers.iter().chain([&file.nodes]) {
            if *count.get_ref() > NODES_MAX {
                return Err((count.span(), format!("must be {NODES_MAX} nodes at the most")));
            }
        }
        if *file.nodes.get_ref() == 0 {
            return Err((file.nodes.span(), format!("must be 1 to {NODES_MAX} nodes")));
        }
        let drawn_from = keepers::run_of(&file, seed);
        let mut choices = machines::Choices::new(drawn_from).scoped(u64::MAX);
        if let Some(swarm) = file.swarm.take() {
            swarm::draw(&mut file, &swarm, &mut choices)?;
        }
        let nodes = *file.nodes.get_ref();
        let strangers = file.strangers.as_ref().map_or(0, |strangers| *strangers.get_ref());
        let duration = timed(&file.duration)?;
        let quiet = file.quiet.as_ref().map_or(Ok(0), timed)?;
        if quiet >= duration {
            let place = file.quiet.as_ref().unwrap_or(&file.duration).span();
            return Err((place, "quiet must be shorter than duration: it is its last part".into()));
        }
        let quiet_at = duration - quiet;
        let nodes = nodes + strangers;
        let plan = faults::compile(&mut file, nodes, quiet_at, &mut choices)?;
        let keeper = keepers::compile(&file)?;
        let config = Arc::new(config(&file)?);
        let builds = nodes::compile(&file, nodes, quiet_at, &config)?;
        Ok(Resolved {
            seed,
            nodes,
            duration,
            quiet_at,
            start_span: start_span(&file, quiet_at)?,
            plain: plain(&file)?,
            plan: Arc::new(plan),
            work: work(&file)?,
            config,
            builds: Arc::new(builds),
            cipher: cipher(&file)?,
            keeper,
            file,
        })
    }

    fn check_names(&self) -> Result<(), At> {
        let name = self.file.name.get_ref();
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(letters) {
            let why = "a name has lower-case letters, digits and hyphens: it names files";
            return Err((self.file.name.span(), why.into()));
        }
        if self.file.about.trim().is_empty() {
            return Err((self.file.name.span(), "about must say what the scenario shows".into()));
        }
        for expected in &self.file.expect {
            if !REFUSALS.contains(&expected.get_ref().as_str()) {
                return Err((expected.span(), format!("must be one of {REFUSALS:?}")));
            }
        }
        if let Some(seeds) = &self.file.seeds
            && !(1..=SEEDS_MAX).contains(seeds.get_ref())
        {
            let what = format!("must be 1 to {SEEDS_MAX} seeds; --seeds can ask for more");
            return Err((seeds.span(), what));
        }
        above_zero(self.file.steps.as_ref(), "event")?;
        Ok(())
    }

    /// Checks that every mark it asks for is one of `known`: another could never be reached.
    ///
    /// # Errors
    ///
    /// The place of the first that is not.
    pub fn check_marks(&self, known: &[String]) -> Result<(), At> {
        let asked = self.file.check.iter().flat_map(|check| &check.sometimes);
        for mark in asked {
            if !known.contains(mark.get_ref()) {
                let what = format!("no machine has that mark; there are {}", known.join(", "));
                return Err((mark.span(), what));
            }
        }
        Ok(())
    }

    /// Checks that every property it names has a checker.
    ///
    /// # Errors
    ///
    /// The place of the first that has none.
    pub fn check_properties(&self, known: &[&str]) -> Result<(), At> {
        let checks = self.file.check.iter();
        let named = checks.flat_map(|check| {
            check.properties.iter().flatten().chain(&check.also).chain(&check.except)
        });
        for property in named {
            if !known.contains(&property.get_ref().as_str()) {
                let what = format!("no checker of that number; there are {}", known.join(", "));
                return Err((property.span(), what));
            }
        }
        Ok(())
    }
}

/// What a scenario may expect.
const REFUSALS: [&str; 6] = [
    "session-corrupt",
    "unreadable",
    "disk-full",
    "sessions-exhausted",
    "journal-corrupt",
    "journal-foreign",
];

impl Resolved {
    /// Makes the setup of its run.
    #[must_use]
    pub fn setup<G: Guest>(&self, overrides: Overrides, kind: G::Kind) -> Setup<G> {
        let strangers = self.file.strangers.as_ref().map_or(0, |strangers| *strangers.get_ref());
        Setup {
            seed: self.seed,
            overrides: Arc::new(overrides),
            nodes: self.nodes,
            strangers,
            duration: self.duration,
            quiet_at: self.quiet_at,
            steps_max: self.file.steps.as_ref().map_or(STEPS, |steps| *steps.get_ref()),
            start_span: self.start_span,
            contacts: self.file.contacts.as_ref().map_or(3, |contacts| *contacts.get_ref()),
            plain: self.plain.clone(),
            ties: self.file.ties.unwrap_or(true),
            plan: self.plan.clone(),
            work: self.work.clone(),
            config: self.config.clone(),
            builds: self.builds.clone(),
            cipher: self.cipher,
            kind,
        }
    }

    /// Makes the setup of its run, if it is one of a keeper.
    #[must_use]
    pub fn keeper_setup<G: keeper::io::Guest>(
        &self,
        overrides: Overrides,
        turn: Option<G::Turn>,
    ) -> Option<keeper::Setup<G>> {
        let kept = self.keeper.as_ref()?;
        Some(keeper::Setup {
            seed: keepers::run_of(&self.file, self.seed),
            overrides: Arc::new(overrides),
            duration: self.duration,
            quiet_at: self.quiet_at,
            steps_max: self.file.steps.as_ref().map_or(STEPS, |steps| *steps.get_ref()),
            plan: Arc::clone(&self.plan),
            work: kept.work.clone(),
            disk: kept.disk,
            sweep: kept.sweep.map(|of| keeper::Stripe { nth: self.seed % of, of }),
            kind: G::kind(kept, turn),
        })
    }

    /// Returns what `[keeper]` says.
    #[must_use]
    pub const fn kept(&self) -> Option<&Kept> {
        self.keeper.as_ref()
    }

    /// Returns how long a run takes, in nanoseconds.
    #[must_use]
    pub const fn duration(&self) -> u64 {
        self.duration
    }
}

fn texts(values: &[Spanned<String>]) -> Vec<String> {
    values.iter().map(|value| value.get_ref().clone()).collect()
}

fn timed(text: &Spanned<String>) -> Result<u64, At> {
    span::span(text.get_ref()).map_err(|why| (text.span(), why))
}

fn shared(value: &Option<Spanned<f64>>) -> Result<u32, At> {
    let Some(value) = value else {
        return Ok(0);
    };
    span::share(*value.get_ref()).map_err(|why| (value.span(), why))
}

fn start_span(file: &File, quiet_at: u64) -> Result<u64, At> {
    let Some(start) = &file.start else {
        return Ok(0);
    };
    let span = timed(start)?;
    if span >= quiet_at {
        return Err((start.span(), "nodes must start before the quiet period".into()));
    }
    Ok(span)
}

fn plain(file: &File) -> Result<Conditions, At> {
    let network = file.network.clone().unwrap_or_default();
    let (delay_min, delay_span) = match &network.delay {
        None => (1_000_000, 0),
        Some(text) => span::range(text.get_ref()).map_err(|why| (text.span(), why))?,
    };
    let loss = shared(&network.loss)?;
    if let Some(loss) = &network.loss
        && *loss.get_ref() > 0.5
    {
        let why = "more than half lost is beyond what a cluster survives (T22); use a fault";
        return Err((loss.span(), why.into()));
    }
    Ok(Conditions {
        delay_min,
        delay_span,
        loss,
        duplicate: shared(&network.duplicate)?,
        reorder: shared(&network.reorder)?,
        reorder_span: 100_000_000,
        corrupt: shared(&network.corrupt)?,
        rate: above_zero(network.rate.as_ref(), "byte a second")?,
        queue: queue(network.queue.as_ref())?,
        mtu: above_zero(network.mtu.as_ref(), "byte")?,
        ..Conditions::default()
    })
}

/// Reads a limit: 0 means that there is none, so it cannot be written.
fn above_zero<T: Copy + Default + PartialEq>(
    value: Option<&Spanned<T>>,
    unit: &str,
) -> Result<T, At> {
    let limit = value.map_or_else(T::default, |value| *value.get_ref());
    match value {
        Some(value) if limit == T::default() => {
            Err((value.span(), format!("must be at least 1 {unit}; without it there is no limit")))
        }
        Some(_) | None => Ok(limit),
    }
}

/// Reads how many bytes may wait for a link.
fn queue(value: Option<&Spanned<u64>>) -> Result<u64, At> {
    match value {
        None => Ok(65_536),
        Some(queue) if *queue.get_ref() <= QUEUE_MAX => Ok(*queue.get_ref()),
        Some(queue) => Err((queue.span(), format!("must be {QUEUE_MAX} bytes at the most"))),
    }
}

fn work(file: &File) -> Result<Work, At> {
    let Some(work) = &file.workload else {
        return Ok(Work::default());
    };
    let payload = work.payload.as_ref().map_or(64, |payload| *payload.get_ref());
    if let Some(place) = work.payload.as_ref().filter(|_| payload > PAYLOAD_MAX) {
        return Err((place.span(), format!("must be {PAYLOAD_MAX} bytes at the most (C107)")));
    }
    let names = work.names.as_ref().map_or(16, |names| *names.get_ref());
    if let Some(place) = work.names.as_ref().filter(|_| !(1..=NAMES_MAX).contains(&names)) {
        return Err((place.span(), format!("must be 1 to {NAMES_MAX} names")));
    }
    Ok(Work {
        register: rate(&work.register)?,
        unregister: rate(&work.unregister)?,
        lookup: rate(&work.lookup)?,
        send: rate(&work.send)?,
        ask: rate(&work.ask)?,
        reopen: rate(&work.reopen)?,
        names,
        payload,
        wait: Duration::from_nanos(work.wait.as_ref().map_or(Ok(2_000_000_000), timed)?),
        answer_span: work.answer.as_ref().map_or(Ok(0), timed)?,
        not_taken: shared(&work.not_taken)?,
    })
}

/// Turns operations a second into operations a thousand seconds.
fn rate(value: &Option<Spanned<f64>>) -> Result<u32, At> {
    let Some(value) = value else {
        return Ok(0);
    };
    let rate = *value.get_ref();
    if !(0.0..=100_000.0).contains(&rate) {
        return Err((value.span(), "must be 0 to 100000 operations a second".into()));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    Ok((rate * 1_000.0).round() as u32)
}

fn config(file: &File) -> Result<ClusterConfig, At> {
    let profile = match &file.profile {
        None => Profile::Lan,
        Some(profile) => match profile.get_ref().as_str() {
            "lan" => Profile::Lan,
            "local" => Profile::Local,
            _ => return Err((profile.span(), "must be \"lan\" or \"local\" (C62)".into())),
        },
    };
    let mut config = ClusterConfig::of(profile, "simulated");
    let knobs = file.config.clone().unwrap_or_default();
    knobs.apply(&mut config)?;
    config.links.reject_after =
        config.links.reject_after.max(config.links.rekey_after + Duration::from_secs(20));
    match config.check() {
        Ok(()) => Ok(config),
        Err(invalid) => {
            let place = knobs.place(invalid.key).unwrap_or_else(|| file.name.span());
            Err((place, invalid.to_string()))
        }
    }
}

fn cipher(file: &File) -> Result<Cipher, At> {
    let Some(cipher) = &file.cipher else {
        return Ok(Cipher::Real);
    };
    match cipher.get_ref().as_str() {
        "real" => Ok(Cipher::Real),
        "null" => Ok(Cipher::Null),
        _ => Err((cipher.span(), "must be \"real\" or \"null\"".into())),
    }
}

/// Turns a place in a text into line and column.
#[must_use]
pub fn placed(file: &str, text: &str, place: Range<usize>, what: String) -> Wrong {
    let before = text.get(..place.start.min(text.len())).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Wrong {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        what,
    }
}

/// What `cargo sim new` writes (T51).
#[must_use]
pub fn template(name: &str) -> String {
    include_str!("scenario/template.toml").replace("NAME", name)
}

#[cfg(test)]
mod tests;
