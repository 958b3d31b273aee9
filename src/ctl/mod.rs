//! lethectl's commands: arguments in, calls through [`crate::client`], tables or JSON out, an exit code back.
//!
//! Guarantees: results go to standard output and nothing else does; values of records come from files or standard
//! input, never from arguments; nothing is erased without `--yes` or an answer; exit codes are those of [`exit`].

mod admin;
mod audit;
mod audit_cli;
mod audit_follow;
mod audit_verify;
mod certificate;
mod cli;
mod erase;
mod error;
#[cfg(test)]
mod fake_vault;
mod files;
mod hold;
mod import;
mod import_stream;
mod log;
mod log_cli;
mod log_entry;
mod log_folder;
mod log_verify;
mod log_witness;
mod mapping;
mod names;
mod output;
mod pki;
mod receipt;
mod record;
mod retention;
mod retention_file;
mod retention_policy;
mod schema_file;
#[cfg(test)]
mod story_tests;
mod stream;
mod tenant;
mod transform;
mod value;

use std::ffi::OsString;

use clap::Parser;

pub use cli::Cli;
pub use error::{CtlError, exit};

use crate::client::{Client, ClientConfig, ClientError};
use cli::{BucketCommand, Command, Format, RecordCommand, SubjectCommand};
use output::Out;

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Wholly,
    /// Some parts failed; they have been reported.
    Partly,
}

/// Runs the command line `arguments` and returns the exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; the rest is wrong usage. A closed terminal changes neither.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::DONE };
        }
    };
    match execute(&cli, &mut Out::stdout(cli.output)).await {
        Ok(Done::Wholly) => exit::DONE,
        Ok(Done::Partly) => exit::PARTIAL,
        // Whoever reads has enough, as with `lethectl … | head`.
        Err(CtlError::Print(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => exit::DONE,
        Err(error) => {
            match cli.output {
                Format::Table => output::note(&error.text()),
                Format::Json => output::note(&error.json().to_string()),
            }
            error.exit_code()
        }
    }
}

async fn connect(cli: &Cli) -> Result<Client, CtlError> {
    let path = cli.config.as_deref().ok_or(ClientError::NoConfig)?;
    Ok(Client::connect(&ClientConfig::load(path)?, cli.timeout).await?)
}

async fn execute(cli: &Cli, out: &mut Out) -> Result<Done, CtlError> {
    match &cli.command {
        Command::Receipt(command) => receipt::run(command, out),
        Command::Verify(command) => certificate::run_verify(command, out),
        Command::Certificate(command) => certificate::run(cli, command, out).await,
        Command::Pki(command) => pki::run(command, out),
        Command::Tenant(command) => tenant::tenants(&connect(cli).await?, command, out).await,
        Command::Schema(command) => tenant::schemas(cli, command, out).await,
        Command::Subject(SubjectCommand::Create { tenant }) => {
            record::create_subject(&connect(cli).await?, tenant, out).await
        }
        Command::Subject(SubjectCommand::Erase { name, how }) => {
            erase::subject(&connect(cli).await?, name, how, out).await
        }
        Command::Record(RecordCommand::Import {
            data,
            tenant,
            mapping,
            create_only: true,
            state,
            ..
        }) => import_stream::run(cli, tenant, (mapping, data), state.as_deref(), out).await,
        Command::Record(RecordCommand::Import { data, tenant, mapping, purpose, .. }) => {
            import::run(cli, tenant, mapping, data, purpose, out).await
        }
        Command::Record(RecordCommand::Export { tenant, schema, view, to }) => {
            stream::export(cli, (tenant, schema.as_ref()), view, to, out).await
        }
        Command::Record(RecordCommand::Watch { tenant }) => stream::watch(cli, tenant, out).await,
        Command::Record(RecordCommand::Erase { names, how }) => {
            erase::records(&connect(cli).await?, names, how, out).await
        }
        Command::Record(command) => record::run(cli, command, out).await,
        Command::Bucket(BucketCommand::List { tenant }) => {
            admin::buckets(&connect(cli).await?, tenant, out).await
        }
        Command::Bucket(BucketCommand::Erase { tenant, schema, expire_date, how }) => {
            erase::bucket(&connect(cli).await?, &schema.of(tenant), expire_date, how, out).await
        }
        Command::Log(command) => log::run(cli, command, out).await,
        Command::Audit(command) => audit::run(cli, command, out).await,
        Command::Retention(command) => retention::run(cli, command, out).await,
        Command::Hold(command) => hold::run(cli, command, out).await,
        Command::Key(command) => admin::keys(&connect(cli).await?, command, out).await,
        Command::Status => admin::status(&connect(cli).await?, out).await,
        Command::Metrics => admin::metrics(&connect(cli).await?, out).await,
        Command::Health => admin::health(&connect(cli).await?, out).await,
    }
}
