//! Goal: sessions do what section 8 says, by examples.

mod examples;
