//! Properties of the router.
