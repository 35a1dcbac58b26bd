//! Lock-free memory: lanes, mailboxes, snapshots, generic over one port of atomics.
