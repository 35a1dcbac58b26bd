//! Goal: pages.
