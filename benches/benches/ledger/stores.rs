//! What the journal is measured against: the floor, and two stores.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fjall::{Database as Fjall, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Database as Redb, Durability, TableDefinition};

use super::driver::{BODY, RECORD};

/// How large the floor's file is; it begins again at its end.
const BYTES: u64 = 64 << 20;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// Bytes that are written into a file that is there already, and synced.
pub(crate) struct Floor {
    file: File,
    offset: u64,
    bytes: Vec<u8>,
}

impl Floor {
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join("floor");
        let open = OpenOptions::new().create_new(true).read(true).write(true).open(path);
        let file = open.expect("the folder can be written");
        let zeros = vec![0; 1 << 20];
        for offset in (0..BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset).expect("there is room");
        }
        file.sync_all().expect("it can be synced");
        Self { file, offset: 0, bytes: vec![7; 1 << 20] }
    }

    /// Makes so many records durable with one sync.
    pub(crate) fn commit(&mut self, records: usize) {
        let bytes = &self.bytes[..records * RECORD];
        if self.offset + bytes.len() as u64 > BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(bytes, self.offset).expect("there is room");
        self.file.sync_data().expect("it can be synced");
        self.offset += bytes.len() as u64;
    }
}

/// A copy-on-write B-tree.
pub(crate) struct RedbStore {
    store: Redb,
    next: u64,
}

impl RedbStore {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { store: Redb::create(folder.join("redb")).expect("the folder is empty"), next: 0 }
    }

    /// Makes so many records durable with one transaction.
    pub(crate) fn commit(&mut self, records: usize) {
        let mut write = self.store.begin_write().expect("nobody else writes");
        write.set_durability(Durability::Immediate).expect("there is no savepoint");
        {
            let mut table = write.open_table(TABLE).expect("it is ours");
            for _ in 0..records {
                self.next += 1;
                table.insert(self.next, [7; BODY].as_slice()).expect("there is room");
            }
        }
        write.commit().expect("there is room");
    }
}

/// A log-structured merge tree.
pub(crate) struct FjallStore {
    store: Fjall,
    records: Keyspace,
    next: u64,
}

impl FjallStore {
    pub(crate) fn new(folder: &Path) -> Self {
        let store = Fjall::builder(folder.join("fjall")).open().expect("the folder is empty");
        let records = store.keyspace("records", KeyspaceCreateOptions::default);
        Self { records: records.expect("it is new"), store, next: 0 }
    }

    /// Makes so many records durable with one batch.
    pub(crate) fn commit(&mut self, records: usize) {
        let mut batch = self.store.batch().durability(Some(PersistMode::SyncAll));
        for _ in 0..records {
            self.next += 1;
            batch.insert(&self.records, self.next.to_be_bytes(), [7; BODY]);
        }
        batch.commit().expect("there is room");
    }
}
