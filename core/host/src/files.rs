//! A node's files: key, allowlist, and the folder that holds them.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machines::cluster::identity::{Allowed, StaticKey};

use crate::config::Allow;
use crate::failure::Failure;

/// The longest key file read, in bytes.
const KEY_MAX: u64 = 4_096;
/// The longest allowlist read, in bytes: a million keys fit.
const ALLOWLIST_MAX: u64 = 256 << 20;
/// The file, in the data folder, that a process locks for its life, its pid inside (L2).
const LOCK: &str = "LOCK";
/// The folder, in the data folder, of what exists only while a node runs.
const RUN_FOLDER: &str = "run";

/// Makes a new key and writes it to `path`, for its owner alone.
///
/// # Errors
///
/// The file is there already, or cannot be written; then nothing was changed.
pub fn make_key(path: &Path) -> Result<StaticKey, Failure> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).expect("the operating system has randomness");
    let pair = StaticKey::from_secret(secret);
    let written = write_new(path, |file| {
        file.write_all(pair.to_file().as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(pair),
        Err(error) => Err(Failure::KeyUnreadable {
            path: path.to_owned(),
            why: match error.kind() == io::ErrorKind::AlreadyExists {
                true => {
                    "it exists and is not overwritten; choose another file with --out".to_owned()
                }
                false => format!("it cannot be written: {error}"),
            },
        }),
    }
}

/// Makes a file for its owner alone, or none at all.
fn write_new(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut open = OpenOptions::new();
    let mut file = open.write(true).create_new(true).mode(0o600).open(path)?;
    write(&mut file).inspect_err(|_| {
        // It is ours, and of no use. If it cannot be removed, the error tells of the folder.
        let _ = fs::remove_file(path);
    })
}

/// Reads the key at `path`.
///
/// # Errors
///
/// It is missing, others may read it, or it is no key.
pub fn read_key(path: &Path) -> Result<StaticKey, Failure> {
    let unreadable = |why: String| Failure::KeyUnreadable { path: path.to_owned(), why };
    let metadata =
        fs::metadata(path).map_err(|error| match error.kind() == io::ErrorKind::NotFound {
            true => unreadable("there is none; make one: lockstep keygen".into()),
            false => unreadable(error.to_string()),
        })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(unreadable(format!(
            "its mode {mode:04o} lets others use it; run: chmod 600 {}",
            path.display()
        )));
    }
    if metadata.len() > KEY_MAX {
        return Err(unreadable("it is too long for a key".to_owned()));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    StaticKey::parse(&bytes).map_err(|error| unreadable(error.to_string()))
}

/// Reads whom to link with (C24); `path` is that of the file, with the data folder in front.
///
/// # Errors
///
/// The file cannot be read, or has a wrong line.
pub fn read_allowed(allow: &Allow, path: &Path) -> Result<Arc<Allowed>, Failure> {
    match allow {
        Allow::Any => Ok(Arc::new(Allowed::Any)),
        Allow::File(_) => parse_allowed(path, &read_allowlist(path)?),
    }
}

/// Reads the bytes of an allowlist.
///
/// # Errors
///
/// It cannot be read.
pub fn read_allowlist(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |why: String| Failure::AllowlistInvalid { path: path.to_owned(), line: None, why };
    let metadata =
        fs::metadata(path).map_err(|error| match error.kind() == io::ErrorKind::NotFound {
            true => unreadable(
                "there is none; write one public key a line, or set allow = \"any\"".into(),
            ),
            false => unreadable(error.to_string()),
        })?;
    if metadata.len() > ALLOWLIST_MAX {
        return Err(unreadable("it is longer than 256 MiB".to_owned()));
    }
    fs::read(path).map_err(|error| unreadable(error.to_string()))
}

/// Parses the bytes of the allowlist at `path`.
///
/// # Errors
///
/// The first wrong line makes the whole list invalid.
pub fn parse_allowed(path: &Path, bytes: &[u8]) -> Result<Arc<Allowed>, Failure> {
    match Allowed::parse(bytes) {
        Ok(allowed) => Ok(Arc::new(allowed)),
        Err(error) => Err(Failure::AllowlistInvalid {
            path: path.to_owned(),
            line: Some(error.line),
            why: error.why.to_string(),
        }),
    }
}

/// The data folder of a running node: at most one process holds it, as long as there is a clone.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: Arc<File>,
}

impl Folder {
    /// Takes the folder for this process, until the value and all its clones are dropped, or the
    /// process ends.
    ///
    /// # Errors
    ///
    /// It is not there, or another process holds it, or others may enter its folder `run`.
    pub fn lock(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::Folder { path: path.to_owned(), error };
        let run = path.join(RUN_FOLDER);
        match DirBuilder::new().mode(0o700).create(&run) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_private(&run)?,
            Err(error) => return Err(failed(error)),
        }
        let mut open = OpenOptions::new();
        let open = open.create(true).truncate(false).read(true).write(true).mode(0o600);
        let lock = open.open(path.join(LOCK)).map_err(failed)?;
        hold(path, lock)
    }

    /// Takes the folder if a node has ever held it, and makes nothing in it: for those who only
    /// read. A folder in which this process may not write is taken beside others who only read.
    ///
    /// # Errors
    ///
    /// Another process holds it, or it cannot be read.
    pub fn inspect(path: &Path) -> Result<Option<Self>, Failure> {
        let failed = |error| Failure::Folder { path: path.to_owned(), error };
        let lock = path.join(LOCK);
        fs::metadata(path).map_err(failed)?;
        match OpenOptions::new().read(true).write(true).open(&lock) {
            Ok(lock) => return hold(path, lock).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => {} // It may still be read.
        }
        let lock = File::open(&lock).map_err(failed)?;
        match lock.try_lock_shared() {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), _lock: Arc::new(lock) })),
            Err(error) => Err(not_locked(path, &lock, error)),
        }
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where the control socket of a node on this folder is.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        control(&self.path)
    }
}

/// Locks the file, and says in it who holds it (L2).
fn hold(path: &Path, lock: File) -> Result<Folder, Failure> {
    if let Err(error) = lock.try_lock() {
        return Err(not_locked(path, &lock, error));
    }
    let pid = format!("{}\n", std::process::id());
    // In this order: whoever is refused meanwhile, or on a disk that is full now, finds a holder.
    let told = lock.write_all_at(pid.as_bytes(), 0);
    let told = told.and_then(|()| lock.set_len(pid.len() as u64));
    told.map_err(|error| Failure::Folder { path: path.to_owned(), error })?;
    Ok(Folder { path: path.to_owned(), _lock: Arc::new(lock) })
}

fn not_locked(path: &Path, lock: &File, error: TryLockError) -> Failure {
    let path = path.to_owned();
    match error {
        TryLockError::WouldBlock => Failure::FolderInUse { path, pid: holder(lock) },
        TryLockError::Error(error) => Failure::Folder { path, error },
    }
}

/// Reads who holds the lock, if they have said so already.
fn holder(lock: &File) -> Option<u32> {
    let mut digits = [0; 16];
    let length = lock.read_at(&mut digits, 0).ok()?;
    // Of one that was longer the end may stand behind it.
    std::str::from_utf8(&digits[..length]).ok()?.lines().next()?.parse().ok()
}

/// Refuses what is no folder, and a folder that others may enter.
fn check_private(path: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Folder { path: path.to_owned(), error };
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if !metadata.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(failed(io::Error::other(format!(
            "its mode {mode:04o} lets others use it; run: chmod 700 {}",
            path.display()
        )))),
    }
}

/// Returns where the control socket of a node on the data folder `data` is.
#[must_use]
pub fn control(data: &Path) -> PathBuf {
    data.join(RUN_FOLDER).join("control")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let made = make_key(&path).unwrap();
        assert_eq!(read_key(&path).unwrap().public(), made.public());

        let before = fs::read(&path).unwrap();
        let failure = make_key(&path).expect_err("it is there");
        assert_eq!(failure.exit(), crate::Exit::Key);
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_that_could_not_be_written_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let full = |file: &mut File| {
            file.write_all(b"half a k")?;
            Err(io::ErrorKind::StorageFull.into())
        };
        let error = write_new(&path, full).expect_err("the disk is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!path.exists(), "a partial key would never be overwritten");
        make_key(&path).unwrap();
    }

    #[test]
    fn a_run_folder_that_others_may_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        for mode in [0o755, 0o710, 0o701] {
            fs::create_dir(&run).unwrap();
            fs::set_permissions(&run, fs::Permissions::from_mode(mode)).unwrap();
            let text = Folder::lock(folder.path()).expect_err("others may").to_string();
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.contains("chmod 700"), "{text}");
            fs::remove_dir(&run).unwrap();
        }
        // Nor may it lead elsewhere.
        std::os::unix::fs::symlink(folder.path(), &run).unwrap();
        Folder::lock(folder.path()).expect_err("it is no folder");
        fs::remove_file(&run).unwrap();
        Folder::lock(folder.path()).unwrap();
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        make_key(&path).unwrap();
        for mode in [0o640, 0o604, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let text = read_key(&path).expect_err("others may").to_string();
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.contains("chmod 600"), "{text}");
        }
    }

    #[test]
    fn a_data_folder_has_one_node_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::lock(folder.path()).unwrap();
        let second = Folder::lock(folder.path()).expect_err("it is held");
        assert_eq!(second.exit(), crate::Exit::InUse);
        let pid = format!("process {}", std::process::id());
        assert!(second.to_string().contains(&pid), "{second}");
        let third = Folder::inspect(folder.path()).expect_err("nor may one read what changes");
        assert_eq!(third.to_string(), second.to_string());
        drop(first);
        Folder::lock(folder.path()).unwrap();
    }

    /// L2: what an earlier holder left behind is no part of the pid, at no moment.
    #[test]
    fn a_holder_is_told_while_it_says_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK);
        fs::write(&path, "123\n5678901\n").unwrap();
        assert_eq!(holder(&File::open(&path).unwrap()), Some(123), "half way");
        drop(Folder::lock(folder.path()).unwrap());
        let pid = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), pid);
    }

    #[test]
    fn who_only_reads_makes_nothing_in_the_folder_and_keeps_a_node_away() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Folder::inspect(folder.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        drop(Folder::lock(folder.path()).unwrap());
        let reader = Folder::inspect(folder.path()).unwrap().expect("a node was here");
        let failure = Folder::lock(folder.path()).expect_err("it is being read");
        assert_eq!(failure.exit(), crate::Exit::InUse);
        drop(reader);
        Folder::lock(folder.path()).unwrap();
    }
}
