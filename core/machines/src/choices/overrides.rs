//! Answers that replace the drawn ones: with the seed, all that a failure file needs (T12).

use std::collections::BTreeMap;

use super::Who;

/// One answer of a recorded run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The site asked at.
    pub site: &'static str,
    /// The entities it was about.
    pub who: Who,
    /// How many questions with this site and entities came before.
    pub nth: u32,
    /// What was answered; 0 only if an override said so.
    pub answer: u64,
}

/// One replacement: of a whole site, of one (site, who), or of a single question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Override {
    /// The site.
    pub site: String,
    /// The entities; `None` means all of them.
    pub who: Option<Who>,
    /// The question; `None` means all of them. Only with `who`.
    pub nth: Option<u32>,
    /// The answer from now on; cut to the question's bound.
    pub answer: u64,
}

/// A set of overrides. The most particular one that fits a question wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    sites: BTreeMap<String, Site>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Site {
    all: Option<u64>,
    entities: BTreeMap<Who, u64>,
    single: BTreeMap<(Who, u32), u64>,
}

impl Overrides {
    /// Adds one override, in place of an earlier one for the same questions.
    pub fn insert(&mut self, entry: Override) {
        let site = self.sites.entry(entry.site).or_default();
        match (entry.who, entry.nth) {
            (None, _) => site.all = Some(entry.answer),
            (Some(who), None) => {
                site.entities.insert(who, entry.answer);
            }
            (Some(who), Some(nth)) => {
                site.single.insert((who, nth), entry.answer);
            }
        }
    }

    /// Says whether nothing is overridden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// Lists the overrides: by site, whole sites first, then entities, then single questions.
    #[must_use]
    pub fn list(&self) -> Vec<Override> {
        let mut list = Vec::new();
        for (name, site) in &self.sites {
            let entry = |who, nth, answer| Override { site: name.clone(), who, nth, answer };
            list.extend(site.all.map(|answer| entry(None, None, answer)));
            list.extend(site.entities.iter().map(|(who, a)| entry(Some(*who), None, *a)));
            list.extend(site.single.iter().map(|((w, n), a)| entry(Some(*w), Some(*n), *a)));
        }
        list
    }

    pub(super) fn find(&self, site: &str, who: Who, nth: u32) -> Option<u64> {
        let site = self.sites.get(site)?;
        let single = site.single.get(&(who, nth));
        single.or_else(|| site.entities.get(&who)).copied().or(site.all)
    }
}

impl FromIterator<Override> for Overrides {
    fn from_iter<I: IntoIterator<Item = Override>>(entries: I) -> Self {
        let mut overrides = Self::default();
        for entry in entries {
            overrides.insert(entry);
        }
        overrides
    }
}
