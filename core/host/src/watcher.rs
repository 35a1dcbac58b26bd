//! What can change while a node runs: the allowlist file, and what the seeds' names stand for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use machines::cluster::identity::Allowed;
use machines::cluster::ids::Addr;
use machines::cluster::swim::io::Seed;
use machines::node::io::Input;
use runtime::Handle;
use sync::{Busy, Publisher};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::files;
use crate::kernel::Kernel;
use crate::seeds::{self, SeedSpec};

/// How often the allowlist is read. A change counts when two readings in a row agree, so it is
/// taken up within a second (C24) and never half written.
const ALLOWLIST_EVERY: Duration = Duration::from_millis(250);
/// How often names of seeds are resolved.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// The same, while some name could not be resolved.
const RETRY_EVERY: Duration = Duration::from_secs(5);

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
    node: Handle<Kernel>,
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

/// Resolves the seeds' names again and again, and tells the node when that gives others.
pub(crate) async fn seeds(
    specs: Vec<SeedSpec>,
    own: Addr,
    mut used: Vec<Seed>,
    node: Handle<Kernel>,
) {
    let mut warned: Vec<SeedSpec> = Vec::new();
    if specs.is_empty() {
        return;
    }
    loop {
        let (found, unresolved) = seeds::resolve(&specs, own).await;
        for seeds::Unresolved { seed, error } in &unresolved {
            if !warned.contains(seed) {
                warn!(%seed, %error, "a seed's name could not be resolved; will try again");
            }
        }
        let every = match unresolved.is_empty() {
            true => RESOLVE_EVERY,
            false => RETRY_EVERY,
        };
        // Old addresses of a name that cannot be resolved just now are better than none.
        if found != used && unresolved.is_empty() || found.len() > used.len() {
            used.clone_from(&found);
            if node.tell(Input::Seeds(found)).is_err() {
                return;
            }
        }
        warned = unresolved.into_iter().map(|gone| gone.seed).collect();
        sleep(every).await;
    }
}

/// What a file holds, once two readings in a row agree.
struct Settled {
    last: Option<Result<Vec<u8>, String>>,
    taken: bool,
}

impl Settled {
    const fn new() -> Self {
        Self {
            last: None,
            taken: false,
        }
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
