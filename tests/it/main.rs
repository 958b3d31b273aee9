//! The integration binary: real servers on port 0 of the loopback interface, real certificates.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod ages;
mod attributed;
mod audit;
mod batches;
mod canary;
mod certificates;
mod conformance;
mod crash;
mod daemon;
mod door;
mod endings;
mod evolve;
mod faults;
mod floods;
mod frames;
mod golden;
mod holds;
mod house;
mod levels;
mod live;
mod logs;
mod mending;
mod model;
mod peer;
mod pki;
mod policy;
mod reload;
mod retention;
mod serving;
mod share;
mod stage;
mod store;
mod story;
mod tlog;
mod vectors;
