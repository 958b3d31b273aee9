//! P1 and P10 by instructions: what a `GetRecord` costs the server, against a bare tonic server that answers with the
//! same bytes; and how much of it is for rights, masking and the audit log.
//!
//! `cargo bench --profile release --bench instructions`. Needs valgrind. Both servers run under callgrind twice, with
//! few and with many calls; the difference is what the calls cost. Counts hardly depend on what else the machine does.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/sides.rs"]
mod sides;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use lethe::proto::v1;

use sides::{Side, furnish, serve};
use support::{Common, Outcome, line};

#[derive(Parser)]
struct Args {
    /// Calls of the shorter and of the longer run.
    #[arg(long, default_value_t = 200)]
    few: u64,
    #[arg(long, default_value_t = 2_200)]
    many: u64,
    #[arg(long, hide = true)]
    serve: Option<String>,
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// What P10 is about: functions whose cost, with all that they call, is counted.
const PARTS: [(&str, &[&str]); 3] = [
    ("rights", &["lethe::rpc::permit::permit"]),
    ("masking and shaping", &["lethe::vault::view::view"]),
    ("audit", &["Core>::note_reading", "Core>::entry", "audit::book::Book as"]),
];

fn main() -> Outcome<()> {
    let args = Args::parse();
    let runtime = support::runtime()?;
    match (args.serve.as_deref(), &args.dir) {
        (Some(what), Some(dir)) => runtime.block_on(serve(what, dir, args.common.bytes)),
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
    println!("instructions: {calls} GetRecord calls of one caller, {} bytes", args.common.bytes);
    line("P1 instructions a call", each[0], "", each[1], "<= 1.35");
    let long = dir.path().join(format!("vault-{}.out", args.many));
    let mut annotate = Command::new("callgrind_annotate");
    let told = annotate.args(["--inclusive=yes", "--threshold=100"]).arg(&long).output()?;
    let told = String::from_utf8(told.stdout)?;
    for (part, functions) in PARTS {
        let of = told.lines().filter(|l| functions.iter().any(|f| l.contains(f)));
        let count: u64 = of.filter_map(instructions_in).sum();
        // The longer run's calls, and those that furnished the vault, which wrote and told the log of it too.
        line(&format!("P10 {part}"), count as f64 / args.many as f64, "", each[0], "<= 0.15 all");
    }
    Ok(())
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
    if what == "echo" {
        // It needs the certificates that a vault of its own would have made.
        Side::start("vault", &at, args.common.bytes).await?.end()?;
    }
    let log_file = format!("--log-file={}", log.display());
    let out_file = format!("--callgrind-out-file={}", out.display());
    let wrapper = ["valgrind", "--tool=callgrind", &log_file, &out_file];
    let side = Side::start_under(&wrapper, what, &at, args.common.bytes).await?;
    let names = match what {
        "vault" => furnish(&at, &side, args.common.bytes, 1).await?,
        _ => vec![format!("tenants/{}/records/x", support::TENANT)].into(),
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
