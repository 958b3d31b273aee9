//! The command line of lethectl. No flag carries a value of a record: argv is visible to every user of a machine.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use super::audit_cli::AuditCommand;
use super::certificate::{CertificateCommand, VerifyCommand};
use super::hold::HoldCommand;
use super::log_cli::LogCommand;
use super::names::{RecordName, SubjectName, TenantName, TypeName};
use super::receipt::ReceiptCommand;
use super::retention::RetentionCommand;
use crate::proto::v1::ErasureReason;

const AFTER: &str = "Exit codes: 0 done · 1 refused or failed · 2 partly done (some rows failed) · 64 wrong usage.\n\
    Values of records come from files or standard input, never from arguments.";

/// Uses and operates a Lethe vault.
#[derive(Debug, Parser)]
#[command(name = "lethectl", version, after_help = AFTER, propagate_version = true)]
pub struct Cli {
    /// Client configuration (endpoint, ca, cert, key)
    #[arg(long, global = true, env = "LETHE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to print results; errors follow it on standard error
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Deadline of each call in seconds, at most 60
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub timeout: Duration,
    #[command(subcommand)]
    pub command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Data controllers on whose behalf records are kept
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Which fields a record type has, how they are checked and how long they are kept
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// The people whom records are about
    #[command(subcommand)]
    Subject(SubjectCommand),
    /// Store, read, correct, find and erase records
    #[command(subcommand)]
    Record(RecordCommand),
    /// Records of one type that expire on one day
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// Keys of the vault
    #[command(subcommand)]
    Key(KeyCommand),
    /// Who did what with the vault, and when; verify it without a vault
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Retention policies, what will go when, and what went
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Legal holds: what may not be erased, and which erasures wait for that
    #[command(subcommand)]
    Hold(HoldCommand),
    /// The ledger and the audit log as public transparency logs: checkpoints, proofs, witnesses; verify without a vault
    #[command(subcommand)]
    Log(LogCommand),
    /// Make certificates for a vault and its callers, and revoke them; needs no vault
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Check the evidence of an erasure without a vault
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Certificates of what was destroyed: get one, list for what there are any
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Check evidence without a vault and without a connection
    #[command(subcommand)]
    Verify(VerifyCommand),
    /// The vault's state
    Status,
    /// The daemon's metrics, in the format of Prometheus
    Metrics,
    /// Whether the vault serves, by exit code: for probes; any identity of the vault may ask
    Health,
}

#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Create a tenant
    Create {
        /// `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`
        id: TenantName,
        /// What people call it; not a person's name
        #[arg(long)]
        display_name: Option<String>,
    },
    /// List the tenants that you may see
    List,
    /// Change what a tenant is called
    Update {
        tenant: TenantName,
        /// What people call it; not a person's name
        #[arg(long)]
        display_name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Create a schema, or bring it to what the file says; does nothing if it is so already
    Apply {
        file: PathBuf,
        #[arg(long)]
        tenant: TenantName,
        /// Create the tenant first if it does not exist
        #[arg(long, conflicts_with = "only")]
        create_tenant: bool,
        /// Of a schema that exists, bring only these parts to what the file says: `fields`, `fields.NAME`,
        /// `retain_for`, `open_ended`, `erase_old_versions_synchronously`
        #[arg(long, value_name = "PART", value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Show the current revision of a schema
    Get {
        #[arg(value_name = "TYPE")]
        schema: TypeName,
        #[arg(long)]
        tenant: TenantName,
    },
    /// List the schemas of a tenant
    List {
        #[arg(long)]
        tenant: TenantName,
    },
}

#[derive(Debug, Subcommand)]
pub enum SubjectCommand {
    /// Create a subject; keep the name that is printed, it is the only handle
    Create {
        #[arg(long)]
        tenant: TenantName,
    },
    /// Erase a subject with all its records
    Erase {
        /// `tenants/{tenant}/subjects/{uuid}`
        name: SubjectName,
        #[command(flatten)]
        how: EraseArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// Import a CSV file; a second import updates instead of doubling
    Import {
        data: PathBuf,
        #[arg(long)]
        tenant: TenantName,
        /// Which column goes into which field (TOML)
        #[arg(long, value_name = "FILE")]
        mapping: PathBuf,
        /// What values are read for when a row is compared with its record
        #[arg(long, default_value = "")]
        purpose: String,
        /// Every row is a new record: one stream, many times faster; the mapping's key is not looked at
        #[arg(long)]
        create_only: bool,
        /// Keep here how far the import is, so that the same command goes on where it broke off
        #[arg(long, value_name = "FILE", requires = "create_only")]
        state: Option<PathBuf>,
    },
    /// Write every record as a line of JSON; the file is for you alone and holds values in clear
    Export {
        #[arg(long)]
        tenant: TenantName,
        #[arg(long = "type", value_name = "TYPE")]
        schema: Option<TypeName>,
        #[command(flatten)]
        view: ViewArgs,
        /// A file that does not exist yet
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Print what changes in a tenant from now on: names and kinds of change, no values
    Watch {
        #[arg(long)]
        tenant: TenantName,
    },
    /// Create a record from a JSON object of its fields
    Create {
        #[arg(long)]
        tenant: TenantName,
        #[arg(long = "type", value_name = "TYPE")]
        schema: TypeName,
        /// Whom it is about; a new subject if not given
        #[arg(long)]
        subject: Option<SubjectName>,
        /// JSON file, `-` for standard input
        #[arg(long, value_name = "FILE", default_value = "-")]
        from: PathBuf,
    },
    /// Show a record
    Get {
        /// `tenants/{tenant}/records/{uuid}`
        name: RecordName,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Change fields of a record; `null` removes a field
    Update {
        name: RecordName,
        /// JSON object of the fields that change, `-` for standard input
        #[arg(long, value_name = "FILE", default_value = "-")]
        from: PathBuf,
        /// Change only this version of the record
        #[arg(long)]
        etag: Option<String>,
    },
    /// List records of a tenant
    List {
        #[arg(long)]
        tenant: TenantName,
        #[arg(long = "type", value_name = "TYPE")]
        schema: Option<TypeName>,
        /// Stop after so many
        #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
        limit: u32,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Find the records that hold exactly a value, which is asked for or read from standard input
    Find {
        #[arg(long)]
        tenant: TenantName,
        #[arg(long = "type", value_name = "TYPE")]
        schema: TypeName,
        /// An indexed field
        #[arg(long)]
        field: String,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Erase records for ever
    Erase {
        /// `tenants/{tenant}/records/{uuid}`, up to 1000 of one tenant
        #[arg(required = true, num_args = 1..=1_000)]
        names: Vec<RecordName>,
        #[command(flatten)]
        how: EraseArgs,
    },
}

/// What of a record is read, and what for.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// Only these fields, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "FIELD,...")]
    pub fields: Vec<String>,
    /// What the values are read for
    #[arg(long, default_value = "")]
    pub purpose: String,
}

/// How something is erased.
#[derive(Debug, Args)]
pub struct EraseArgs {
    #[arg(long, value_enum, default_value_t = Reason::SubjectRequest)]
    pub reason: Reason,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Show what would go and stop
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Save the signed receipts as JSON
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// Why something is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reason {
    SubjectRequest,
    Retention,
    Contract,
}

impl From<Reason> for i32 {
    fn from(reason: Reason) -> i32 {
        match reason {
            Reason::SubjectRequest => ErasureReason::SubjectRequest.into(),
            Reason::Retention => ErasureReason::Retention.into(),
            Reason::Contract => ErasureReason::Contract.into(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum BucketCommand {
    /// List the retention buckets of a tenant
    List {
        #[arg(long)]
        tenant: TenantName,
    },
    /// Erase every record of one type that expires on one day, at once
    Erase {
        #[arg(long)]
        tenant: TenantName,
        #[arg(long = "type", value_name = "TYPE")]
        schema: TypeName,
        /// `2029-11-21`, UTC
        #[arg(long, value_name = "DATE")]
        expire_date: String,
        #[command(flatten)]
        how: EraseArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Give the vault a new key-encryption key and a new root key
    Rotate,
    /// Say what is wrapped by what, and how old each key is
    Status,
}

#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make an authority with an empty revocation list
    Init {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// What its URIs begin with: `spiffe://DOMAIN/`
        #[arg(long, value_name = "DOMAIN")]
        trust_domain: String,
        /// How long a revocation list is good for
        #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = value_parser!(u32).range(1..=3_650))]
        list_days: u32,
        /// Give up an authority that is there, and all that it issued
        #[arg(long)]
        force: bool,
    },
    /// Make a key and a certificate for it
    Issue {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Whom it names: `spiffe://DOMAIN/NAME`
        #[arg(long)]
        uri: String,
        /// Its files are DIR/NAME.pem and DIR/NAME.key
        #[arg(long, value_name = "NAME")]
        out: String,
        #[arg(long, default_value_t = 90, value_parser = value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// For a vault, not for a caller
        #[arg(long)]
        server: bool,
        /// A DNS name of the server
        #[arg(long, value_name = "NAME", requires = "server")]
        dns: Vec<String>,
        /// An address of the server
        #[arg(long, value_name = "ADDRESS", requires = "server")]
        ip: Vec<IpAddr>,
        /// Replace files of this name
        #[arg(long)]
        force: bool,
    },
    /// Make a new key and certificate in the place of the last of a name
    Renew {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        #[arg(long)]
        name: String,
        #[arg(long, default_value_t = 90, value_parser = value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Also replace files that are not those that were issued
        #[arg(long)]
        force: bool,
    },
    /// Put certificates on the revocation list and write it anew
    Revoke {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        #[command(flatten)]
        which: RevokeArgs,
    },
    /// List what was issued
    List {
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

/// What is revoked.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RevokeArgs {
    /// All valid certificates of this name, also those before a renewal
    #[arg(long)]
    pub name: Option<String>,
    /// The certificate with this serial number (`lethectl pki list` shows it)
    #[arg(long, value_name = "HEX")]
    pub serial: Option<String>,
    /// Nothing; only make the list anew, before it lapses
    #[arg(long)]
    pub refresh: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(n @ 1..=60) => Ok(Duration::from_secs(n)),
        _ => Err("not a whole number of seconds from 1 to 60".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// A value on the command line would be in the process list and in shell histories.
    #[test]
    fn no_flag_carries_a_value_of_a_record() {
        for arguments in [
            ["lethectl", "record", "find", "--value"],
            ["lethectl", "record", "create", "--set"],
            ["lethectl", "record", "update", "--field"],
        ] {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument, "{arguments:?}");
        }
    }

    #[test]
    fn bad_names_are_refused_before_any_call() {
        let name = "tenants/a/records/07070707-0707-0707-0707-070707070707";
        let parsed = |n: &str| Cli::try_parse_from(["lethectl", "record", "get", n]).is_ok();
        assert!(parsed(name));
        assert!(!parsed("tenants/a/subjects/07070707-0707-0707-0707-070707070707"));
        assert!(!parsed("tenants/a/records/1"));
        assert!(Cli::try_parse_from(["lethectl", "tenant", "create", "A"]).is_err());
    }
}
