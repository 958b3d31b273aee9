//! The state of the directory after a number of events: what is there, and what of it is on disk
//! for certain.
//!
//! Guarantees: only a sync that succeeded makes anything durable, and only what was logged before
//! it began; `sync_file_range` makes nothing durable; a file of more than [`FILE_BYTES_MAX`] is
//! refused, not allocated.

use crate::event::{Event, FileId, SyncKind};
use crate::file::{DataOp, FileState};
use crate::log::ROOT;
use crate::names::{Edit, MetadataRule, Names};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

/// The largest file that is modelled.
pub const FILE_BYTES_MAX: u64 = 1 << 32;

/// Why an event cannot be applied: the log misses something that happened before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelError {
    FileTooLarge {
        event: usize,
    },
    /// The directory or the file that it names was never seen.
    UnknownPath {
        event: usize,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelError::FileTooLarge { event } => {
                write!(f, "event {event} makes a file larger than {FILE_BYTES_MAX} bytes")
            }
            ModelError::UnknownPath { event } => {
                write!(f, "event {event} names a path that the log never made")
            }
        }
    }
}

impl std::error::Error for ModelError {}

#[derive(Clone, Debug)]
pub struct Model {
    pub names: Names,
    pub files: BTreeMap<FileId, FileState>,
    /// Syncs that have begun: where, of what.
    syncs: HashMap<u64, (usize, FileId, SyncKind)>,
}

impl Model {
    pub fn new(rule: MetadataRule) -> Model {
        Model { names: Names::new(rule), files: BTreeMap::new(), syncs: HashMap::new() }
    }

    /// Applies event number `at`.
    ///
    /// # Errors
    /// Something before the event is missing from the log, or a file is too large to be modelled.
    pub fn apply(&mut self, at: usize, event: &Event) -> Result<(), ModelError> {
        match event {
            Event::BaseDir { file, path } => self.directory(at, *file, path, true)?,
            Event::Mkdir { file, path } => self.directory(at, *file, path, false)?,
            Event::BaseFile { file, path } => {
                self.files.entry(*file).or_default();
                let edit = self.edit(at, path, Some(*file))?;
                self.names.settle(edit);
            }
            Event::Open { file, path, created: true, .. } => {
                self.files.entry(*file).or_default();
                if !path.as_os_str().is_empty() {
                    let edit = self.edit(at, path, Some(*file))?;
                    self.names.change(at, vec![edit], Some(*file));
                }
            }
            Event::Link { file, path } => {
                let edit = self.edit(at, path, Some(*file))?;
                self.names.change(at, vec![edit], None);
            }
            Event::Unlink { path } | Event::Rmdir { path } => {
                let edit = self.edit(at, path, None)?;
                self.names.change(at, vec![edit], None);
            }
            Event::Rename { from, to, exchange } => self.rename(at, from, to, *exchange)?,
            Event::SyncStart { id, file, kind } => {
                self.syncs.insert(*id, (at, *file, *kind));
            }
            Event::SyncEnd { id, errno } => {
                if let Some((start, file, kind)) = self.syncs.remove(id).filter(|_| *errno == 0) {
                    self.synced(start, file, kind);
                }
            }
            _ => {
                if let Some((file, op, durable)) = data_op(event) {
                    self.data(at, file, op, durable)?;
                }
            }
        }
        Ok(())
    }

    fn data(
        &mut self,
        at: usize,
        file: FileId,
        op: DataOp,
        durable: bool,
    ) -> Result<(), ModelError> {
        let end = match &op {
            DataOp::Write { offset, data } => offset.saturating_add(data.len() as u64),
            DataOp::Resize(size) => *size,
            DataOp::Zero { .. } => 0,
        };
        if end > FILE_BYTES_MAX {
            return Err(ModelError::FileTooLarge { event: at });
        }
        self.files.entry(file).or_default().push(at, op, durable);
        if durable {
            // As fdatasync would: the new file's name goes with its bytes.
            self.names.synced(file, at);
        }
        Ok(())
    }

    fn directory(
        &mut self,
        at: usize,
        file: FileId,
        path: &Path,
        base: bool,
    ) -> Result<(), ModelError> {
        if file == ROOT {
            return Ok(());
        }
        let edit = self.edit(at, path, Some(file))?;
        self.names.add_directory(file);
        if base {
            self.names.settle(edit);
        } else {
            self.names.change(at, vec![edit], Some(file));
        }
        Ok(())
    }

    fn rename(
        &mut self,
        at: usize,
        from: &Path,
        to: &Path,
        exchange: bool,
    ) -> Result<(), ModelError> {
        let moved = self.names.lookup(from).ok_or(ModelError::UnknownPath { event: at })?;
        let replaced = self.names.lookup(to);
        if replaced == Some(moved) {
            return Ok(()); // POSIX: two names of one file, nothing happens.
        }
        let left = if exchange { replaced } else { None };
        let edits = vec![self.edit(at, from, left)?, self.edit(at, to, Some(moved))?];
        self.names.change(at, edits, None);
        Ok(())
    }

    fn edit(&self, at: usize, path: &Path, file: Option<FileId>) -> Result<Edit, ModelError> {
        let (dir, name) = self.names.split(path).ok_or(ModelError::UnknownPath { event: at })?;
        Ok(Edit { dir, name: name.to_owned(), file })
    }

    fn synced(&mut self, start: usize, file: FileId, kind: SyncKind) {
        match kind {
            SyncKind::Fsync | SyncKind::Fdatasync => {
                if let Some(state) = self.files.get_mut(&file) {
                    state.synced(start);
                }
                self.names.synced(file, start);
            }
            SyncKind::All => {
                for state in self.files.values_mut() {
                    state.synced(start);
                }
                self.names.all_synced(start);
            }
            SyncKind::Range => {}
        }
    }
}

/// What the event does to a file's bytes, and whether it is durable on return.
pub fn data_op(event: &Event) -> Option<(FileId, DataOp, bool)> {
    match event {
        Event::Write { file, offset, mode, data } => {
            let op = DataOp::Write { offset: *offset, data: data.clone() };
            Some((*file, op, mode.dsync || mode.base))
        }
        Event::Resize { file, size } => Some((*file, DataOp::Resize(*size), false)),
        Event::Zero { file, offset, len } => {
            Some((*file, DataOp::Zero { offset: *offset, len: *len }, false))
        }
        _ => None,
    }
}
