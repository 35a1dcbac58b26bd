//! Stories, seeds and fences: scenario files, golden vectors, regressions and the tidy tests.
