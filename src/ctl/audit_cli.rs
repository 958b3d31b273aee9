//! The command line of `lethectl audit`.

use std::path::PathBuf;

use clap::Subcommand;

use super::names::{SubjectName, TenantName};
use crate::id::RecordId;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List entries, the newest first
    List {
        /// Entries about this tenant only
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Entries about this subject only, `tenants/{tenant}/subjects/{uuid}`, while it is not erased
        #[arg(long)]
        subject: Option<SubjectName>,
        /// Entries of this caller only, `spiffe://…`
        #[arg(long, value_name = "URI")]
        principal: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = entries)]
        limit: usize,
    },
    /// List who read a subject's data, changed it or asked for it, the newest first, while it is not erased
    WhoRead {
        #[arg(long)]
        tenant: TenantName,
        /// The subject's UUID
        #[arg(long, value_name = "ID", value_parser = uuid)]
        subject: String,
        /// Entries about this record of the subject only: its UUID
        #[arg(long, value_name = "ID", value_parser = uuid)]
        record: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = entries)]
        limit: usize,
    },
    /// Print entries as they come, the oldest first, until somebody stops the command
    Tail {
        /// Begin with the entry of this index instead of the next one that comes
        #[arg(long, value_name = "INDEX")]
        follow_from: Option<u64>,
        /// Entries about this tenant only
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Entries about this subject only, `tenants/{tenant}/subjects/{uuid}`, until it is erased
        #[arg(long)]
        subject: Option<SubjectName>,
        /// Entries of this caller only, `spiffe://…`
        #[arg(long, value_name = "URI")]
        principal: Option<String>,
        /// Stop after so many
        #[arg(long, value_parser = entries)]
        limit: Option<usize>,
    },
    /// Write the whole log with its signed head into a new file, a line of JSON for each entry
    Export { to: PathBuf },
    /// Check an export: the signature, the tree over all entries, and that each says what its line says
    Verify {
        file: PathBuf,
        /// The vault's Ed25519 public key, 64 hex digits (`lethectl status` shows it)
        #[arg(long, value_name = "HEX", value_parser = super::receipt::public_key)]
        public_key: super::receipt::PublicKey,
        /// An export of before: the log must continue it
        #[arg(long, value_name = "FILE")]
        earlier: Option<PathBuf>,
    },
}

fn entries(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=10_000) => Ok(n),
        _ => Err("not a whole number from 1 to 10000".to_owned()),
    }
}

fn uuid(text: &str) -> Result<String, &'static str> {
    let shape = "not a UUID in lower case";
    RecordId::parse(text).map(|_| text.to_owned()).ok_or(shape)
}
