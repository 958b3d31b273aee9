//! What `lethed` is told on its command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};

use super::config::{Draft, schema, validate};
use super::diagnose::Diagnosis;
use super::opening::repair;
use super::probe::ask;
use super::{
    Config, DevDir, LogFormat, OnHangup, Opening, PolicyCommand, ServerError, Sources, block_on,
    log_to_stderr, review, say,
};
use crate::clock::{Clock, SystemClock};

/// The Lethe daemon: an encrypted customer-data vault that can prove it forgot.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    /// How log lines on standard error look: text or json; the same as --set log.format=FORMAT.
    #[arg(long, global = true)]
    pub log_format: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

/// Where a configuration is from: flags over `LETHE_SECTION_KEY` variables over the file.
#[derive(clap::Args)]
pub struct From {
    #[arg(long)]
    config: PathBuf,
    /// A key of the file, as limits.connections=100; may be given again. Relative paths start from here.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The same as --set listen=ADDR.
    #[arg(long)]
    listen: Option<String>,
    /// The same as --set data=DIR.
    #[arg(long)]
    data: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve a vault.
    Serve {
        #[command(flatten)]
        from: From,
        /// Make the vault first; refused where there is one.
        #[arg(long)]
        init: bool,
    },
    /// Rebuild a damaged store from the rows that prove themselves and from the node journal. Stop the daemon first.
    Repair {
        #[command(flatten)]
        from: From,
        /// Say what would be kept and lost, and change nothing. Needs room for a copy of the store.
        #[arg(long)]
        dry_run: bool,
    },
    /// Check, show or describe a configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Look at host and vault for what goes wrong in practice. Exit code 0: nothing; 1: warnings; 2: failures.
    Diagnose {
        #[command(flatten)]
        from: From,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Ask a daemon's socket (metrics.socket). Exit code 0 if it says yes, 1 if it says no or nothing.
    Probe {
        #[arg(long)]
        socket: PathBuf,
        #[arg(value_enum, default_value = "readyz")]
        what: Asked,
    },
    /// Look at policies: whether one is sound, and who may do what by it.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Make a vault for development, or reuse it, and serve it. Not for production.
    Dev {
        #[arg(long, default_value = "lethe-dev")]
        dir: PathBuf,
        /// A loopback address [default: 127.0.0.1:7443].
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
}

/// What a probe asks for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Asked {
    /// Whether the process lives.
    Livez,
    /// Whether calls are served.
    Readyz,
    /// All numbers, in the format of Prometheus.
    Metrics,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Tell all that is wrong, as far as it shows without opening the vault. Exit code 1 if anything is.
    Validate {
        #[command(flatten)]
        from: From,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Show what was given, and where.
    Show {
        #[command(flatten)]
        from: From,
        /// Show defaults too: all that is in force.
        #[arg(long)]
        effective: bool,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print the JSON Schema of the file.
    Schema,
}

impl From {
    fn sources(&self, log_format: Option<String>) -> Result<Sources, ServerError> {
        let mut flags = Vec::new();
        for flag in &self.set {
            let (key, value) = flag.split_once('=').ok_or(ServerError::Flag)?;
            flags.push((key.to_owned(), value.to_owned()));
        }
        let typed = [("listen", &self.listen), ("data", &self.data), ("log.format", &log_format)];
        for (key, value) in typed {
            flags.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        }
        Ok(Sources::of_process(flags))
    }

    fn load(&self, log_format: Option<String>) -> Result<Config, ServerError> {
        Config::load(&self.config, &self.sources(log_format)?)
    }
}

/// Runs the command and returns when it is done, or the daemon has stopped.
pub fn start(args: Args) -> Result<ExitCode, ServerError> {
    let format = args.log_format;
    let (config, opening, on_hangup, banner) = match args.command {
        Command::Serve { from, init } => {
            let opening = if init { Opening::New } else { Opening::Existing };
            (from.load(format)?, opening, OnHangup::Reload, None)
        }
        Command::Repair { from, dry_run } => {
            let config = from.load(format)?;
            log_to_stderr(config.log);
            let report = repair(&config, &SystemClock, dry_run)?;
            say(report.to_string().trim_end());
            return if report.opens() {
                Ok(ExitCode::SUCCESS)
            } else {
                Err(ServerError::BeyondRepair)
            };
        }
        Command::Config { command } => return configuration(command, format),
        Command::Diagnose { from, output } => {
            let sources = from.sources(format)?;
            let diagnosis = Diagnosis::of(&from.config, &sources, Arc::new(SystemClock))?;
            match output {
                Output::Text => say(&diagnosis.text()),
                Output::Json => say(&format!("{:#}\n", diagnosis.json())),
            }
            return Ok(ExitCode::from(diagnosis.worst() as u8));
        }
        Command::Probe { socket, what } => return probe(&socket, what),
        Command::Policy { command } => {
            return review::run(command).map(|()| ExitCode::SUCCESS);
        }
        Command::Dev { dir, listen } => {
            let dev = DevDir::prepare(&dir, listen, SystemClock.now())?;
            let mut config = dev.config.clone();
            if let Some(format) = format {
                config.log.format = match format.as_str() {
                    "json" => LogFormat::Json,
                    "text" => LogFormat::Text,
                    _ => return Err(ServerError::Flag),
                };
            }
            (config, Opening::Either, OnHangup::End, Some(dev.banner()))
        }
    };
    log_to_stderr(config.log);
    let listening = |up: &super::Up| {
        if let Some(banner) = banner {
            say(&format!("{banner}\n{}", up.text()));
        }
    };
    block_on(config, opening, Arc::new(SystemClock), listening, on_hangup)?;
    Ok(ExitCode::SUCCESS)
}

fn probe(socket: &Path, what: Asked) -> Result<ExitCode, ServerError> {
    let path = match what {
        Asked::Livez => "/livez",
        Asked::Readyz => "/readyz",
        Asked::Metrics => "/metrics",
    };
    let problem = |source| ServerError::Probe { path: socket.display().to_string(), source };
    let answer = ask(socket, path).map_err(problem)?;
    say(&answer.text);
    Ok(if answer.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn configuration(command: ConfigCommand, format: Option<String>) -> Result<ExitCode, ServerError> {
    match command {
        ConfigCommand::Validate { from, output } => {
            let found = validate(&from.config, &from.sources(format)?, Arc::new(SystemClock))?;
            match output {
                Output::Text => found.iter().for_each(|finding| say(&format!("{finding}\n"))),
                Output::Json => {
                    let rows: Vec<_> = found.iter().map(super::config::Finding::json).collect();
                    say(&format!("{:#}\n", serde_json::Value::from(rows)));
                }
            }
            Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ConfigCommand::Show { from, effective, output } => {
            let draft = Draft::load(&from.config, &from.sources(format)?)?;
            if !draft.problems.is_empty() {
                let path = from.config.display().to_string();
                let problems = super::ConfigProblems(draft.problems);
                return Err(ServerError::Config { path, problems });
            }
            match output {
                Output::Text => say(&draft.text(effective)),
                Output::Json => say(&format!("{:#}\n", draft.json(effective))),
            }
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Schema => {
            say(&format!("{:#}\n", schema()));
            Ok(ExitCode::SUCCESS)
        }
    }
}
