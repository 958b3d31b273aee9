//! Command line of the independent reader. Results go to stdout as JSON, messages to stderr.
//!
//! Exit codes: 0 done and nothing found, 1 an input could not be read, 2 usage, 3 a searched text was found
//! (`open --find`) or a check failed (`ledger`, `receipt`), 4 a swept key opened a target.

use lethe_oracle::closure::versions;
use lethe_oracle::encoding::{parse_uuid, unhex};
use lethe_oracle::find::{Finder, Sightings};
use lethe_oracle::inputs::{Inputs, close};
use lethe_oracle::ledger;
use lethe_oracle::report::Outcome;
use lethe_oracle::scan::{ClearText, Rows};
use lethe_oracle::sweep::Sweep;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "\
usage: lethe-oracle open [INPUT]... [--find TEXT]... [--no-values] [--output json]
                    [--asked FILE]... [--sweep --target UUID... [--sweep-max N]]
       lethe-oracle ledger [INPUT]...
       lethe-oracle receipt FILE.json --key HEX
INPUT: --history FILE   every write: file_id u32 | offset u64 | len u32 | bytes, big-endian
       --file FILE      a file as it is now        --dir DIR     all files below a directory
       --kek FILE       a key-encryption key       --anchor FILE an anchor, both slots
       --anchor-from-history   also use every anchor slot that the inputs ever held (control)";

enum Fail {
    Usage(String),
    Input(String),
}

impl From<String> for Fail {
    fn from(what: String) -> Self {
        Fail::Input(what)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((command, rest)) if command == "open" => open(rest),
        Some((command, rest)) if command == "ledger" => check_ledger(rest),
        Some((command, rest)) if command == "receipt" => receipt(rest),
        _ => Err(Fail::Usage("no command".into())),
    };
    match done {
        Ok((report, code)) => match serde_json::to_writer_pretty(std::io::stdout().lock(), &report)
        {
            Ok(()) => {
                let _ = writeln!(std::io::stdout()); // a reader that has gone away has its answer
                ExitCode::from(code)
            }
            Err(_) => ExitCode::from(1),
        },
        Err(Fail::Input(what)) => {
            eprintln!("lethe-oracle: {what}");
            ExitCode::from(1)
        }
        Err(Fail::Usage(what)) => {
            eprintln!("lethe-oracle: {what}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What the options ask for; commands take the part that concerns them.
struct Options {
    inputs: Inputs,
    needles: Vec<String>,
    with_values: bool,
    sweep: bool,
    sweep_max: usize,
    targets: Vec<[u8; 16]>,
    asked: Vec<String>,
    key: Option<[u8; 32]>,
    operands: Vec<String>,
}

fn parse(args: &[String]) -> Result<Options, Fail> {
    let mut o = Options {
        inputs: Inputs::default(),
        needles: Vec::new(),
        with_values: true,
        sweep: false,
        sweep_max: 10_000_000,
        targets: Vec::new(),
        asked: Vec::new(),
        key: None,
        operands: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let bad = |what: &str| Fail::Usage(format!("{arg}: {what}"));
        let mut value = || args.next().ok_or_else(|| bad("needs a value"));
        match arg.as_str() {
            "--history" => o.inputs.histories.push(value()?.into()),
            "--file" => o.inputs.files.push(value()?.into()),
            "--dir" => o.inputs.dirs.push(value()?.into()),
            "--kek" => o.inputs.keks.push(value()?.into()),
            "--anchor" => o.inputs.anchors.push(value()?.into()),
            "--anchor-from-history" => o.inputs.anchor_from_history = true,
            "--find" => o.needles.push(value()?.clone()),
            "--no-values" => o.with_values = false,
            "--output" if value()? == "json" => {}
            "--output" => return Err(bad("only json is known")),
            "--sweep" => o.sweep = true,
            "--sweep-max" => o.sweep_max = value()?.parse().map_err(|_| bad("needs a number"))?,
            "--target" => o.targets.push(parse_uuid(value()?).ok_or_else(|| bad("needs a UUID"))?),
            "--asked" => o.asked.push(value()?.clone()),
            "--key" => {
                let key = unhex(value()?).and_then(|k| k.try_into().ok());
                o.key = Some(key.ok_or_else(|| bad("needs 64 hexadecimal digits"))?);
            }
            flag if flag.starts_with('-') => return Err(bad("unknown option")),
            _ => o.operands.push(arg.clone()),
        }
    }
    Ok(o)
}

fn open(args: &[String]) -> Result<(Value, u8), Fail> {
    let o = parse(args)?;
    if !o.operands.is_empty() {
        return Err(Fail::Usage("open takes options only".into()));
    }
    if o.sweep == o.targets.is_empty() {
        return Err(Fail::Usage("--sweep and --target belong together".into()));
    }
    let finder = Finder::new(&o.needles).map_err(Fail::Usage)?;
    let guess = |file: &String| match std::fs::read(file) {
        Ok(bytes) => Ok((file.clone(), bytes)),
        Err(e) => Err(Fail::from(format!("{file}: {e}"))),
    };
    let asked = o.asked.iter().map(guess).collect::<Result<Vec<_>, _>>()?;
    let mut clear = ClearText { finder: &finder, seen: Sightings::new() };
    let mut rows = Rows::default();
    let totals = o.inputs.read(Some(&mut rows), &mut clear)?;
    let keks = o.inputs.read_keks()?;
    let anchors = o.inputs.open_anchors(&rows, &keks)?;
    let mut closure = close(&rows, &anchors);

    let mut sweep = None;
    if o.sweep {
        let mut guess = Sweep::new(&rows, &closure, &o.targets, o.sweep_max);
        for (kind, plain) in closure.plaintexts() {
            guess.bytes(kind, plain);
        }
        for found in &anchors {
            guess.bytes("anchor", &found.anchor.payload);
        }
        o.inputs.read(None, &mut guess)?;
        guess.feed(&mut closure);
        sweep = Some(guess);
    }
    let (versions, sealed) = versions(&rows, &closure.records);
    let outcome = Outcome {
        rows: &rows,
        totals,
        keks: &keks,
        anchors: &anchors,
        closure: &closure,
        versions: &versions,
        sealed: &sealed,
        finder: &finder,
        clear: &clear.seen,
        sweep: sweep.as_ref(),
        with_values: o.with_values,
        asked: &asked,
    };
    let (report, found) = outcome.json();
    let swept = sweep.as_ref().is_some_and(Sweep::has_hits);
    let code = match (found, swept) {
        (true, _) => 3,
        (false, true) => 4,
        (false, false) => 0,
    };
    Ok((report, code))
}

fn check_ledger(args: &[String]) -> Result<(Value, u8), Fail> {
    let o = parse(args)?;
    let finder = Finder::new(&[]).map_err(Fail::Usage)?;
    let mut rows = Rows::default();
    o.inputs.read(Some(&mut rows), &mut ClearText { finder: &finder, seen: Sightings::new() })?;
    let anchors = o.inputs.open_anchors(&rows, &o.inputs.read_keks()?)?;
    let mut checks = Vec::new();
    for found in &anchors {
        let check = ledger::check(&rows, &found.anchor);
        if !checks.contains(&check) {
            checks.push(check);
        }
    }
    let ok = !checks.is_empty() && checks.iter().all(|c| c.get("ok") == Some(&Value::Bool(true)));
    Ok((json!({"ok": ok, "anchors": checks}), if ok { 0 } else { 3 }))
}

fn receipt(args: &[String]) -> Result<(Value, u8), Fail> {
    let o = parse(args)?;
    let ([file], Some(key)) = (o.operands.as_slice(), o.key) else {
        return Err(Fail::Usage("receipt needs FILE.json and --key HEX".into()));
    };
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let document: Value = serde_json::from_str(&text).map_err(|e| format!("{file}: {e}"))?;
    let receipts = ledger::receipts(&document, &key);
    let ok =
        !receipts.is_empty() && receipts.iter().all(|r| r.get("ok") == Some(&Value::Bool(true)));
    Ok((json!({"ok": ok, "receipts": receipts}), if ok { 0 } else { 3 }))
}
