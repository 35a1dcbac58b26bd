//! `kernel/memory_idle` (K451): what a process holds that was submitted and has no session.

use benches::counting::{Counting, bytes_of};
use benches::results::{Results, Unit};
use benches::rig::Rig;
use benches::{area, sized};

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    area("kernel", "memory", memory);
}

/// All tables and all indexes are counted, and the tree of the root.
fn memory(results: &mut Results) {
    let processes = sized(1_000_000, 1_000);
    let held = |processes| {
        let mut rig = Rig::new();
        drop(rig.crowd(processes));
        let _ = rig.kernel.root();
        assert_eq!(rig.kernel.state().process_count(), processes, "all of them are there");
        bytes_of(rig)
    };
    let each = (held(processes) - held(0)) as f64 / f64::from(processes);
    results.count("kernel/memory_idle/process", each, Unit::Bytes);
}
