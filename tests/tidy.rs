//! Style as a test: reads the project's files and fails on what the documents forbid.
//!
//! Each rule is a function from a file's path and text to what is wrong with it, and each is fed something bad here, so
//! that a rule which no longer sees anything fails too.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "tidy/tables.rs"]
mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lethe::keys::rows::ROW_KINDS;

use tables::{FILE_USERS, HOMES, LAYERS};

const LINES_MAX: usize = 500;
const CODE_WIDTH: usize = 100;
/// Comments, and lines with a literal, which the formatter leaves as they are.
const WIDE: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every file of the project below `dir`, as paths from the root, `/` between their parts.
fn walk(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let skipped = ["target", ".git", "lethe-dev", "node_modules", "__pycache__", "dist"];
        if skipped.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
        }
    }
}

/// Path and text of the files that a rule is for. Files that are not text are nobody's.
fn files(wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    let texts = paths.into_iter().filter(|p| wanted(p));
    texts.filter_map(|p| Some((p.clone(), fs::read_to_string(root().join(&p)).ok()?))).collect()
}

fn check(wanted: impl Fn(&str) -> bool, rule: impl Fn(&str, &str) -> Vec<String>) {
    let files = files(wanted);
    assert!(!files.is_empty(), "the rule found no file to look at");
    let wrong: Vec<_> = files
        .iter()
        .flat_map(|(path, text)| rule(path, text).into_iter().map(move |w| format!("{path}: {w}")))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn src(path: &str) -> bool {
    rust(path) && path.starts_with("src/")
}

/// Whole files of tests, by name.
fn is_test_file(path: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    path.contains("/tests/") || stem.ends_with("tests") || ["testing", "fake_vault"].contains(&stem)
}

/// Rust without its comments and without its test module, which stands last.
fn code(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with("mod tests {") {
            break;
        }
        let trimmed = line.trim_start();
        if !trimmed.starts_with("//") {
            kept.push_str(line.split(" // ").next().unwrap_or(line));
        }
        kept.push('\n');
    }
    kept
}

/// Whether `text` has `word` and neither neighbour is part of a name or of a path to it.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The first names of what follows `lead` (`crate::`): of one path, or of each in braces.
fn first_names(code: &str, lead: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(lead) {
        let rest = &code[at + lead.len()..];
        let name = |s: &str| -> String {
            s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0, 0);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    ',' if depth == 0 => {
                        names.push(name(&group[start..i]));
                        start = i + 1;
                    }
                    '}' if depth == 0 => {
                        names.push(name(&group[start..i]));
                        break;
                    }
                    '}' => depth -= 1,
                    _ => {}
                }
            }
        } else {
            names.push(name(rest));
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

fn module_of(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap_or(path);
    rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
}

/// An import goes down, or stays in its module; the vocabulary of layer 0 may use itself.
fn layers(path: &str, text: &str) -> Vec<String> {
    let own = module_of(path);
    if own == "lib" {
        return Vec::new();
    }
    let layer = |module: &str| LAYERS.iter().find(|(m, _)| *m == module).map(|(_, n)| *n);
    let Some(here) = layer(own) else {
        return vec![format!("module {own} has no layer in tests/tidy.rs")];
    };
    // A chain of `super::` that leaves the top-level module is an import as well.
    let depth = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
    let code = code(text);
    let leads = [("crate::".to_owned(), true), ("super::".repeat(depth), depth > 0)];
    let mut wrong = Vec::new();
    for (lead, _) in leads.iter().filter(|(_, counts)| *counts) {
        for name in first_names(&code, lead) {
            match layer(&name) {
                Some(there) if name == own || there < here || (there, here) == (0, 0) => {}
                Some(there) => wrong.push(format!("{own} (layer {here}) uses {name} ({there})")),
                None => {}
            }
        }
    }
    wrong
}

fn homes(path: &str, text: &str) -> Vec<String> {
    if is_test_file(path) {
        return Vec::new();
    }
    let code = code(text);
    let strays = HOMES.iter().filter(|(_, homes)| !homes.iter().any(|h| path.starts_with(h)));
    strays
        .filter(|(krate, _)| {
            has_word(&code, &format!("use {krate}"))
                || code.match_indices(&format!("{krate}::")).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                })
        })
        .map(|(krate, _)| format!("uses {krate} away from its home"))
        .collect()
}

fn file_system(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let uses = code.contains("std::fs") || first_names(&code, "std::").iter().any(|n| n == "fs");
    if uses && !FILE_USERS.contains(&path) && !is_test_file(path) {
        return vec!["uses std::fs and is not in FILE_USERS".to_owned()];
    }
    Vec::new()
}

fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    let bad = path != "src/os.rs" && has_word(&code(text), "unsafe");
    bad.then(|| "unsafe outside src/os.rs".to_owned()).into_iter().collect()
}

fn shape(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.lines().count() > LINES_MAX {
        wrong.push(format!("more than {LINES_MAX} lines"));
    }
    if rust(path) && !text.starts_with("//! ") {
        wrong.push("does not open with //! and what it guarantees".to_owned());
    }
    for (n, line) in text.lines().enumerate() {
        let wide = line.trim_start().starts_with("//") || line.contains(['"', '\'', '\\']);
        let max = if rust(path) && !wide { CODE_WIDTH } else { WIDE };
        if line.chars().count() > max {
            wrong.push(format!("line {} is wider than {max}", n + 1));
        }
        if line.ends_with([' ', '\t']) {
            wrong.push(format!("line {} ends in white space", n + 1));
        }
    }
    wrong
}

/// What is left lying about when work was not finished.
fn leftovers(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    wrong.extend(notes.iter().filter(|n| has_word(text, n)).map(|n| format!("contains {n}")));
    let machine = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    wrong.extend(machine.iter().filter(|m| text.contains(*m)).map(|m| format!("names {m}")));
    if rust(path) {
        let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        let macros = [concat!("to", "do!"), concat!("unimpl", "emented!"), concat!("db", "g!")];
        wrong.extend(macros.iter().filter(|m| code.contains(*m)).map(|m| format!("calls {m}")));
        // A test may be the child process of another, which runs it by name.
        let ignored = concat!("#[ign", "ore");
        let run = format!("{ignored} = \"run by ");
        let idle = text.lines().filter(|l| l.contains(ignored) && !l.contains(&run));
        wrong.extend(idle.map(|l| format!("a test that does not run: {}", l.trim())));
    }
    wrong
}

/// First bytes of row keys that code names, as `b"x"` or at the head of an array.
fn row_kinds_in(text: &str) -> BTreeSet<u8> {
    let code = code(text);
    let lower = |at: usize| code.as_bytes().get(at).copied().filter(u8::is_ascii_lowercase);
    let mut kinds = BTreeSet::new();
    for (lead, ends) in [("b\"", vec!["\""]), ("[b'", vec!["',", "']"]), ("_key(b'", vec!["',"])] {
        for (at, _) in code.match_indices(lead) {
            let at = at + lead.len();
            let Some(kind) = lower(at) else { continue };
            kinds.extend(ends.iter().any(|e| code[at + 1..].starts_with(e)).then_some(kind));
        }
    }
    kinds
}

/// Kinds of the table in §3 of docs/FORMAT.md.
fn row_kinds_of_format(text: &str) -> BTreeSet<u8> {
    let section = text.split("\n## ").find(|s| s.starts_with("3. Rows")).unwrap_or_default();
    let kinds = section.lines().filter_map(|l| l.strip_prefix("| `")?.split_once("` | `"));
    kinds.filter(|(kind, _)| kind.len() == 1).map(|(kind, _)| kind.as_bytes()[0]).collect()
}

fn row_kinds(_: &str, text: &str) -> Vec<String> {
    let listed = |kind: &u8| ROW_KINDS.iter().any(|(k, _)| k == kind);
    let strange = row_kinds_in(text).into_iter().filter(|k| !listed(k));
    strange.map(|k| format!("writes row kind {} that ROW_KINDS lacks", char::from(k))).collect()
}

/// Names in backticks after `test:` in a promise.
fn tests_named(text: &str) -> Vec<String> {
    let promises = text.split("test:").skip(1);
    let names = |rest: &str| {
        let list = rest.split(')').next().unwrap_or_default();
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    promises.flat_map(names).collect()
}

#[test]
fn imports_go_down_the_layers() {
    check(src, layers);
    assert!(!layers("src/store/x.rs", "use crate::vault::Vault;").is_empty());
    assert!(!layers("src/store/x.rs", "use crate::{limits, keys::{a, b}};").is_empty());
    assert!(!layers("src/store/x.rs", "fn f() { crate::server::run() }").is_empty());
    assert!(!layers("src/store/a/x.rs", "use super::super::super::rpc::a;").is_empty());
    assert!(!layers("src/store/mod.rs", "use super::keys::Tree;").is_empty());
    assert!(!layers("src/crypto/x.rs", "use crate::store::Row;").is_empty());
    assert!(!layers("src/novel/x.rs", "").is_empty());
    assert!(layers("src/store/x.rs", "use crate::{limits, store::{a, b}, id};").is_empty());
    assert!(layers("src/store/x.rs", "// use crate::vault::Vault;").is_empty());
    assert!(layers("src/clock.rs", "use crate::id::Day;").is_empty());
}

#[test]
fn every_module_has_a_layer_and_the_documents_name_it() {
    let lib = read("src/lib.rs");
    let modules: BTreeSet<_> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")).collect();
    let listed: BTreeSet<_> =
        LAYERS.iter().map(|(m, _)| format!("{m};")).filter(|m| m != "bin;").collect();
    assert_eq!(modules, listed.iter().map(String::as_str).collect());
    for (module, layer) in LAYERS.iter().filter(|(m, _)| *m != "bin") {
        let row = format!("//! | {layer} |");
        let named = |l: &str| l.starts_with(&row) && l.contains(&format!("[`{module}`]"));
        assert!(lib.lines().any(named), "src/lib.rs does not put {module} into layer {layer}");
    }
}

#[test]
fn outside_crates_stay_at_home() {
    check(src, homes);
    assert!(!homes("src/vault/x.rs", "use ring::aead;").is_empty());
    assert!(!homes("src/vault/x.rs", "fn f() -> tonic::Status {").is_empty());
    assert!(!homes("src/store/mod.rs", "use sled;").is_empty());
    assert!(!homes("src/ctl/x.rs", "rustix::fs::fsync(f)").is_empty());
    assert!(homes("src/vault/x.rs", "//! ring::aead\nuse super::ring::Buffer;").is_empty());
}

#[test]
fn few_files_touch_the_file_system() {
    check(src, file_system);
    assert!(!file_system("src/vault/x.rs", "use std::fs::File;").is_empty());
    assert!(!file_system("src/vault/x.rs", "use std::{fs, io};").is_empty());
    assert!(file_system("src/vault/x.rs", "mod tests {\n use std::fs;").is_empty());
    for path in FILE_USERS {
        assert!(code(&read(path)).contains("std::fs"), "{path} need not be in FILE_USERS");
    }
}

#[test]
fn unsafe_code_stays_in_one_file() {
    check(|p| src(p) || (rust(p) && p.starts_with("tools/oracle/")), unsafe_code);
    assert!(!unsafe_code("src/store/x.rs", "let x = unsafe { *p };").is_empty());
    assert!(unsafe_code("src/store/x.rs", "#![deny(unsafe_code)] // unsafe").is_empty());
    assert!(unsafe_code("src/os.rs", "unsafe {}").is_empty());
}

#[test]
fn files_have_the_shape_that_style_asks_for() {
    // Generated messages have the width that their compiler gives them.
    let ours = |p: &str| p.ends_with(".py") && !p.ends_with("_pb2.py");
    check(|p| rust(p) || ours(p) || p.starts_with("scripts/"), shape);
    assert!(!shape("a.rs", "fn f() {}\n").is_empty());
    assert!(!shape("a.rs", &format!("//! A.\n{}", "\n".repeat(LINES_MAX))).is_empty());
    assert!(!shape("a.rs", &format!("//! A.\n{}\n", "x".repeat(CODE_WIDTH + 1))).is_empty());
    assert!(!shape("a.rs", &format!("//! {}\n", "x".repeat(WIDE))).is_empty());
    assert!(!shape("a.rs", "//! A.\nfn f() {} \n").is_empty());
    assert!(shape("a.rs", &format!("//! A.\n// {}\n", "x".repeat(CODE_WIDTH))).is_empty());
}

#[test]
fn nothing_is_left_lying_about() {
    check(|p| p != "Cargo.lock", leftovers);
    let bad = [
        concat!("//! TO", "DO: later"),
        concat!("// FIX", "ME"),
        concat!("to", "do!()"),
        concat!("db", "g!(x)"),
        concat!("#[ign", "ore]"),
        concat!("#[ign", "ore = \"slow\"]"),
        concat!("cd /wo", "rk/x"),
    ];
    bad.iter().for_each(|text| assert!(!leftovers("a.rs", text).is_empty(), "{text}"));
    assert!(leftovers("a.rs", concat!("#[ign", "ore = \"run by its_parent\"]")).is_empty());
    assert!(leftovers("a.sh", "mktemp x.XXXXXX").is_empty());
}

#[test]
fn every_row_kind_is_listed_with_what_it_dies_with() {
    let keyed = |p: &str| {
        src(p)
            && ["vault", "keys", "store", "audit"].contains(&module_of(p))
            && !is_test_file(p)
            && p != "src/vault/validate.rs"
    };
    check(keyed, row_kinds);
    assert!(!row_kinds("", "batch.put([b\"i\".as_slice(), &id].concat(), value)").is_empty());
    assert!(!row_kinds("", "tenant_key(b'i', tenant, record)").is_empty());
    assert!(!row_kinds("", "let key = vec![b'i', 1];").is_empty());
    let listed: BTreeSet<u8> = ROW_KINDS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(listed, row_kinds_of_format(&read("docs/FORMAT.md")), "ROW_KINDS and FORMAT §3");
    let used = files(keyed).iter().flat_map(|(_, t)| row_kinds_in(t)).collect::<BTreeSet<_>>();
    assert_eq!(listed, used, "a listed kind is used, and a used kind is listed");
}

#[test]
fn documents_exist_and_stay_short() {
    for (path, max) in [
        ("README.md", 120),
        ("CHANGELOG.md", 500),
        ("SECURITY.md", 100),
        ("docs/DESIGN.md", 300),
        ("docs/FORMAT.md", 400),
        ("docs/LOGS.md", 100),
        ("docs/CERTIFICATES.md", 150),
        ("docs/THREATS.md", 300),
        ("docs/OPERATING.md", 450),
        ("docs/REFERENCE.md", 300),
        ("docs/MEASUREMENTS.md", 200),
    ] {
        let lines = read(path).lines().count();
        assert!((10..=max).contains(&lines), "{path} has {lines} lines, at most {max}");
    }
}

#[test]
fn every_promise_names_a_test_that_exists() {
    assert_eq!(tests_named("- x (test: `a`,\n`b`)\n- y `no` (test:\n `c`)"), ["a", "b", "c"]);
    let tests = files(|p| rust(p) || p.starts_with("scripts/") || p.ends_with(".py"));
    let docs = [
        "README.md",
        "docs/THREATS.md",
        "docs/DESIGN.md",
        "docs/OPERATING.md",
        "docs/LOGS.md",
        "docs/CERTIFICATES.md",
        "docs/MEASUREMENTS.md",
    ];
    for doc in docs {
        let named = tests_named(&read(doc));
        assert!(doc != "README.md" || named.len() > 9, "the README's promises name their tests");
        for name in named {
            let here = |(path, text): &(String, String)| {
                *path == name || text.contains(&format!("fn {name}("))
            };
            assert!(tests.iter().any(here), "{doc} names the test {name}, which is not there");
        }
    }
}

#[test]
fn the_operator_is_told_of_every_limit_and_counter() {
    let told = read("docs/REFERENCE.md");
    let limits = read("src/limits.rs");
    let limits = limits.lines().filter_map(|l| l.strip_prefix("pub const ")?.split_once(':'));
    let counters = lethe::metrics::Metrics::default().snapshot();
    let names: Vec<_> = limits.map(|(n, _)| n).chain(counters.iter().map(|(n, _)| *n)).collect();
    assert!(names.len() > 40, "{names:?}");
    let code: String =
        files(src).into_iter().filter(|(p, _)| p != "src/limits.rs").map(|f| f.1).collect();
    let idle: Vec<_> = names.iter().filter(|n| !has_word(&code, n)).collect();
    assert!(idle.is_empty(), "nothing keeps to {idle:?}");
    let untold: Vec<_> = names.iter().filter(|n| !told.contains(&format!("`{n}`"))).collect();
    assert!(untold.is_empty(), "docs/REFERENCE.md lacks {untold:?}");
}
