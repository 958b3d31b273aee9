//! P1, P2 and P3 through the door: reads, batches, exports and durable creates over mutual TLS, against a bare tonic
//! server that answers with the same bytes. Servers are processes of their own, and the client is the same.
//!
//! `cargo bench --profile release --bench call -- [--calls N] [--callers N] [--bytes N] [--quick]`. The CPU of a call
//! is the server process's; `--echo` is what the benchmark starts for itself.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/sides.rs"]
mod sides;
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use lethe::proto::v1;

use sides::{Side, furnish, record, serve_echo};
use support::{Common, Outcome, line, median, per_second};

#[derive(Parser)]
struct Args {
    /// Calls in a round.
    #[arg(long, default_value_t = 20_000)]
    calls: u64,
    #[arg(long, default_value_t = 16)]
    callers: u64,
    /// Callers of the durable creates.
    #[arg(long, default_value_t = 64)]
    writers: u64,
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Only these kinds of calls, for a profiler.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = KINDS)]
    only: Vec<Kind>,
    #[arg(long, hide = true)]
    echo: bool,
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

const BATCH: usize = 100;
/// Creates last: what they add would be exported too.
const KINDS: [Kind; 5] = [Kind::Get, Kind::Sync, Kind::Batch, Kind::Export, Kind::Create];

fn main() -> Outcome<()> {
    let mut args = Args::parse();
    if args.common.quick {
        args.calls = args.calls.min(1_000);
        args.rounds = args.rounds.min(2);
    }
    let runtime = support::runtime()?;
    match &args.dir {
        Some(dir) if args.echo => runtime.block_on(serve_echo(dir, args.common.bytes_of_a_call())),
        _ => runtime.block_on(compare(&args)),
    }
}

/// What one kind of call gave.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    cpu: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Figures {
    fn add(&mut self, count: u64, took: Duration, cpu: Duration, mut each: Vec<Duration>) {
        each.sort_unstable();
        let at = |share: usize| each[(each.len() * share / 100).min(each.len() - 1)];
        self.rate.push(per_second(count, took));
        self.cpu.push(cpu.as_secs_f64() * 1e6 / count as f64);
        self.p50.push(at(50).as_secs_f64() * 1e6);
        self.p99.push(at(99).as_secs_f64() * 1e6);
    }

    fn against(&self, what: &str, rival: &Self, targets: [&str; 3]) {
        println!("{what}");
        line("calls", median(&self.rate), "1/s", median(&rival.rate), targets[0]);
        line("server CPU a call", median(&self.cpu), "us", median(&rival.cpu), targets[1]);
        line("p50", median(&self.p50), "us", median(&rival.p50), "-");
        line("p99", median(&self.p99), "us", median(&rival.p99), targets[2]);
    }
}

/// Which call is measured.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Get,
    /// The same where reads wait for the log's disk.
    Sync,
    Batch,
    Export,
    Create,
}

async fn compare(args: &Args) -> Outcome<()> {
    let dir = support::scratch()?;
    let at = dir.path().join("vault");
    let vault = Side::vault(&[], &at, "").await?;
    let echo = Side::echo(&[], &at, args.common.bytes_of_a_call()).await?;
    let names = furnish(&at, &vault, args.common.bytes_of_a_call(), 20).await?;
    // One that answers a read when the disk has its entry.
    let at = dir.path().join("sync");
    let sync = Side::vault(&[], &at, "\n[audit]\nreads = \"sync\"\n").await?;
    let of_sync = furnish(&at, &sync, args.common.bytes_of_a_call(), 1).await?;
    let mut figures: [[Figures; 2]; 5] = Default::default();
    for kind in &args.only {
        let (own, names) = match kind {
            Kind::Sync => (&sync, &of_sync),
            _ => (&vault, &names),
        };
        for round in 0..args.rounds {
            for (side, of) in [(own, 0), (&echo, 1)] {
                let figures = &mut figures[*kind as usize][of];
                measure(side, *kind, names, round, args, figures).await?;
            }
        }
    }
    println!(
        "call: {} rounds of {} calls, {} callers ({} for creates), values of {} bytes in 6 fields",
        args.rounds,
        args.calls,
        args.callers,
        args.writers,
        args.common.bytes_of_a_call()
    );
    for kind in &args.only {
        let [vault, echo] = &figures[*kind as usize];
        let (what, targets) = match kind {
            Kind::Get => ("P1 GetRecord", [">= 0.8", "-", "<= 1.5"]),
            Kind::Sync => ("P1 GetRecord, audited in `sync`", ["-", "-", "-"]),
            Kind::Batch => ("P2 BatchGetRecords of 100", [">= 0.6", "-", "-"]),
            Kind::Export => ("P2 ExportRecords, 10,000 each", [">= 0.6", "-", "-"]),
            Kind::Create => ("P3 CreateRecord, durable, three indexed fields", ["-", "-", "-"]),
        };
        vault.against(what, echo, targets);
    }
    Ok(())
}

async fn measure(
    side: &Side,
    kind: Kind,
    names: &Arc<Vec<String>>,
    round: u64,
    args: &Args,
    figures: &mut Figures,
) -> Outcome<()> {
    let (calls, callers) = match kind {
        Kind::Get => (args.calls, args.callers),
        Kind::Sync => ((args.calls / 10).max(10), args.callers),
        Kind::Batch => ((args.calls / 40).max(10), args.callers),
        Kind::Export => ((args.calls / 1_000).max(4), 4),
        Kind::Create => (args.calls, args.writers),
    };
    let (client, names, bytes) =
        (side.client.clone(), names.clone(), args.common.bytes_of_a_call());
    let is_echo = side.is_echo;
    let before = (side.cpu()?, Instant::now());
    let each = support::crowd(callers, calls, move |n| {
        let (client, names) = (client.clone(), names.clone());
        async move {
            let name =
                |n: u64| names[(n.wrapping_mul(7_919) % names.len() as u64) as usize].clone();
            let parent = format!("tenants/{}", support::TENANT);
            let start = Instant::now();
            match kind {
                Kind::Get | Kind::Sync => {
                    let request = v1::GetRecordRequest { name: name(n), ..Default::default() };
                    client.records().get_record(request).await?;
                }
                Kind::Batch => {
                    let names = (0..BATCH as u64).map(|at| name(n * 131 + at)).collect();
                    let request =
                        v1::BatchGetRecordsRequest { parent, names, ..Default::default() };
                    client.records().batch_get_records(request).await?;
                }
                Kind::Export => {
                    // What the echo answers with; the vault begins with its first record.
                    let page_token = if is_echo { names.len().to_string() } else { String::new() };
                    let request =
                        v1::ExportRecordsRequest { parent, page_token, ..Default::default() };
                    let mut parts = client.streams().export_records(request).await?.into_inner();
                    let mut count = 0;
                    while let Some(part) = parts.message().await? {
                        count += part.records.len();
                    }
                    assert_eq!(count, names.len());
                }
                Kind::Create => {
                    let record = record(1_000_000 + round * 1_000_000 + n, bytes);
                    let request = v1::CreateRecordRequest {
                        parent,
                        record: Some(record),
                        request_id: String::new(),
                    };
                    client.records().create_record(request).await?;
                }
            }
            Ok(start.elapsed())
        }
    })
    .await?;
    figures.add(calls, before.1.elapsed(), side.cpu()? - before.0, each);
    Ok(())
}
