//! The counters and the state of the daemon as text in the format of Prometheus (version 0.0.4).
//!
//! Guarantees: names and labels are fixed in the code, so that their number is bounded and nothing personal gets in;
//! what cannot be read at the moment is left out instead of being told wrongly.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::readiness::Readiness;
use super::trust::Trust;
use crate::clock::{Clock, UnixMillis};
use crate::metrics::{CALL_BOUNDS_MICROS, Metrics};
use crate::vault::retention::overview::RetentionStatus;
use crate::vault::retention::time::ClockState;

/// What the daemon knows of itself.
pub struct View {
    metrics: Arc<Metrics>,
    trust: Arc<Trust>,
    clock: Arc<dyn Clock>,
    data: PathBuf,
    since: Instant,
    pub ready: Readiness,
}

/// One number that goes up and down.
struct Gauge(&'static str, &'static str, f64);

impl View {
    pub fn new(
        metrics: Arc<Metrics>,
        trust: Arc<Trust>,
        clock: Arc<dyn Clock>,
        data: PathBuf,
    ) -> Self {
        Self { metrics, trust, clock, data, since: Instant::now(), ready: Readiness::default() }
    }

    pub fn text(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        let version = env!("CARGO_PKG_VERSION");
        head(&mut text, "lethe_build_info", "gauge", "Constant 1, with the daemon's version");
        line(&mut text, &format!("lethe_build_info{{version=\"{version}\"}} 1"));
        for Gauge(name, help, value) in self.gauges() {
            head(&mut text, name, "gauge", help);
            line(&mut text, &format!("{name} {value}"));
        }
        for (name, help, value) in self.metrics.described() {
            let name = format!("lethe_{name}_total");
            head(&mut text, &name, "counter", help);
            line(&mut text, &format!("{name} {value}"));
        }
        self.calls(&mut text);
        text
    }

    fn calls(&self, text: &mut String) {
        const NAME: &str = "lethe_call_seconds";
        head(text, NAME, "histogram", "Time to the first answer of calls, by method and gRPC code");
        for ((method, code), time) in self.metrics.calls.snapshot() {
            let labels = format!("method=\"{method}\",code=\"{code}\"");
            let mut sum = 0_u64;
            for (bound, n) in CALL_BOUNDS_MICROS.iter().zip(&time.buckets) {
                sum = sum.saturating_add(*n);
                let bound = seconds(*bound);
                line(text, &format!("{NAME}_bucket{{{labels},le=\"{bound}\"}} {sum}"));
            }
            sum = sum.saturating_add(time.above);
            line(text, &format!("{NAME}_bucket{{{labels},le=\"+Inf\"}} {sum}"));
            line(text, &format!("{NAME}_sum{{{labels}}} {}", seconds(time.micros)));
            line(text, &format!("{NAME}_count{{{labels}}} {sum}"));
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let flag = |on: bool| f64::from(u8::from(on));
        let now = self.clock.now();
        let left = |until: UnixMillis| until.0.saturating_sub(now.0) as f64 / 1000.0;
        let (_, credentials) = self.trust.in_force();
        let mut all = vec![
            Gauge("lethe_ready", "1 while calls are served", flag(self.ready.unready().is_none())),
            Gauge("lethe_uptime_seconds", "Since the start", self.since.elapsed().as_secs_f64()),
            Gauge(
                "lethe_connections_open",
                "Connections that are open",
                self.metrics.connections_open.value() as f64,
            ),
            Gauge(
                "lethe_warnings",
                "Things that need attention now; `lethectl status` names them",
                self.metrics.notices.list().len() as f64,
            ),
            Gauge(
                "lethe_certificate_left_seconds",
                "Until the server's certificate expires",
                left(credentials.ends()),
            ),
        ];
        all.extend(credentials.lists.shortest().map(|(_, lapses)| {
            let help = "Until the first revocation list lapses";
            Gauge("lethe_revocation_list_left_seconds", help, left(lapses))
        }));
        all.extend(super::host::resident_bytes().map(|bytes| {
            Gauge("lethe_resident_bytes", "Memory of the process that is in RAM", bytes as f64)
        }));
        all.extend(super::host::free_bytes(&self.data).map(|bytes| {
            let help = "Free space of the data directory's file system";
            Gauge("lethe_disk_free_bytes", help, bytes as f64)
        }));
        if let Some(vault) = self.ready.vault() {
            let state = vault.gauges();
            all.extend([
                Gauge("lethe_tenants", "Tenants", state.tenants as f64),
                Gauge(
                    "lethe_pending_erasures",
                    "Superseded versions that wait for the next batch",
                    state.pending_erasures as f64,
                ),
                Gauge("lethe_commit_queue", "Batches that wait for the disk", state.queued as f64),
                Gauge("lethe_disk_full", "1 while puts are refused", flag(state.disk_full)),
                Gauge("lethe_damaged_records", "Records that do not open", state.damaged as f64),
            ]);
            all.extend(of_retention(&vault.retention_state()));
        }
        all
    }
}

/// How sweeps are doing. What has not happened yet is left out.
fn of_retention(state: &RetentionStatus) -> Vec<Gauge> {
    let sound = f64::from(u8::from(state.clock == ClockState::Sound));
    let mut all = vec![
        Gauge(
            "lethe_retention_due_buckets",
            "Buckets whose day is over and that are not erased yet",
            state.due_buckets as f64,
        ),
        Gauge(
            "lethe_retention_closed_records",
            "Records in buckets that are closed and will go",
            state.closed_records as f64,
        ),
        Gauge(
            "lethe_retention_rebucketing_types",
            "Record types whose records are being moved after their rules changed",
            state.rebucketing.len() as f64,
        ),
        Gauge(
            "lethe_retention_clock_sound",
            "1 while the wall clock agrees with the vault's own count of time",
            sound,
        ),
        Gauge("lethe_holds", "Legal holds in force", state.holds as f64),
        Gauge(
            "lethe_postponed_erasures",
            "Erasures that wait for legal holds to end",
            state.postponed as f64,
        ),
    ];
    all.extend(state.last_sweep.map(|at| {
        let help = "When the last sweep ended, seconds since 1970";
        Gauge("lethe_retention_last_sweep_seconds", help, at.0 as f64 / 1000.0)
    }));
    if let Some((p50, p99)) = state.lateness {
        let seconds = |millis: u64| millis as f64 / 1000.0;
        let help = "How late erased buckets went: the median";
        all.push(Gauge("lethe_retention_lateness_p50_seconds", help, seconds(p50)));
        let help = "How late erased buckets went: the 99th percentile";
        all.push(Gauge("lethe_retention_lateness_p99_seconds", help, seconds(p99)));
    }
    all
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, &format!("# HELP {name} {}", help.replace('\\', r"\\").replace('\n', r"\n")));
    line(text, &format!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}
