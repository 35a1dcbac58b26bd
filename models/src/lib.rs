//! Exhaustive models: loom and shuttle over sync, stateright over machines.

pub mod reference;
