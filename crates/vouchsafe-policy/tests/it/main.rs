//! The policy engine at its edge.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml allows them in tests, but does not see that helpers of an integration test are tests"
)]

mod agreement;
mod attacks;
mod check;
mod decide;
mod difference;
mod explain;
mod memo;
mod modes;
mod properties;
mod protect;
mod rights;
mod step_up;
mod suggest;
mod templates;
mod world;
