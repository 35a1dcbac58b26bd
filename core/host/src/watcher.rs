//! What can change while a node runs: the allowlist file, what the seeds' names stand for, and
//! parts of the configuration (C24, C108).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use machines::cluster::identity::Allowed;
use machines::cluster::ids::Addr;
use machines::cluster::swim::io::Seed;
use machines::node::io::Input;
use runtime::{Gone, Handle, Won, race};
use sync::{Busy, Inbox, Publisher, Reply};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::cluster::ClusterMachine;
use crate::config::{Config, ConfigError, RELOADABLE};
use crate::files;
use crate::seeds::{self, Resolved, SeedSpec};

/// How often the allowlist is read. A change counts when two readings in a row agree, so it is
/// taken up within a second (C24) and never half written.
const ALLOWLIST_EVERY: Duration = Duration::from_millis(250);
/// How often names of seeds are resolved.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// The same, while some name could not be resolved.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// How long name servers have for each of them.
const RESOLVE_MAX: Duration = Duration::from_secs(10);

/// Why the list in use is older than the file (C24).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowError(pub(crate) String);

impl fmt::Display for AllowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Watches the allowlist at `path`, and tells the node when it has changed and is valid (C24).
pub(crate) async fn allowlist(
    path: PathBuf,
    mut used: Arc<Allowed>,
    mut errors: Publisher<Option<AllowError>>,
    node: Handle<ClusterMachine>,
) {
    let mut settled = Settled::new();
    loop {
        sleep(ALLOWLIST_EVERY).await;
        let read = {
            let path = path.clone();
            spawn_blocking(move || files::read_allowlist(&path)).await
        };
        let Ok(read) = read else {
            return; // The runtime is shutting down.
        };
        let read = read.map_err(|failure| failure.to_string());
        if !settled.is_news(read) {
            continue;
        }
        let parsed = match settled.content() {
            Ok(bytes) => files::parse_allowed(&path, bytes).map_err(|failure| failure.to_string()),
            Err(why) => Err(why.clone()),
        };
        let problem = match parsed {
            Ok(allowed) if allowed == used => None,
            Ok(allowed) => {
                info!(keys = keys(&allowed), "took up the changed allowlist");
                used = Arc::clone(&allowed);
                if node.tell(Input::Allowed(allowed)).is_err() {
                    return;
                }
                None
            }
            Err(why) => {
                error!(why, "AllowlistInvalid: the old list stays in use");
                Some(AllowError(why))
            }
        };
        // Busy: readers hold all other versions, for a moment; the next change is published.
        let (Ok(()) | Err(Busy(_))) = errors.publish(problem);
    }
}

/// Tells a running node to take up what it can of another configuration (C108).
pub(crate) struct Reload {
    pub(crate) config: Config,
    pub(crate) reply: Reply<Result<Reloaded, ConfigError>>,
}

/// What came of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys whose new values hold from now on.
    pub taken: Vec<&'static str>,
    /// The keys whose new values wait for the next start.
    pub kept: Vec<&'static str>,
}

/// Takes up changes of what the seeds' names stand for, and of the configuration (C108).
pub(crate) struct Following {
    /// What holds: the configuration of the start, and what was taken up since.
    pub(crate) running: Config,
    pub(crate) own: Addr,
    /// The seeds that the node was told last; `None` while it awaits the first of them (C55).
    pub(crate) used: Option<Vec<Seed>>,
    pub(crate) node: Handle<ClusterMachine>,
}

impl Following {
    /// Goes on until it is dropped, with the node.
    pub(crate) async fn follow(mut self, mut reloads: Inbox<Reload>) {
        let mut known = Known::default();
        loop {
            let next = race(reloads.receive(), self.follow_names(&mut known)).await;
            match next {
                Won::Left(Some(Reload { config, reply })) => {
                    let Ok(result) = self.reload(&config).await else {
                        return;
                    };
                    if result.as_ref().is_ok_and(|reloaded| reloaded.taken.contains(&"seeds")) {
                        known = Known { is_new: true, ..Known::default() };
                    }
                    // Late: whoever asked has gone.
                    let _ = reply.send(result);
                }
                Won::Left(None) | Won::Right(Gone) => return,
            }
        }
    }

    /// Takes up what can be taken up; if anything is wrong, nothing.
    async fn reload(&mut self, config: &Config) -> Result<Result<Reloaded, ConfigError>, Gone> {
        let cluster = match config.cluster() {
            Ok(cluster) => cluster,
            Err(error) => return Ok(Err(error)),
        };
        let seeds = config.seeds.clone();
        let checked = self.node.look(move |_, node| seeds::check(&seeds, node.allowed())).await?;
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let keys = self.running.differences(config);
        let (taken, kept): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| RELOADABLE.contains(key));
        self.node.tell(Input::Limits(cluster.links.reloadable()))?;
        self.running.reload(config);
        Ok(Ok(Reloaded { taken, kept }))
    }

    /// Resolves the seeds' names again and again, and tells the node when that gives others.
    async fn follow_names(&mut self, known: &mut Known) -> Gone {
        loop {
            let found = seeds::resolve(&self.running.seeds, self.own, RESOLVE_MAX).await;
            known.warn(&found);
            let every = match found.unresolved.is_empty() {
                true => RESOLVE_EVERY,
                false => RETRY_EVERY,
            };
            let is_news = self.is_news(&found, known.is_new);
            known.is_new &= found.seeds.is_empty();
            if is_news {
                self.used = Some(found.seeds.clone());
                if let Err(gone) = self.node.tell(Input::Seeds(found.seeds)) {
                    return gone;
                }
            }
            sleep(every).await;
        }
    }

    /// Says whether the node is to be told what was found.
    fn is_news(&self, found: &Resolved, is_new: bool) -> bool {
        let whole = found.unresolved.is_empty();
        if found.seeds.is_empty() && !whole {
            return false; // Names that stand for nothing just now are not the same as no seeds.
        }
        let Some(used) = &self.used else {
            return true;
        };
        // Old addresses of a name that cannot be resolved just now are better than none.
        let news = found.seeds != *used && (whole || is_new);
        news || found.seeds.len() > used.len()
    }
}

/// What was said about these seeds before.
#[derive(Default)]
struct Known {
    /// Whether they are others than those that the node uses.
    is_new: bool,
    unresolved: Vec<SeedSpec>,
    left_out: usize,
}

impl Known {
    /// Warns of what is worse than before.
    fn warn(&mut self, found: &Resolved) {
        for seeds::Unresolved { seed, error } in &found.unresolved {
            if !self.unresolved.contains(seed) {
                warn!(%seed, %error, "a seed's name could not be resolved; will try again");
            }
        }
        if found.left_out > self.left_out {
            let (used, left_out) = (found.seeds.len(), found.left_out);
            warn!(used, left_out, "the seeds stand for too many addresses; some are not used");
        }
        self.unresolved = found.unresolved.iter().map(|gone| gone.seed.clone()).collect();
        self.left_out = found.left_out;
    }
}

/// What a file holds, once two readings in a row agree.
struct Settled {
    last: Option<Result<Vec<u8>, String>>,
    taken: bool,
}

impl Settled {
    const fn new() -> Self {
        Self { last: None, taken: false }
    }

    /// Takes a reading; says whether it is the second of a new content.
    fn is_news(&mut self, read: Result<Vec<u8>, String>) -> bool {
        let repeated = self.last.as_ref() == Some(&read);
        if !repeated {
            self.last = Some(read);
            self.taken = false;
            return false;
        }
        !std::mem::replace(&mut self.taken, true)
    }

    fn content(&self) -> &Result<Vec<u8>, String> {
        self.last.as_ref().expect("news came with a content")
    }
}

fn keys(allowed: &Allowed) -> usize {
    match allowed {
        Allowed::Any => 0,
        Allowed::Only(keys) => keys.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_counts_once_and_only_when_it_stands_still() {
        let mut settled = Settled::new();
        let text = |text: &str| Ok::<_, String>(text.as_bytes().to_vec());
        assert!(!settled.is_news(text("a")));
        assert!(settled.is_news(text("a")));
        assert!(!settled.is_news(text("a")));
        // An editor truncates, then writes.
        assert!(!settled.is_news(text("")));
        assert!(!settled.is_news(text("ab")));
        assert!(settled.is_news(text("ab")));
        assert!(!settled.is_news(Err("gone".to_owned())));
        assert!(settled.is_news(Err("gone".to_owned())));
    }
}
