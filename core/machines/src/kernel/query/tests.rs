//! Goal: queries by examples.
