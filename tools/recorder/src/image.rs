//! Crash images: what a directory may hold after the power went at one point of the log.
//!
//! Guarantees: an image is a function of the log, the point, the variant and the rule alone; a
//! target directory that this value did not write itself and that is not empty is never touched.

use crate::event::{Event, FileId, SyncKind};
use crate::file::{FileState, Rng};
use crate::log::{Log, ROOT};
use crate::model::{Model, ModelError, data_op};
use crate::names::{MetadataRule, Tree};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What became of the writes and names that no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// All of them survive: the process was killed, the system lived on.
    All,
    /// None survives.
    None,
    /// This file's writes vanish, everything else survives.
    DropFile(FileId),
    /// A random part survives: see [`crate::file`] for bytes; of names, the first n changes. The
    /// call in flight at the crash point counts as an unsynced write.
    Random(u64),
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variant::All => write!(f, "all"),
            Variant::None => write!(f, "none"),
            Variant::DropFile(file) => write!(f, "drop:{}", file.0),
            Variant::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Variant, String> {
        let wrong = || "variant: expected all, none, drop:FILE or random:SEED".to_owned();
        match (text, text.split_once(':')) {
            ("all", _) => Ok(Variant::All),
            ("none", _) => Ok(Variant::None),
            (_, Some(("drop", n))) => {
                n.parse().map(|n| Variant::DropFile(FileId(n))).map_err(|_| wrong())
            }
            (_, Some(("random", n))) => n.parse().map(Variant::Random).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

#[derive(Debug)]
pub enum ImageError {
    Model(ModelError),
    Io(io::Error),
    /// Refused: not empty, and not written by this value.
    TargetNotEmpty,
    /// The log has fewer events.
    NoSuchPoint,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Model(e) => write!(f, "{e}"),
            ImageError::Io(e) => write!(f, "the image cannot be written: {e}"),
            ImageError::TargetNotEmpty => write!(f, "the target directory is not empty"),
            ImageError::NoSuchPoint => write!(f, "the log has fewer events"),
        }
    }
}

impl std::error::Error for ImageError {}

impl From<ModelError> for ImageError {
    fn from(e: ModelError) -> ImageError {
        ImageError::Model(e)
    }
}

impl From<io::Error> for ImageError {
    fn from(e: io::Error) -> ImageError {
        ImageError::Io(e)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    Dir,
    File(Cow<'a, [u8]>),
}

/// A directory tree, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image<'a> {
    pub nodes: BTreeMap<PathBuf, Node<'a>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: usize,
    pub bytes: u64,
}

/// Makes images of one log. Ascending points cost only the events between them; a lower point
/// starts over.
#[derive(Clone, Debug)]
pub struct CrashImages<'a> {
    events: &'a [Event],
    rule: MetadataRule,
    model: Model,
    at: usize,
    targets: BTreeSet<PathBuf>,
}

impl<'a> CrashImages<'a> {
    pub fn new(log: &'a Log, rule: MetadataRule) -> CrashImages<'a> {
        Self::of_events(&log.events, rule)
    }

    pub fn of_events(events: &'a [Event], rule: MetadataRule) -> CrashImages<'a> {
        CrashImages { events, rule, model: Model::new(rule), at: 0, targets: BTreeSet::new() }
    }

    /// Goes to the crash point: the first `point` events have happened.
    ///
    /// # Errors
    /// No such point, or an event that cannot be modelled.
    pub fn go_to(&mut self, point: usize) -> Result<(), ImageError> {
        if point < self.at {
            (self.model, self.at) = (Model::new(self.rule), 0);
        }
        let events = self.events.get(self.at..point).ok_or(ImageError::NoSuchPoint)?;
        for event in events {
            self.model.apply(self.at, event)?;
            self.at += 1;
        }
        Ok(())
    }

    /// Files with writes that no sync covered, at the current point.
    pub fn unsynced_files(&self) -> Vec<FileId> {
        let unsynced = self.model.files.iter().filter(|(_, state)| state.unsynced());
        unsynced.map(|(id, _)| *id).collect()
    }

    /// How many changes of names no sync covered, at the current point.
    pub fn unsynced_names(&self) -> usize {
        self.model.names.pending()
    }

    /// The image at the current point.
    pub fn image(&self, variant: Variant) -> Image<'_> {
        let names = &self.model.names;
        match variant {
            Variant::All => self.tree(names.live(), |_, file| file.all()),
            Variant::None => self.tree(names.durable(), |_, file| file.durable()),
            Variant::DropFile(lost) => {
                self.tree(
                    names.live(),
                    |id, file| {
                        if id == lost { file.durable() } else { file.all() }
                    },
                )
            }
            Variant::Random(seed) => {
                let n = Rng::new(seed).below(names.pending() as u64 + 1);
                let tree = names.after(usize::try_from(n).unwrap_or(0));
                let next = self.events.get(self.at).and_then(data_op);
                self.tree(&tree, |id, file| {
                    // Its own sequence per file: one file's writes do not change another's fate.
                    let stream = u64::from(id.0).wrapping_mul(0xd6e8_feb8_6659_fd93);
                    let mut rng = Rng::new(seed ^ stream);
                    let in_flight = next.as_ref().filter(|(file, _, _)| *file == id);
                    file.random(&mut rng, in_flight.map(|(_, op, _)| op))
                })
            }
        }
    }

    fn tree<'s>(
        &'s self,
        tree: &Tree,
        bytes: impl Fn(FileId, &'s FileState) -> Cow<'s, [u8]>,
    ) -> Image<'s> {
        let mut nodes = BTreeMap::new();
        let mut todo = vec![(ROOT, PathBuf::new())];
        let mut seen = BTreeSet::from([ROOT]);
        while let Some((dir, path)) = todo.pop() {
            for (name, id) in tree.get(&dir).into_iter().flatten() {
                let path = path.join(name);
                if tree.contains_key(id) {
                    if seen.insert(*id) {
                        nodes.insert(path.clone(), Node::Dir);
                        todo.push((*id, path));
                    }
                } else if let Some(state) = self.model.files.get(id) {
                    nodes.insert(path, Node::File(bytes(*id, state)));
                }
            }
        }
        Image { nodes }
    }

    /// Goes to the point and writes the image. Whatever `target` held from an earlier image of this
    /// value is removed.
    ///
    /// # Errors
    /// As [`CrashImages::go_to`]; a target that is not empty and not from this value; the file
    /// system refuses.
    pub fn materialise(
        &mut self,
        point: usize,
        variant: Variant,
        target: &Path,
    ) -> Result<Summary, ImageError> {
        self.go_to(point)?;
        if self.targets.contains(target) {
            clear(target)?;
        } else if target.exists() && fs::read_dir(target)?.next().is_some() {
            return Err(ImageError::TargetNotEmpty);
        }
        fs::create_dir_all(target)?;
        self.targets.insert(target.to_owned());
        Ok(self.image(variant).write_to(target)?)
    }
}

fn clear(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Image<'_> {
    /// Writes into an empty directory.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write_to(&self, dir: &Path) -> io::Result<Summary> {
        let mut summary = Summary::default();
        for (path, node) in &self.nodes {
            match node {
                Node::Dir => fs::create_dir(dir.join(path))?,
                Node::File(bytes) => {
                    write_sparsely(&File::create_new(dir.join(path))?, bytes)?;
                    summary.files += 1;
                    summary.bytes += bytes.len() as u64;
                }
            }
        }
        Ok(summary)
    }

    /// Paths where the directory and the image differ: with the image of everything and the
    /// directory that was recorded, an empty list means that no write went past the recorder.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn differences(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut left: BTreeSet<&Path> = self.nodes.keys().map(PathBuf::as_path).collect();
        let mut different = BTreeSet::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(parent) = todo.pop() {
            for entry in fs::read_dir(dir.join(&parent))? {
                let entry = entry?;
                let path = parent.join(entry.file_name());
                left.remove(path.as_path());
                let same = match self.nodes.get(&path) {
                    Some(Node::Dir) => entry.file_type()?.is_dir(),
                    Some(Node::File(bytes)) => {
                        entry.file_type()?.is_file() && fs::read(entry.path())? == bytes.as_ref()
                    }
                    None => false,
                };
                if entry.file_type()?.is_dir() {
                    todo.push(path.clone());
                }
                if !same {
                    different.insert(path);
                }
            }
        }
        different.extend(left.into_iter().map(Path::to_owned));
        Ok(different.into_iter().collect())
    }
}

/// Leaves holes where there are only zeros: engines preallocate.
fn write_sparsely(file: &File, bytes: &[u8]) -> io::Result<()> {
    const CHUNK: usize = 1 << 16;
    static ZEROS: [u8; CHUNK] = [0; CHUNK];
    file.set_len(bytes.len() as u64)?;
    let mut start = 0;
    let mut run: &[u8] = &[];
    for (i, chunk) in bytes.chunks(CHUNK).enumerate() {
        if ZEROS.starts_with(chunk) {
            file.write_all_at(run, start)?;
            run = &[];
        } else {
            let at = i * CHUNK;
            if run.is_empty() {
                start = at as u64;
            }
            let from = usize::try_from(start).unwrap_or(at);
            run = bytes.get(from..at + chunk.len()).unwrap_or(chunk);
        }
    }
    file.write_all_at(run, start)
}

/// Points worth crashing at: right before and right after each sync's start and end, each write
/// that is durable on return and each change of names; and `sample` random others. Ascending,
/// without repeats.
pub fn crash_points(log: &Log, sample: usize, seed: u64) -> Vec<usize> {
    let mut points = BTreeSet::from([log.events.len()]);
    let mut ranges = BTreeSet::new();
    for (i, event) in log.events.iter().enumerate() {
        let decisive = match event {
            Event::SyncStart { id, kind: SyncKind::Range, .. } => {
                ranges.insert(*id);
                false
            }
            Event::SyncEnd { id, .. } => !ranges.remove(id),
            Event::Write { mode, .. } => mode.dsync && !mode.base,
            Event::SyncStart { .. }
            | Event::Rename { .. }
            | Event::Link { .. }
            | Event::Unlink { .. } => true,
            _ => false,
        };
        if decisive {
            points.extend([i, i + 1]);
        }
    }
    let mut rng = Rng::new(seed);
    for _ in 0..sample {
        let point = rng.below(log.events.len() as u64 + 1);
        points.extend(usize::try_from(point).ok());
    }
    points.into_iter().collect()
}
