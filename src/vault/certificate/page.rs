//! A certificate for people: one HTML file that needs nothing else, to be read or printed.
//!
//! Guarantees: nothing in it runs, and nothing is fetched; every text is escaped; the whole certificate is in it as
//! JSON; a page is what [`page`] makes of that and not a byte else, or it is refused, so that what people read is what
//! was checked.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::document::{Document, Malformed};
use super::facts::{AskerKind, Kind};
use crate::crypto::sha256;

const OPEN: &str = "<script type=\"application/json\" id=\"certificate\">\n";
const CLOSE: &str = "</script>";

const STYLE: &str = "
@page { size: A4; margin: 18mm; }
body { font: 11pt/1.45 Georgia, \"Times New Roman\", serif; color: #111; background: #fff; max-width: 46em;
  margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.7em; margin: 0 0 .2em; }
h2 { font-size: 1.1em; margin: 1.6em 0 .4em; border-bottom: 1px solid #999; }
p.lead { font-size: 1.1em; margin: .6em 0 1em; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: normal; color: #444; width: 13em; vertical-align: top; }
th { padding: .18em 1em .18em 0; }
td { vertical-align: top; padding: .18em 0; overflow-wrap: anywhere; }
pre { font: 9pt/1.4 \"DejaVu Sans Mono\", Consolas, monospace; }
ul { margin: .3em 0; padding-left: 1.2em; }
li { margin: .25em 0; }
tr, li { break-inside: avoid; }
h2 { break-after: avoid; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .8em; }
details { margin-top: 1em; }
@media print { body { margin: 0; max-width: none; padding: 0; } details { display: none; } }
";

/// What comes before the body. The one style that counts is named by its hash; nothing else is to be loaded or run.
fn head() -> String {
    let hash = STANDARD.encode(sha256(STYLE.as_bytes()));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Certificate of destruction</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    )
}

/// Text that is no markup. Characters that reorder what is shown, or show nothing, are written as numbers.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_hidden(c) => {
                // Writing into a String cannot fail.
                let _ = write!(out, "[U+{:04X}]", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn level_words(level: &str) -> &'static str {
    match level {
        "E0_TOMBSTONED" => "reads refuse; the keys may still be found on the medium",
        "E1_LOCAL_ANCHOR_SCRUBBED" => {
            "the keys exist nowhere: the anchor's old copies are overwritten"
        }
        "E2_ALL_ANCHORS_SCRUBBED" => {
            "the keys exist nowhere: every copy of the anchor is overwritten"
        }
        "E3_CIPHERTEXT_COLLECTED" => "the keys exist nowhere, and the ciphertext is collected too",
        _ => "",
    }
}

fn lead(document: &Document) -> String {
    let destroyed = &document.facts.destroyed;
    let name = escape(&destroyed.name);
    match destroyed.kind {
        Kind::Record => format!("The keys of record <b>{name}</b> were destroyed."),
        Kind::Subject => format!("The keys of subject <b>{name}</b> were destroyed."),
        Kind::Bucket => {
            let (records, what) =
                (destroyed.records, if destroyed.records == 1 { "record" } else { "records" });
            format!(
                "The keys of <b>{records} {what}</b>, all that were in <b>{name}</b>, were destroyed."
            )
        }
        Kind::RecordWithBucket => {
            format!(
                "The keys of record <b>{name}</b> were destroyed with all that was in its bucket."
            )
        }
    }
}

/// A part of the page: a heading and a table of two columns.
fn table(out: &mut String, heading: &str, rows: &[(&str, String)]) {
    let _ = writeln!(out, "<h2>{heading}</h2>\n<table>");
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(value));
    }
    out.push_str("</table>\n");
}

fn list(out: &mut String, heading: &str, lines: &[String]) {
    let _ = writeln!(out, "<h2>{heading}</h2>\n<ul>");
    for line in lines {
        let _ = writeln!(out, "<li>{}</li>", escape(line));
    }
    out.push_str("</ul>\n");
}

fn optional(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

fn about(document: &Document, out: &mut String) {
    let facts = &document.facts;
    let (destroyed, erasure) = (&facts.destroyed, &facts.erasure);
    let leaves: Vec<String> = destroyed.leaves.iter().map(|leaf| leaf.index.to_string()).collect();
    table(
        out,
        "What was destroyed",
        &[
            ("Name", destroyed.name.clone()),
            ("Type of record", optional(destroyed.record_type.as_ref())),
            ("Version", destroyed.version.map(|v| v.to_string()).unwrap_or_default()),
            ("Last day of the bucket", optional(destroyed.expire_date.as_ref())),
            ("Records", destroyed.records.to_string()),
            ("Vault", facts.vault.name.clone()),
        ],
    );
    table(
        out,
        "When, and how far",
        &[
            ("Due", optional(erasure.due.as_ref())),
            ("Asked for, or due", erasure.requested.clone()),
            ("Begun", erasure.removed.clone()),
            ("Done", erasure.completed.clone()),
            ("Level reached", format!("{}: {}", erasure.level, level_words(&erasure.level))),
            ("Medium of the anchor", erasure.medium.clone()),
        ],
    );
    let call = match facts.asked_by.kind {
        AskerKind::Caller => format!(" ({})", facts.asked_by.call),
        AskerKind::Schedule | AskerKind::NotKept => String::new(),
    };
    table(
        out,
        "Why, and who",
        &[
            ("Reason", erasure.reason.clone()),
            ("Basis", facts.basis.text.clone()),
            ("Asked by", format!("{}{call}", facts.asked_by.name)),
            (
                "Approved by",
                match facts.approved_by.by.is_empty() {
                    true => facts.approved_by.text.clone(),
                    false => facts.approved_by.by.join(", "),
                },
            ),
            (
                "Backups still kept",
                format!("{}. {}", facts.backups.inside_window, facts.backups.text),
            ),
        ],
    );
    if !facts.basis.rules.is_empty() {
        let rule = |r: &super::facts::RuleFacts| {
            let basis =
                if r.legal_basis.is_empty() { "names no legal basis" } else { &r.legal_basis };
            format!("{} (revision {}): {basis}", r.name, r.revision)
        };
        let rules: Vec<String> = facts.basis.rules.iter().map(rule).collect();
        list(out, "Rules on how long such records are kept", &rules);
    }
    list(out, "What this certificate does not cover", &facts.not_covered);
    list(out, "Proved by the vault's ledger", &facts.sources.proved_by_ledger);
    list(out, "Stated and signed by the vault", &facts.sources.stated_by_vault);
    table(
        out,
        "Proof",
        &[
            ("Leaves of the ledger", leaves.join(", ")),
            ("Generation", erasure.generation.to_string()),
            (
                "Leaf that states the level",
                match erasure.level_leaf {
                    Some(index) => index.to_string(),
                    None => "none yet".to_owned(),
                },
            ),
            ("Issued", facts.issued.clone()),
            ("Vault's public key", facts.vault.public_key.clone()),
        ],
    );
}

/// The page of a certificate.
pub fn page(document: &Document) -> Result<String, Malformed> {
    // In JSON a `<` is in strings only, and may be written as a number there: so nothing ends the element early.
    let json = document.to_text()?.replace('<', "\\u003c");
    let mut out = head();
    let _ = writeln!(
        out,
        "<h1>Certificate of destruction</h1>\n<p class=\"lead\">{}</p>",
        lead(document)
    );
    about(document, &mut out);
    out.push_str(
        "<p>This page proves nothing by itself. Check it, without the vault: <code>lethectl verify \
         certificate FILE --checkpoint CHECKPOINT --public-key KEY</code>, with a checkpoint and a key \
         that you have from elsewhere.</p>\n",
    );
    let _ = writeln!(
        out,
        "<details><summary>The checkpoint</summary>\n<pre>{}</pre></details>",
        document.checkpoint.lines().map(escape).collect::<Vec<_>>().join("\n")
    );
    let _ = write!(out, "{OPEN}{json}{CLOSE}\n</body>\n</html>\n");
    Ok(out)
}

/// Why a text is not taken for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the page holds no certificate, or more than one")]
    None,
    #[error(
        "the page does not show what its certificate says, or another version of this program made it"
    )]
    Altered,
}

/// The certificate in a file, which is its JSON or its page.
pub fn read(text: &str) -> Result<Document, PageFault> {
    if !text.trim_start().starts_with('<') {
        return Ok(Document::parse(text)?);
    }
    let (_, rest) = text.split_once(OPEN).ok_or(PageFault::None)?;
    let (json, _) = rest.split_once(CLOSE).ok_or(PageFault::None)?;
    let document = Document::parse(json)?;
    if page(&document)? == text { Ok(document) } else { Err(PageFault::Altered) }
}
