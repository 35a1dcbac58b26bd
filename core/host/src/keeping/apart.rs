//! Files that are let go of on a thread of their own.
//!
//! ```text
//!   the loop ends, or is ended ─► drop ─► a thread: waits for what was begun ─► freed
//! ```
//!
//! To let go of files is to wait for what was begun on them, and a disk that hangs ends nothing.
//! Nobody who shares a thread with others can wait for that.

use std::thread;

use runtime::{Fault, Files, Task, TaskId, Told};

/// See the file's header.
pub(super) struct Apart<F: Files> {
    /// Both are there until it is dropped.
    parts: Option<(F, sync::Reply<()>)>,
}

impl<F: Files> Apart<F> {
    /// Takes files; the second is answered, or given up, once nothing is done to them any more.
    pub(super) fn new(files: F) -> (Self, sync::Answer<()>) {
        let (freed, answer) = sync::reply();
        (Self { parts: Some((files, freed)) }, answer)
    }

    fn files(&mut self) -> &mut F {
        let parts = self.parts.as_mut();
        &mut parts.expect("they are there until the drop").0
    }
}

impl<F: Files> Files for Apart<F> {
    fn submit(&mut self, id: TaskId, task: Task) {
        self.files().submit(id, task);
    }

    fn ended(&mut self) -> impl Future<Output = (TaskId, Result<Told, Fault>)> + Send {
        self.files().ended()
    }
}

impl<F: Files> Drop for Apart<F> {
    fn drop(&mut self) {
        let parts = self.parts.take();
        let free = move || {
            if let Some((files, freed)) = parts {
                drop(files);
                // Late: nobody waits for it.
                let _ = freed.send(());
            }
        };
        // Without a thread all of it is dropped here.
        let _ = thread::Builder::new().name("ledger-end".to_owned()).spawn(free);
    }
}
