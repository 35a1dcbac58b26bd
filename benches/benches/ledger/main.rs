//! The ledger: L90 to L95. `cargo bench --bench ledger -- append` measures one area alone.
//!
//! Files are real: in a folder under `target/`, through the production port, with its threads and
//! its `fdatasync`. The *floor* writes the same bytes into a file that is there already and syncs
//! it. Whoever is compared takes turns.

mod append;
mod callers;
mod driver;
mod encode;
mod recover;
mod root;
mod snapshot;
mod stores;

use benches::area;

fn main() {
    area("ledger", "append", append::run);
    area("ledger", "callers", callers::run);
    area("ledger", "encode", encode::run);
    area("ledger", "root", root::run);
    area("ledger", "recover", recover::run);
    area("ledger", "snapshot", snapshot::run);
}
