//! An allocator that counts: how often memory was asked for, and how much is held.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// All counters are relaxed: a benchmark counts in one thread.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted. A benchmark makes it its `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call goes to `System` unchanged, which keeps the contract; counting allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise about `layout` is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: `memory` came from `alloc` above with this layout, and so from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Returns how often `run` asked for memory, and what it returned.
pub fn allocations<T>(run: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.load(Relaxed);
    let value = run();
    (ALLOCATIONS.load(Relaxed) - before, value)
}

/// Drops `value` and returns how many bytes that gave back.
pub fn bytes_of<T>(value: T) -> u64 {
    let before = held();
    drop(value);
    before - held()
}

fn held() -> u64 {
    ALLOCATED.load(Relaxed) - FREED.load(Relaxed)
}
