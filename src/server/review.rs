//! `lethed policy`: whether a policy can be in force, and who may do what by it. Serves nothing and changes nothing.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::rights::{policy_of, read_policy};
use super::{Config, ServerError, Sources, say};
use crate::authz::{Authority, BUILT_IN_POLICY, Entry, POLICY_SCHEMA, Policy, Shown, review};

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Say whether a policy can be in force, or what is wrong with it and in which line.
    Check {
        /// Check the policy of this configuration, and its identities.
        #[arg(long, conflicts_with = "file", required_unless_present = "file")]
        config: Option<PathBuf>,
        /// Check this file alone.
        file: Option<PathBuf>,
    },
    /// Say who may do what, as the vault would decide it.
    Table {
        #[arg(long)]
        config: PathBuf,
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Print the policy that comes with the vault, to begin with.
    Print {
        /// Print what policies can speak of instead: actions, their groups, entities.
        #[arg(long)]
        schema: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

pub fn run(command: PolicyCommand) -> Result<(), ServerError> {
    match command {
        PolicyCommand::Check { config: Some(config), .. } => check_config(&config),
        PolicyCommand::Check { config: None, file } => check(&file.unwrap_or_default()),
        PolicyCommand::Table { config, output } => table(&config, output),
        PolicyCommand::Print { schema } => {
            say(if schema { POLICY_SCHEMA } else { BUILT_IN_POLICY });
            Ok(())
        }
    }
}

/// One line about a sound policy.
fn sound(name: &str, policy: &Policy) -> String {
    let ((policies, decisions), sha256) = (policy.size(), policy.sha256());
    format!("{name}: {policies} policies, {decisions} decisions, SHA-256 {sha256}\n")
}

/// Says each fault in a line of its own; the error that ends the program names the first.
fn say_faults(error: ServerError) -> ServerError {
    if let ServerError::Policy { path, faults } = &error
        && faults.all().len() > 1
    {
        faults.all().iter().for_each(|fault| say(&format!("{path}: {fault}\n")));
    }
    error
}

fn check(path: &Path) -> Result<(), ServerError> {
    let policy = read_policy(path).map_err(say_faults)?;
    say(&sound(&path.display().to_string(), &policy));
    Ok(())
}

fn check_config(path: &Path) -> Result<(), ServerError> {
    let config = Config::load(path, &Sources::of_process(Vec::new()))?;
    let policy = policy_of(&config).map_err(say_faults)?;
    let name = config.policy.as_ref().map(|path| path.display().to_string());
    let mut text =
        sound(name.as_deref().unwrap_or("the policy that comes with the vault"), &policy);
    let count = config.bindings.len();
    let authority = Authority::with(policy, config.bindings)?;
    let _ = writeln!(text, "{}: {count} identities", path.display());
    for stranger in authority.in_force().unbound() {
        let _ = writeln!(text, "note: the policy names {stranger}, which no [[identity]] binds");
    }
    say(&text);
    Ok(())
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    policy: Option<&'a Path>,
    policy_sha256: String,
    rights: &'a [Entry],
}

fn table(path: &Path, output: Output) -> Result<(), ServerError> {
    let config = Config::load(path, &Sources::of_process(Vec::new()))?;
    let policy = policy_of(&config).map_err(say_faults)?;
    let sha256 = policy.sha256();
    let authority = Authority::with(policy, config.bindings)?;
    let rights = review(&authority.in_force());
    let text = match output {
        Output::Json => {
            let policy = config.policy.as_deref();
            let printed = Printed { policy, policy_sha256: sha256, rights: &rights };
            // Names, numbers and lists of them: nothing in it can fail to be written.
            serde_json::to_string_pretty(&printed).unwrap_or_default() + "\n"
        }
        Output::Table => format!("{}\nSHA-256 of the policy: {sha256}\n", lines(&rights)),
    };
    say(&text);
    Ok(())
}

fn lines(rights: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["identity", "role", "tenants", "types", "may", "sees in clear"]);
    for entry in rights {
        let Entry { identity, role, actions, tenants, types, clear } = entry;
        let tenants = if tenants.is_empty() { "the vault".to_owned() } else { tenants.join("\n") };
        let clear: Vec<String> = clear.iter().map(shown).collect();
        let cells = [types.join("\n"), actions.join("\n"), clear.join("\n")];
        let head = [identity.clone(), role.name().to_owned(), tenants];
        table.add_row(head.into_iter().chain(cells));
    }
    table
}

fn shown(Shown { purposes, classes }: &Shown) -> String {
    format!("{} for {}", classes.join(" "), purposes.join(", "))
}
