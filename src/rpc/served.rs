//! Generated: the record service as the daemon serves it, with [`super::shown::Shown`] for the records of its answers.

#![allow(clippy::all, clippy::pedantic, missing_docs)]

include!(concat!(env!("OUT_DIR"), "/served/lethe.v1.rs"));
