//! Properties of the registry.
