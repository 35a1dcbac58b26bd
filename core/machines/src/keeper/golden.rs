//! Goal: data folders that released programs wrote recover to the roots they had (L80, L72).
//! Method: each folder of `scenarios/golden/folders/` is read as a start reads it, with its
//! snapshots and without; and what this program writes today is the newest of them, to the byte.
//!
//! How a folder is kept, and how one is added: `scenarios/golden/folders/README.md`.

mod story;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::io::{File, Folder, Input, Op};
use super::loading::{self, Loaded, Loading, Output};
use super::rig::{Disk, NODE};
use crate::kernel::Kernel;
use crate::kernel::config::KernelConfig;
use crate::ledger::segment;
use crate::ledger::snapshot::FileName;

/// The folder that this program's files are like.
const TODAY: &str = "v1";

fn folders() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../scenarios/golden/folders"].iter().collect()
}

/// A data folder, and what is in it.
struct Golden {
    /// The files, with the zeros up to their full lengths.
    files: BTreeMap<File, Vec<u8>>,
    snapshot: u64,
    record: u64,
    events: u64,
    root: String,
}

fn golden(folder: &Path) -> Golden {
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |key: &str| json[key].as_u64().unwrap();
    let files = json["files"].as_array().unwrap().iter().map(|file| {
        let name = file["name"].as_str().unwrap();
        let mut bytes = fs::read(folder.join(name)).unwrap();
        bytes.resize(usize::try_from(file["bytes"].as_u64().unwrap()).unwrap(), 0);
        (named(name), bytes)
    });
    let root = json["root"].as_str().unwrap().to_owned();
    let (snapshot, record, events) = (number("snapshot"), number("record"), number("events"));
    Golden { files: files.collect(), snapshot, record, events, root }
}

fn named(path: &str) -> File {
    match path.split_once('/').unwrap() {
        ("journal", name) => File::Journal(segment::File::parse(name).unwrap()),
        (_, name) => File::Snapshot(FileName::parse(name).unwrap()),
    }
}

/// Reads a folder as a start does, up to where it would go on.
fn recovered(files: &BTreeMap<File, Vec<u8>>) -> Result<Loaded, String> {
    let mut disk = Disk::default();
    disk.now.clone_from(files);
    let mut loading = Loading::new(NODE, Kernel::new(KernelConfig::new()).unwrap());
    let mut wanted = VecDeque::new();
    loop {
        while let Some(output) = loading.poll() {
            match output {
                Output::Own(action) => wanted.push_back((None, action)),
                Output::Recovery(op, action) => wanted.push_back((Some(op), action)),
                Output::Refused(why) => return Err(why.to_string()),
                Output::Loaded(loaded) => return Ok(*loaded),
            }
        }
        let (op, action) = wanted.pop_front().expect("it wants something until it ends");
        let done = disk.perform(Op(1), action);
        loading.handle(match (done, op) {
            (Input::Listed(_, files), _) => loading::Input::Listed(files),
            (Input::Read(_, bytes), None) => loading::Input::Read(bytes),
            (Input::Read(_, bytes), Some(op)) => loading::Input::Record(op, bytes),
            (other, _) => panic!("reading leads to {other:?}"),
        });
    }
}

fn root(loaded: &Loaded) -> String {
    loaded.kernel.current_root().to_string()
}

fn all() -> Vec<(String, Golden)> {
    let entries = fs::read_dir(folders()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    folders.iter().map(|path| (name(path), golden(path))).collect()
}

/// L80, L72: from the snapshot and the records after it, and from the records alone.
#[test]
fn folders_of_every_version_recover_to_their_golden_roots() {
    let all = all();
    assert!(all.iter().any(|(name, _)| name == TODAY), "this version has a folder");
    for (name, mut golden) in all {
        let loaded = recovered(&golden.files).unwrap_or_else(|why| panic!("{name}: {why}"));
        let report = &loaded.report;
        assert_eq!(report.snapshot, Some(golden.snapshot), "{name}: {:?}", report.unsound);
        assert_eq!((report.record, report.events), (golden.record, golden.events), "{name}");
        assert_eq!(report.torn, None, "{name}");
        assert_eq!(root(&loaded), golden.root, "{name}: with its snapshot");
        golden.files.retain(|file, _| file.folder() == Folder::Journal);
        let loaded = recovered(&golden.files).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!((loaded.report.snapshot, loaded.report.replayed), (None, golden.record));
        assert_eq!(root(&loaded), golden.root, "{name}: without");
    }
}

/// A golden root that any folder has would prove nothing.
#[test]
fn a_folder_with_another_byte_does_not_recover_to_the_golden_root() {
    for (name, golden) in all() {
        for (file, bytes) in &golden.files {
            // In the last record, or in the snapshot's rows: an older one, or none, is taken then.
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            let mut files = golden.files.clone();
            files.get_mut(file).unwrap()[last / 2] ^= 1;
            match recovered(&files) {
                Ok(loaded) if file.folder() == Folder::Snapshots => {
                    assert_eq!(loaded.report.unsound.len(), 1, "{name}: {file}");
                }
                Ok(loaded) => assert_ne!(root(&loaded), golden.root, "{name}: {file}"),
                Err(_) => {}
            }
        }
    }
}

/// L10–L17: what is written for the same story has not changed by a byte. If it has, the format
/// has, and needs a version of its own.
#[test]
fn what_is_written_today_is_the_newest_golden_folder() {
    let golden = all().into_iter().find(|(name, _)| name == TODAY).map(|(_, golden)| golden);
    let written = story::written();
    let same = |golden: &Golden| written.files == golden.files && written.root == golden.root;
    if !golden.as_ref().is_some_and(same) {
        let found = env::temp_dir().join("lockstep-golden-folder");
        save(&found, &written);
        panic!("the story is written otherwise; what came out is in {}", found.display());
    }
}

/// Writes a folder as the golden ones are kept.
fn save(folder: &Path, written: &Golden) {
    let mut files = Vec::new();
    for (file, bytes) in &written.files {
        let path = format!("{}/{file}", file.folder().name());
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        fs::create_dir_all(folder.join(file.folder().name())).unwrap();
        fs::write(folder.join(&path), &bytes[..end]).unwrap();
        files.push(format!("    {{ \"name\": \"{path}\", \"bytes\": {} }}", bytes.len()));
    }
    let Golden { snapshot, record, events, root, .. } = written;
    let text = format!(
        "{{\n  \"about\": \"{}\",\n  \"format\": 1,\n  \"schema\": 1,\n  \"files\": [\n{}\n  ],\n  \
         \"snapshot\": {snapshot},\n  \"record\": {record},\n  \"events\": {events},\n  \
         \"root\": \"{root}\"\n}}\n",
        story::ABOUT,
        files.join(",\n"),
    );
    fs::write(folder.join("expected.json"), text).unwrap();
}
