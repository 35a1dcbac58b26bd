//! Goal: envelopes by examples (2.4, K30–K35).
