//! Sealing of records and datagrams.
