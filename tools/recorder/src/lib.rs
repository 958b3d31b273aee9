//! Records every write and sync a process makes below one directory, and rebuilds crash images from
//! the record.
//!
//! Guarantees: the order in the log is a legal order of the calls; a call that failed changes
//! nothing in the log's model; an image never holds a byte that could not have been on the disk at
//! that moment; it shares no code with the vault it watches.
//!
//! # Layout
//! | module | what it does |
//! |---|---|
//! | [`event`], `codec` | the events, and their bytes in the log |
//! | [`log`] | reads a log, gives files an identity that outlives renames and inode reuse |
//! | [`file`], [`names`], [`model`] | which bytes and names are surely on disk, and which not yet |
//! | [`image`] | crash images: one variant of one crash point, written to a directory |
//! | [`history`] | every byte ever written, for an independent reader |
//! | [`fault`] | the n-th call fails |
//! | [`setup`] | starts the recorder inside a process, from its environment |
//! | `recorder`, `calls` | the bookkeeping, and what is recorded of each kind of call |
//! | `interpose` | the C symbols; the only file with `unsafe` |

#![deny(unsafe_code)]

pub mod event;
pub mod fault;
pub mod file;
pub mod history;
pub mod image;
pub mod log;
pub mod model;
pub mod names;

mod calls;
mod codec;
#[allow(unsafe_code)] // The C symbols of a preload library cannot be defined without it.
mod interpose;
mod recorder;
pub mod setup;

pub use event::{Event, FileId, SyncKind};
pub use history::{History, Region};
pub use image::{CrashImages, Image, Node, Summary, Variant, crash_points};
pub use log::{Log, LogError};
pub use names::MetadataRule;
