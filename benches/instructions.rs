//! P1 and P10 by instructions: what a `GetRecord` costs the server, against a bare tonic server that answers with the
//! same bytes; and how much of it is for rights, masking and the audit log.
//!
//! `cargo bench --profile release --config 'profile.release.package.lethe-vault.opt-level=3' --bench instructions`.
//! Needs valgrind. Both servers run under callgrind twice, with few and with many calls; the difference is what the
//! calls cost, in all and by function. Counts hardly depend on what else the machine does.
//! `--top 60` tells the functions that cost most, with all that they call.
//!
//! The audit log's entries go to disk together every 50 ms. Under callgrind that is some fifteen, in life it is
//! hundreds, so a second line leaves out what is done for a group, whatever its size. SHA-256 is counted in software.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/sides.rs"]
mod sides;
mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use lethe::proto::v1;

use sides::{Side, furnish, serve_echo};
use support::{Common, Outcome, line};

#[derive(Parser)]
struct Args {
    /// Calls of the shorter and of the longer run.
    #[arg(long, default_value_t = 200)]
    few: u64,
    #[arg(long, default_value_t = 2_200)]
    many: u64,
    /// So many functions are told, those first whose calls cost most.
    #[arg(long, default_value_t = 0)]
    top: usize,
    /// `--top` counts what a function does itself, not what it calls.
    #[arg(long)]
    own: bool,
    #[arg(long, hide = true)]
    echo: bool,
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// What is done once for a group of entries, however large.
const OF_A_GROUP: [&str; 2] =
    ["as lethe::store::Engine>::commit", "as lethe::store::Chronicle>::head"];

/// What P10 is about: functions whose cost, with all that they call, is counted.
const PARTS: [(&str, &[&str]); 3] = [
    ("rights", &["lethe::rpc::permit::permit"]),
    ("masking and shaping", &["Core>::view_of"]),
    (
        "audit",
        &[
            "Core>::note_reading",
            "Core>::entry",
            "as lethe::store::Chronicle>::append",
            "lethe::vault::subject_log::run",
        ],
    ),
];

fn main() -> Outcome<()> {
    let args = Args::parse();
    let runtime = support::runtime()?;
    match &args.dir {
        Some(dir) if args.echo => runtime.block_on(serve_echo(dir, args.common.bytes_of_a_call())),
        _ => runtime.block_on(compare(&args)),
    }
}

async fn compare(args: &Args) -> Outcome<()> {
    let dir = support::scratch()?;
    let calls = args.many - args.few;
    let mut each = Vec::new();
    for what in ["vault", "echo"] {
        let few = count(args, what, args.few, dir.path()).await?;
        let many = count(args, what, args.many, dir.path()).await?;
        each.push(many.saturating_sub(few) as f64 / calls as f64);
    }
    println!(
        "instructions: {calls} GetRecord calls of one caller, {} bytes",
        args.common.bytes_of_a_call()
    );
    line("P1 instructions a call", each[0], "", each[1], "<= 1.35");
    let at = |calls: u64| dir.path().join(format!("vault-{calls}.out"));
    let costs = by_function(&at(args.few), &at(args.many), true)?;
    let cost = |functions: &[&str]| {
        let of = costs.iter().filter(|(name, _)| functions.iter().any(|f| name.ends_with(f)));
        of.map(|(_, count)| count).sum::<i64>() as f64 / calls as f64
    };
    let own = each[0] - cost(&OF_A_GROUP);
    line("P1 without the log's commits", own, "", each[1], "<= 1.35");
    let parts = PARTS.map(|(part, functions)| (part, cost(functions)));
    parts.iter().for_each(|(part, count)| line(&format!("P10 {part}"), *count, "", own, "-"));
    let all = parts.iter().map(|(_, count)| count).sum();
    line("P10 audit, policy and masking", all, "", own, "<= 0.15");
    if args.top > 0 {
        let mut costs: Vec<_> =
            by_function(&at(args.few), &at(args.many), !args.own)?.into_iter().collect();
        costs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (name, count) in costs.into_iter().take(args.top) {
            println!("{:>12.0}  {name}", count as f64 / calls as f64);
        }
    }
    Ok(())
}

/// What each function executed in the longer run beyond the shorter one.
fn by_function(few: &Path, many: &Path, inclusive: bool) -> Outcome<HashMap<String, i64>> {
    let mut costs = of_run(many, inclusive)?;
    for (name, count) in of_run(few, inclusive)? {
        *costs.entry(name).or_insert(0) -= count;
    }
    Ok(costs)
}

fn of_run(file: &Path, inclusive: bool) -> Outcome<HashMap<String, i64>> {
    let mut costs: HashMap<String, i64> = HashMap::new();
    let mut annotate = Command::new("callgrind_annotate");
    annotate.args(["--threshold=100", "--auto=no"]);
    annotate.arg(if inclusive { "--inclusive=yes" } else { "--inclusive=no" });
    let told = String::from_utf8(annotate.arg(file).output()?.stdout)?;
    // 1,234,567 (12.3%)  file:function [object]
    let lines = told.lines().filter_map(|l| Some((instructions_in(l)?, l.split_once(')')?.1)));
    for (count, rest) in lines {
        let name = rest.trim().split_once(':').map_or(rest, |(_, name)| name);
        let cost = costs.entry(name.split(" [").next().unwrap_or(name).to_owned()).or_insert(0);
        // A function stands there once for each file that its code is from. Its callees are counted each time.
        let count = i64::try_from(count)?;
        *cost = if inclusive { count.max(*cost) } else { count + *cost };
    }
    Ok(costs)
}

/// The number that a line of callgrind_annotate begins with.
fn instructions_in(line: &str) -> Option<u64> {
    let number: String =
        line.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    number.replace(',', "").parse().ok()
}

/// What the server executed from its start to its end, with so many calls in between.
async fn count(args: &Args, what: &str, calls: u64, dir: &Path) -> Outcome<u64> {
    let at = dir.join(format!("{what}-{calls}"));
    let log = dir.join(format!("{what}-{calls}.log"));
    let out = dir.join(format!("{what}-{calls}.out"));
    let log_file = format!("--log-file={}", log.display());
    let out_file = format!("--callgrind-out-file={}", out.display());
    let wrapper = ["valgrind", "--tool=callgrind", &log_file, &out_file];
    let (side, names) = match what {
        "vault" => {
            let side = Side::vault(&wrapper, &at, "").await?;
            let names = furnish(&at, &side, args.common.bytes_of_a_call(), 1).await?;
            (side, names)
        }
        _ => {
            let side = Side::echo(&wrapper, &at, args.common.bytes_of_a_call()).await?;
            (side, vec![format!("tenants/{}/records/x", support::TENANT)].into())
        }
    };
    for n in 0..calls {
        let name = names[(n as usize * 7) % names.len()].clone();
        let request = v1::GetRecordRequest { name, ..Default::default() };
        side.client.records().get_record(request).await?;
    }
    side.end()?;
    let said = std::fs::read_to_string(&log)?;
    let collected = said.lines().find_map(|l| l.split("Collected :").nth(1));
    Ok(collected.and_then(|c| c.trim().parse().ok()).ok_or("callgrind counted nothing")?)
}
