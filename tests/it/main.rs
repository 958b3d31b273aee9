//! The integration binary: real servers on port 0 of the loopback interface, real certificates.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod crash;
mod daemon;
mod door;
mod house;
mod live;
mod model;
mod peer;
mod stage;
mod store;
mod story;
