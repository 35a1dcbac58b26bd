//! Failure files: all that is needed to see a failure again (T40).

use std::path::{Path, PathBuf};
use std::process::Command;

use machines::choices::Override;
use serde::{Deserialize, Serialize};

use crate::checker::Violation;
use crate::guest::Guest;
use crate::lab::{Case, Lab};
use crate::scenario::file::File;
use crate::scenario::{Scenario, Wrong, placed, span};

/// A failure as a file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The version of the program that found it.
    pub version: String,
    /// How to see it again.
    pub replay: String,
    /// The property that was violated.
    pub property: String,
    /// When, in virtual time.
    pub at: String,
    /// How that showed.
    pub evidence: String,
    /// The hash of the run, in hexadecimal digits.
    pub hash: String,
    /// The seed.
    pub seed: u64,
    /// The saboteur that took part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saboteur: Option<String>,
    /// Sites at which every answer is 0, the benign one (T11).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub benign: Vec<String>,
    /// The scenario, whole and resolved; its faults are the fault plan.
    pub scenario: File,
    /// Replaced answers beside those.
    #[serde(default, rename = "override", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Replaced>,
}

/// What of a failure file grows with the case.
#[derive(Serialize)]
struct Grows<'a> {
    benign: Vec<String>,
    scenario: &'a File,
    #[serde(rename = "override")]
    overrides: Vec<Replaced>,
}

/// Returns the part of a failure file that is longer for a larger case.
pub(crate) fn text_of(case: &Case) -> String {
    let (benign, overrides) = split(&case.overrides);
    let grows = Grows { benign, scenario: &case.file, overrides };
    toml::to_string(&grows).unwrap_or_default()
}

/// Parts whole sites at 0 from other overrides.
fn split(overrides: &[Override]) -> (Vec<String>, Vec<Replaced>) {
    let benign = |entry: &&Override| entry.who.is_none() && entry.answer == 0;
    let sites = overrides.iter().filter(benign).map(|entry| entry.site.clone());
    let others = overrides.iter().filter(|entry| !benign(entry)).map(replaced);
    (sites.collect(), others.collect())
}

/// One replaced answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// The site.
    pub site: String,
    /// The entities in hexadecimal digits, the owner first; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<[String; 3]>,
    /// The question; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<u32>,
    /// The answer.
    pub answer: u64,
}

impl Failure {
    /// Describes how `case` violates a property.
    #[must_use]
    pub fn new(case: &Case, violation: &Violation, hash: u64, path: &Path) -> Self {
        let (benign, overrides) = split(&case.overrides);
        Self {
            version: version(),
            replay: format!("cargo sim replay {}", shown(path)),
            property: violation.property.to_owned(),
            at: span::write(violation.at),
            evidence: violation.evidence.clone(),
            hash: format!("{hash:016x}"),
            seed: case.seed,
            saboteur: case.saboteur.clone(),
            benign,
            scenario: case.file.clone(),
            overrides,
        }
    }

    /// Returns the run that failed.
    ///
    /// # Errors
    ///
    /// An entity that is no number.
    pub fn case(&self) -> Result<Case, String> {
        let zero = |site: &String| Override { site: site.clone(), who: None, nth: None, answer: 0 };
        let mut overrides: Vec<Override> = self.benign.iter().map(zero).collect();
        for entry in &self.overrides {
            overrides.push(replacing(entry)?);
        }
        Ok(Case {
            file: self.scenario.clone(),
            seed: self.seed,
            overrides,
            saboteur: self.saboteur.clone(),
        })
    }

    /// Reads a failure file.
    ///
    /// # Errors
    ///
    /// [`Wrong`]: where, and what.
    pub fn read(path: &Path) -> Result<Self, Wrong> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| placed(&name, "", 0..0, format!("cannot be read: {error}")))?;
        let failure: Self = toml::from_str(&text).map_err(|error| {
            let place = error.span().unwrap_or(0..0);
            placed(&name, &text, place, error.message().trim().replace('\n', "; "))
        })?;
        // What is wrong with the scenario has its place in this file.
        match Scenario::checked(failure.scenario.clone()) {
            Ok(_) => Ok(failure),
            Err((place, what)) => Err(placed(&name, &text, place, what)),
        }
    }

    /// Returns the run that failed, if `lab` can show the failure.
    ///
    /// # Errors
    ///
    /// As [`Failure::case`], or a property, checker or saboteur that `lab` does not know: without
    /// it the run would pass and show nothing.
    pub fn case_for<G: Guest>(&self, lab: &Lab<G>) -> Result<Case, String> {
        if !lab.can_violate(&self.property) {
            return Err(format!("nothing checks the property {}", self.property));
        }
        let case = self.case()?;
        lab.check(&case)?;
        Ok(case)
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// Why it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        }
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Returns the version of this program, with the commit of the working tree if there is one: a
/// replay elsewhere begins with the same code.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let git = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
        .output();
    let told = git.ok().filter(|git| git.status.success());
    let commit = told.and_then(|git| String::from_utf8(git.stdout).ok());
    commit.map_or_else(|| version.to_owned(), |commit| format!("{version} {}", commit.trim()))
}

/// Returns a path as the commands of this repository take it: from its root, if it lies in it.
#[must_use]
pub fn shown(path: &Path) -> String {
    let holds = |folder: &&Path| folder.join("scenarios").is_dir() && folder.is_absolute();
    let root = path.ancestors().skip(1).find(holds);
    root.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path).display().to_string()
}

/// Returns where the failure of a seed is written.
#[must_use]
pub fn path_of(reports: &Path, scenario: &str, seed: u64) -> PathBuf {
    reports.join("failures").join(format!("{scenario}-{seed}.toml"))
}

/// Returns where the shrunk form of a failure file is written.
#[must_use]
pub fn shrunk_path(path: &Path) -> PathBuf {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
    path.with_file_name(format!("{stem}-min.toml"))
}

fn replaced(entry: &Override) -> Replaced {
    Replaced {
        site: entry.site.clone(),
        who: entry.who.map(|who| who.map(|entity| format!("{entity:x}"))),
        nth: entry.nth,
        answer: entry.answer,
    }
}

fn replacing(entry: &Replaced) -> Result<Override, String> {
    let number = |text: &String| {
        u64::from_str_radix(text, 16).map_err(|_| format!("{text:?} is no hexadecimal number"))
    };
    let who = match &entry.who {
        None => None,
        Some([a, b, c]) => Some([number(a)?, number(b)?, number(c)?]),
    };
    Ok(Override { site: entry.site.clone(), who, nth: entry.nth, answer: entry.answer })
}
