//! An authority of one's own, offline: make it, issue, renew and revoke certificates, list them.
//!
//! Guarantees: no connection is made; keys are written to files of their owner's alone and printed nowhere; nothing is
//! replaced without `--force`, except the files of the very certificate that is renewed.

use std::path::Path;
use std::time::Duration;

use prost_types::Timestamp;
use serde_json::{Value as Json, json};

use super::Done;
use super::cli::{PkiCommand, RevokeArgs};
use super::error::CtlError;
use super::output::{Out, time};
use crate::authz::{Principal, TrustDomain};
use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::pki::{Folder, Issued, PkiError, Purpose, State, Which};

const DAY: Duration = Duration::from_secs(24 * 3600);

impl From<PkiError> for CtlError {
    fn from(error: PkiError) -> Self {
        let next = match &error {
            PkiError::Exists { .. } => {
                "choose another name or directory; --force replaces what is there, for good"
            }
            PkiError::NoAuthority { .. } => {
                "make one with `lethectl pki init --dir DIR --trust-domain DOMAIN`"
            }
            PkiError::Index { .. } => {
                "put back a copy of the directory: without its record nothing can be revoked"
            }
            PkiError::Busy { .. } => "wait until the other lethectl has ended",
            PkiError::Unknown { .. } => "see `lethectl pki list` for names and serial numbers",
            PkiError::Changed { .. } => "put the right file back, or replace it with --force",
            PkiError::Name => "choose a name for two files, as `application`",
            PkiError::Domain { .. } => "give a URI of that trust domain, or another --dir",
            PkiError::BeyondAuthority => "give fewer --days, or make a new authority",
            PkiError::Full => "make a new authority, or wait until certificates have expired",
            PkiError::Io { .. } => "check the path and who may use it",
            PkiError::Pem { .. } => "put back a copy of the directory",
            PkiError::Make(_) => "check the names that were given with --dns",
            PkiError::Time => "check the clock, and give fewer days",
        };
        CtlError::Input { what: error.to_string(), next }
    }
}

pub(super) fn run(command: &PkiCommand, out: &mut Out) -> Result<Done, CtlError> {
    let now = SystemClock.now();
    match command {
        PkiCommand::Init { dir, trust_domain, list_days, force } => {
            let domain = TrustDomain::parse(trust_domain).map_err(|problem| CtlError::Usage {
                what: format!("--trust-domain {problem}"),
                next: "give a name as `example.org`",
            })?;
            let folder = Folder::init(dir, &domain, *list_days, now, *force)?;
            init(&folder, dir, out)
        }
        PkiCommand::Issue { dir, uri, out: name, days, server, dns, ip, force } => {
            let principal = Principal::parse(uri).map_err(|problem| CtlError::Usage {
                what: format!("--uri {problem}"),
                next: "give a URI as `spiffe://example.org/application`",
            })?;
            let purpose = if *server {
                Purpose::Server { dns: dns.clone(), ips: ip.clone() }
            } else {
                Purpose::Client
            };
            let mut folder = Folder::open(dir)?;
            let life = (now, DAY * *days);
            let issued = folder.issue(name, &principal, &purpose, life, *force)?;
            tell("issued", &folder, &issued, out)
        }
        PkiCommand::Renew { dir, name, days, force } => {
            let mut folder = Folder::open(dir)?;
            let issued = folder.renew(name, (now, DAY * *days), *force)?;
            tell("renewed", &folder, &issued, out)?;
            out.line("note: the old certificate stays valid until it expires or is revoked")?;
            Ok(Done::Wholly)
        }
        PkiCommand::Revoke { dir, which } => revoke(&mut Folder::open(dir)?, which, now, out),
        PkiCommand::List { dir } => list(&Folder::open(dir)?, now, out),
    }
}

/// Keys: directory, trust_domain, list, list_until.
fn init(folder: &Folder, dir: &Path, out: &mut Out) -> Result<Done, CtlError> {
    let (list, _, until) = folder.list();
    out.json(&json!({
        "directory": dir.display().to_string(),
        "trust_domain": folder.trust_domain(),
        "list": list.display().to_string(),
        "list_until": moment(until),
    }))?;
    out.pairs(&[
        ("authority", dir.join("ca.pem").display().to_string()),
        ("its key", dir.join("ca.key").display().to_string()),
        ("trust domain", folder.trust_domain().to_owned()),
        ("revocation list", format!("{}, until {}", list.display(), moment(until))),
    ])?;
    out.line("note: who has the authority's key can be anybody; keep it apart from the vault")?;
    Ok(Done::Wholly)
}

/// Keys: those of [`issued_json`], certificate, key.
fn tell(done: &str, folder: &Folder, issued: &Issued, out: &mut Out) -> Result<Done, CtlError> {
    let [certificate, key] = folder.paths(&issued.name).map(|path| path.display().to_string());
    let mut json = issued_json(issued, "valid");
    if let Some(json) = json.as_object_mut() {
        json.insert("certificate".to_owned(), json!(certificate));
        json.insert("key".to_owned(), json!(key));
    }
    out.json(&json)?;
    out.line(done)?;
    out.pairs(&[
        ("certificate", certificate),
        ("key", key),
        ("uri", issued.uri.clone()),
        ("serial", issued.serial.clone()),
        ("until", moment(issued.until)),
    ])?;
    Ok(Done::Wholly)
}

/// Keys: revoked (see [`issued_json`]), list, list_number, list_until.
fn revoke(
    folder: &mut Folder,
    which: &RevokeArgs,
    now: UnixMillis,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let which = match (&which.name, &which.serial) {
        (Some(name), _) => Which::Name(name),
        (None, Some(serial)) => Which::Serial(serial),
        (None, None) => Which::None,
    };
    let revoked = folder.revoke(which, now)?;
    let (list, number, until) = folder.list();
    out.json(&json!({
        "revoked": revoked.iter().map(|i| issued_json(i, "revoked")).collect::<Vec<_>>(),
        "list": list.display().to_string(),
        "list_number": number,
        "list_until": moment(until),
    }))?;
    for issued in &revoked {
        out.line(&format!("revoked {} ({}, serial {})", issued.name, issued.uri, issued.serial))?;
    }
    if revoked.is_empty() {
        out.line("nothing was valid that is revoked now")?;
    }
    out.line(&format!("list {number} until {}: {}", moment(until), list.display()))?;
    out.line("note: it counts where the vault reads it (`tls.crl`)")?;
    Ok(Done::Wholly)
}

/// Keys: trust_domain, list_number, list_until, issued (see [`issued_json`]).
fn list(folder: &Folder, now: UnixMillis, out: &mut Out) -> Result<Done, CtlError> {
    let (_, number, until) = folder.list();
    let state = |issued: &Issued| match issued.state(now) {
        State::Valid => "valid",
        State::Expired => "expired",
        State::Revoked => "revoked",
    };
    let all = folder.issued();
    out.json(&json!({
        "trust_domain": folder.trust_domain(),
        "list_number": number,
        "list_until": moment(until),
        "issued": all.iter().map(|i| issued_json(i, state(i))).collect::<Vec<_>>(),
    }))?;
    let rows = all.iter().map(|i| {
        vec![
            i.name.clone(),
            i.uri.clone(),
            usage(i).to_owned(),
            moment(i.until),
            state(i).to_owned(),
            i.serial.clone(),
        ]
    });
    out.table(&["NAME", "URI", "FOR", "UNTIL", "STATE", "SERIAL"], rows.collect())?;
    out.line(&format!("revocation list {number}, until {}", moment(until)))?;
    Ok(Done::Wholly)
}

fn usage(issued: &Issued) -> &'static str {
    if issued.server.is_some() { "server" } else { "client" }
}

/// Keys: name, uri, for (client, server), serial, from, until, state (valid, expired, revoked), revoked_time.
fn issued_json(issued: &Issued, state: &str) -> Json {
    json!({
        "name": issued.name,
        "uri": issued.uri,
        "for": usage(issued),
        "serial": issued.serial,
        "from": moment(issued.from),
        "until": moment(issued.until),
        "state": state,
        "revoked_time": issued.revoked.map(moment),
    })
}

fn moment(seconds: i64) -> String {
    time(Some(&Timestamp { seconds, nanos: 0 }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::cli::{Cli, Command, Format};
    use super::*;

    fn command(args: &[&str]) -> Result<Json, CtlError> {
        let all = ["lethectl", "--output", "json", "pki"];
        let cli = Cli::try_parse_from(all.iter().chain(args)).unwrap();
        let (mut out, printed) = Out::captured(Format::Json);
        let Command::Pki(command) = &cli.command else { panic!("another command") };
        run(command, &mut out)?;
        let printed = printed.lock().unwrap().clone();
        Ok(serde_json::from_slice(&printed).unwrap())
    }

    #[test]
    fn an_authority_from_its_first_day_to_a_revocation() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("pki").display().to_string();
        let app = ["issue", "--dir", &dir, "--uri", "spiffe://test/app", "--out", "app"];
        let refused = command(&app).unwrap_err().text();
        assert!(refused.contains("next: make one with `lethectl pki init"), "{refused}");
        let init = ["init", "--dir", &dir, "--trust-domain", "test"];
        assert_eq!(command(&init).unwrap()["trust_domain"], "test");
        let refused = command(&init).unwrap_err();
        assert!(refused.text().contains("--force"), "{}", refused.text());
        assert_eq!(refused.exit_code(), 1);

        let issued = command(&app).unwrap();
        assert_eq!((&issued["for"], &issued["state"]), (&json!("client"), &json!("valid")));
        let server = [
            &["issue", "--dir", &dir, "--uri", "spiffe://test/lethed", "--out", "lethed"][..],
            &["--server", "--dns", "localhost", "--ip", "127.0.0.1", "--days", "7"],
        ];
        assert_eq!(command(&server.concat()).unwrap()["for"], "server");
        let renewed = command(&["renew", "--dir", &dir, "--name", "app"]).unwrap();
        assert_ne!(renewed["serial"], issued["serial"]);
        let serial = issued["serial"].as_str().unwrap();
        let revoked = command(&["revoke", "--dir", &dir, "--serial", serial]).unwrap();
        assert_eq!(revoked["revoked"][0]["serial"], *serial);
        assert_eq!(revoked["list_number"], 2);
        assert_eq!(command(&["revoke", "--dir", &dir, "--refresh"]).unwrap()["list_number"], 3);
        let all = command(&["list", "--dir", &dir]).unwrap();
        let states: Vec<_> =
            all["issued"].as_array().unwrap().iter().map(|i| &i["state"]).collect();
        assert_eq!(states, ["revoked", "valid", "valid"]);
        let key = std::fs::read_to_string(tmp.path().join("pki/app.key")).unwrap();
        assert!(!renewed.to_string().contains(key.lines().nth(1).unwrap()));
    }

    #[test]
    fn wrong_usage_is_told_before_anything_is_made() {
        for args in [
            &["revoke", "--dir", "x"][..],
            &["revoke", "--dir", "x", "--name", "a", "--serial", "b"],
            &["issue", "--dir", "x", "--uri", "u", "--out", "o", "--dns", "d"],
            &["issue", "--dir", "x", "--uri", "u", "--out", "o", "--days", "0"],
        ] {
            let all = ["lethectl", "pki"].iter().chain(args);
            assert!(Cli::try_parse_from(all).is_err(), "{args:?}");
        }
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("pki").display().to_string();
        let bad = command(&["init", "--dir", &dir, "--trust-domain", "No Domain"]).unwrap_err();
        assert_eq!(bad.exit_code(), 64);
        assert!(!tmp.path().join("pki").exists());
        let uri = ["issue", "--dir", &dir, "--uri", "https://x", "--out", "o"];
        assert_eq!(command(&uri).unwrap_err().exit_code(), 64);
    }
}
