//! `lethe-recorder`: records a command, shows a log, writes crash images and histories.

use lethe_recorder::history::write_region;
use lethe_recorder::image::crash_points;
use lethe_recorder::log::Stream;
use lethe_recorder::{CrashImages, Event, Log, MetadataRule, SyncKind, Variant, setup};
use std::collections::HashMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: lethe-recorder run --dir DIR --log LOG [--fault OP:N:ERRNO[:sticky]] -- COMMAND...
       lethe-recorder info LOG [--events yes]
       lethe-recorder check LOG --dir DIR
       lethe-recorder image LOG --at N --variant V --out DIR [--rule ext4|strict]
       lethe-recorder history LOG --out FILE
V: all, none, drop:FILE, random:SEED";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match command(&args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("lethe-recorder: {e}");
            ExitCode::from(2)
        }
    }
}

type Outcome = Result<ExitCode, Box<dyn Error>>;

fn command(args: &[OsString]) -> Outcome {
    let (name, rest) = args.split_first().ok_or(USAGE)?;
    let split = rest.iter().position(|arg| arg == "--").unwrap_or(rest.len());
    let (own, after) = rest.split_at_checked(split).ok_or(USAGE)?;
    let options = Options::parse(own)?;
    match name.to_str() {
        Some("run") => run(&options, after.get(1..).unwrap_or_default()),
        Some("info") => info(&options),
        Some("check") => check(&options),
        Some("image") => image(&options),
        Some("history") => history(&options),
        _ => Err(USAGE.into()),
    }
}

/// `--name value` pairs, and one argument without a name.
struct Options {
    named: HashMap<String, OsString>,
    bare: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[OsString]) -> Result<Options, Box<dyn Error>> {
        let (mut named, mut bare) = (HashMap::new(), None);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if let Some(name) = arg.to_str().and_then(|arg| arg.strip_prefix("--")) {
                named.insert(name.to_owned(), args.next().ok_or(USAGE)?.clone());
            } else if bare.replace(PathBuf::from(arg)).is_some() {
                return Err(USAGE.into());
            }
        }
        let known = ["dir", "log", "fault", "events", "at", "variant", "out", "rule"];
        if let Some(name) = named.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("--{name}: no such option\n{USAGE}").into());
        }
        Ok(Options { named, bare })
    }

    fn value(&self, name: &str) -> Result<&OsStr, Box<dyn Error>> {
        let value = self.named.get(name).map(OsString::as_os_str);
        value.ok_or_else(|| format!("--{name}: missing\n{USAGE}").into())
    }

    fn text(&self, name: &str) -> Result<&str, Box<dyn Error>> {
        Ok(self.value(name)?.to_str().ok_or("an option is not UTF-8")?)
    }

    fn log(&self) -> Result<&Path, Box<dyn Error>> {
        Ok(self.bare.as_deref().ok_or(USAGE)?)
    }

    fn rule(&self) -> Result<MetadataRule, Box<dyn Error>> {
        match self.named.get("rule").map(|rule| rule.to_str()) {
            None | Some(Some("ext4")) => Ok(MetadataRule::Ext4Like),
            Some(Some("strict")) => Ok(MetadataRule::Strict),
            _ => Err("--rule: expected ext4 or strict".into()),
        }
    }
}

fn run(options: &Options, command: &[OsString]) -> Outcome {
    let (program, args) = command.split_first().ok_or(USAGE)?;
    let library = std::env::current_exe()?.with_file_name("liblethe_recorder.so");
    if !library.exists() {
        return Err("liblethe_recorder.so is not beside this executable".into());
    }
    let mut command = Command::new(program);
    command.args(args).env("LD_PRELOAD", library);
    command.env(setup::DIR, options.value("dir")?).env(setup::LOG, options.value("log")?);
    if let Some(fault) = options.named.get("fault") {
        command.env(setup::FAULT, fault);
    }
    Err(command.exec().into())
}

fn info(options: &Options) -> Outcome {
    let log = Log::read(options.log()?)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if options.named.contains_key("events") {
        for (i, event) in log.events.iter().enumerate() {
            writeln!(out, "{i} {}", shown(event))?;
        }
    }
    for root in &log.roots {
        writeln!(out, "directory  {}", root.display())?;
    }
    let (mut writes, mut bytes, mut syncs, mut ranges) = (0u64, 0u64, 0u64, 0u64);
    for event in &log.events {
        match event {
            Event::Write { data, .. } => (writes, bytes) = (writes + 1, bytes + data.len() as u64),
            Event::SyncStart { kind: SyncKind::Range, .. } => ranges += 1,
            Event::SyncStart { .. } => syncs += 1,
            _ => {}
        }
    }
    writeln!(out, "events     {}{}", log.events.len(), if log.torn { " (torn end)" } else { "" })?;
    writeln!(out, "writes     {writes}, {bytes} bytes")?;
    writeln!(out, "syncs      {syncs}, and {ranges} sync_file_range")?;
    let mut images = CrashImages::new(&log, options.rule()?);
    images.go_to(log.events.len())?;
    writeln!(out, "unsynced   {} files at the end", images.unsynced_files().len())?;
    writeln!(out, "points     {} decisive", crash_points(&log, 0, 0).len())?;
    let blind = log.blind_spots();
    for spot in &blind {
        writeln!(out, "NOT TO BE TRUSTED: {spot}")?;
    }
    Ok(if blind.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(event: &Event) -> String {
    match event {
        Event::Write { file, offset, mode, data } => {
            format!("Write {{ file: {file:?}, offset: {offset}, len: {}, {mode:?} }}", data.len())
        }
        other => format!("{other:?}"),
    }
}

fn check(options: &Options) -> Outcome {
    let log = Log::read(options.log()?)?;
    let mut images = CrashImages::new(&log, options.rule()?);
    images.go_to(log.events.len())?;
    let different = images.image(Variant::All).differences(Path::new(options.value("dir")?))?;
    for path in &different {
        println!("differs: {}", path.display());
    }
    for spot in log.blind_spots() {
        println!("NOT TO BE TRUSTED: {spot}");
    }
    let good = different.is_empty() && log.blind_spots().is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn image(options: &Options) -> Outcome {
    let log = Log::read(options.log()?)?;
    let at = options.text("at")?.parse().map_err(|_| "--at: expected a number")?;
    let variant: Variant = options.text("variant")?.parse()?;
    let out = PathBuf::from(options.value("out")?);
    let made = CrashImages::new(&log, options.rule()?).materialise(at, variant, &out)?;
    println!("{} files, {} bytes", made.files, made.bytes);
    Ok(ExitCode::SUCCESS)
}

fn history(options: &Options) -> Outcome {
    let mut out = BufWriter::new(File::create(options.value("out")?)?);
    for event in Stream::open(options.log()?)? {
        write_region(&event?, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
