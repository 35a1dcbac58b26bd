//! Goal: a node that a program starts in itself begins and ends as C55 and C105 say.
//! Method: nodes on the loopback, in one runtime on one thread.
#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

use std::future::Future;
use std::time::Duration;

use host::config::ProfileName;
use host::span::Bytes;
use host::{Config, Node, files};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// Long enough for what must happen, on a machine that does many other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// C55: a seed that stands for nothing just now is not the same as no seed.
#[test]
fn a_node_whose_seeds_do_not_resolve_has_not_joined() {
    run(async {
        let (_folder, mut config) = prepare();
        config.seeds.push("nowhere.invalid:7400".parse().unwrap());
        let node = Node::start(config.clone()).await.unwrap();
        let joined = timeout(Duration::from_secs(1), node.joined()).await;
        assert!(joined.is_err(), "it calls itself a cluster of one, beside the one that it is of");
        assert!(!node.status().await.unwrap().joined);

        config.seeds.clear();
        node.reload(config).await.unwrap();
        timeout(PATIENCE, node.joined()).await.expect("no seeds: a cluster of one").unwrap();
        node.shutdown().await.unwrap();
    });
}

/// C105: nothing of a node goes on once it has stopped.
#[test]
fn a_node_that_was_shut_down_leaves_no_task() {
    run(async {
        let before = tasks();
        for _ in 0..3 {
            let (_folder, config) = prepare();
            let node = Node::start(config).await.unwrap();
            timeout(PATIENCE, node.joined()).await.expect("it has no seeds").unwrap();
            node.shutdown().await.unwrap();
        }
        // What was told to end does so when it is polled next.
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(tasks(), before, "tasks of nodes that have stopped");
    });
}

/// L2, L79: a start that fails after the kernel has begun leaves nothing that writes, and the
/// folder free; one that nobody waits for any more gives the folder up after its last file.
#[test]
fn a_node_that_does_not_start_leaves_the_folder_alone() {
    run(async {
        let (folder, config) = prepare();
        let before = tasks();
        let session = folder.path().join("node.session");
        std::fs::write(&session, [7; 32]).unwrap();
        let failure = Node::start(config.clone()).await.map(|_| ()).expect_err("it is corrupt");
        assert_eq!(failure.exit(), host::Exit::Corrupt);
        drop(files::Folder::lock(folder.path()).expect("nobody holds it"));
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(tasks(), before, "something of it goes on");

        std::fs::remove_file(&session).unwrap();
        let mut start = Box::pin(Node::start(config.clone()));
        while tasks() == before {
            let waited = timeout(Duration::ZERO, &mut start).await;
            assert!(waited.is_err(), "it waits for its files first");
        }
        drop(start);
        let held = files::Folder::lock(folder.path()).expect_err("its kernel has files out");
        assert_eq!(held.exit(), host::Exit::InUse);
        while tasks() > before {
            yield_now().await;
        }
        // Its files are closed by a thread of their own.
        while files::Folder::lock(folder.path()).is_err() {
            sleep(Duration::from_millis(1)).await;
        }
        Node::start(config).await.unwrap().shutdown().await.unwrap();
    });
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn run(story: impl Future<Output = ()>) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(story);
}

/// Makes a folder with a key and a list of it; returns the configuration of its node.
fn prepare() -> (TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let key = files::make_key(&folder.path().join("node.key")).unwrap();
    let digits: String = key.public().iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(folder.path().join("allowlist"), digits).unwrap();
    let mut config = Config::new("in-process");
    config.data = folder.path().to_owned();
    config.bind = "127.0.0.1:0".parse().unwrap();
    config.profile = ProfileName::Local;
    config.segment = Bytes(1 << 20);
    (folder, config)
}
