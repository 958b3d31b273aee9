//! The command line of `lethectl log`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::receipt::{PublicKey, public_key};
use crate::class;
use crate::crypto::note::{KeyName, SignatureKind, VerifierKey};
use crate::proto::admin;

/// Which of the two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogName {
    /// What was erased, and how far
    Ledger,
    /// Who did what
    Audit,
}

impl LogName {
    pub fn class(self) -> class::Log {
        match self {
            Self::Ledger => class::Log::Ledger,
            Self::Audit => class::Log::Audit,
        }
    }

    /// As calls name it.
    pub fn number(self) -> i32 {
        match self {
            Self::Ledger => admin::Log::Ledger.into(),
            Self::Audit => admin::Log::Audit.into(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print the signed checkpoint of a log
    Checkpoint {
        #[arg(long, value_enum)]
        log: LogName,
        /// Have the anchor bind first what the audit log holds now
        #[arg(long)]
        fresh: bool,
        /// The largest one that a witness has cosigned, with all its cosignatures
        #[arg(long, conflicts_with = "fresh")]
        cosigned: bool,
        /// Write it to this file, in the place of the one that is there
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Write a log as a folder that any web server can serve; the same command continues it
    Export {
        #[arg(long, value_enum)]
        log: LogName,
        /// A new folder, or one that this command wrote
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Write a proof to a file
    #[command(subcommand)]
    Prove(ProveCommand),
    /// Check an exported folder, a checkpoint or a proof, without a vault
    Verify {
        /// A folder that `lethectl log export` wrote
        #[arg(value_name = "DIR", required_unless_present_any = ["checkpoint", "proof"])]
        dir: Option<PathBuf>,
        /// A checkpoint alone
        #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "proof"])]
        checkpoint: Option<PathBuf>,
        /// A proof that `lethectl log prove` wrote
        #[arg(long, value_name = "FILE", conflicts_with = "dir")]
        proof: Option<PathBuf>,
        /// A checkpoint of before: the log must continue it
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        witnesses: WitnessArgs,
    },
    /// Act as a witness: cosign a checkpoint if it continues the one that was cosigned last
    Witness {
        #[arg(long, value_name = "FILE")]
        checkpoint: PathBuf,
        /// `lethectl log prove consistency` since the last checkpoint; not needed for the first one
        #[arg(long, value_name = "FILE")]
        proof: Option<PathBuf>,
        /// Where the last checkpoint is kept; one file for each log
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
        /// The witness's private key
        #[arg(long = "key", value_name = "FILE")]
        private_key: PathBuf,
        #[command(flatten)]
        key: KeyArgs,
        /// Write the cosigned checkpoint to this file, in the place of the one that is there
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Make a witness's key; prints the public one, for `witness.keys` and for who verifies
    WitnessKey {
        /// What the witness is called, as `witness.example/1`
        #[arg(long, value_parser = key_name)]
        name: KeyName,
        /// A file that does not exist yet, for you alone
        #[arg(long = "key", value_name = "FILE")]
        private_key: PathBuf,
    },
    /// Give the vault the cosignatures under a checkpoint
    AddCosignature {
        #[arg(long, value_name = "FILE")]
        checkpoint: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ProveCommand {
    /// That the log has an entry
    Inclusion {
        #[arg(long, value_enum)]
        log: LogName,
        /// Its place, from 0; a receipt calls it `leaf_index`
        #[arg(long)]
        index: u64,
        #[command(flatten)]
        to: ProofArgs,
    },
    /// That the log continues an earlier checkpoint
    Consistency {
        /// The earlier checkpoint
        #[arg(long, value_name = "FILE")]
        since: PathBuf,
        #[command(flatten)]
        to: ProofArgs,
    },
}

#[derive(Debug, Args)]
pub struct ProofArgs {
    /// The checkpoint to prove it for; that of now if not given
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Write the proof to this file, in the place of the one that is there
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    #[command(flatten)]
    pub key: KeyArgs,
}

/// The key of the vault, which is known from elsewhere.
#[derive(Clone, Copy, Debug, Args)]
pub struct KeyArgs {
    /// The vault's Ed25519 public key, 64 hex digits (`lethectl status` shows it)
    #[arg(long, value_name = "HEX", value_parser = public_key)]
    pub public_key: PublicKey,
}

/// Who must have cosigned.
#[derive(Debug, Default, Args)]
pub struct WitnessArgs {
    /// A witness's public key, NAME+HASH+KEY; once for each
    #[arg(long = "witness", value_name = "KEY", value_parser = witness_key)]
    pub witnesses: Vec<VerifierKey>,
    /// How many of them must have cosigned; all if not given
    #[arg(long, value_name = "N", requires = "witnesses")]
    pub threshold: Option<usize>,
}

fn key_name(text: &str) -> Result<KeyName, String> {
    KeyName::parse(text).map_err(|e| e.to_string())
}

fn witness_key(text: &str) -> Result<VerifierKey, String> {
    let key = VerifierKey::parse(text).map_err(|e| e.to_string())?;
    match key.kind() {
        SignatureKind::Cosignature => Ok(key),
        SignatureKind::Ed25519 => Err("it is no key of a witness".to_owned()),
    }
}
