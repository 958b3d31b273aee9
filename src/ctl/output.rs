//! Tables and JSON on standard output.
//!
//! Guarantees: nothing that came from a record or from the vault can steer the terminal: control characters and
//! characters that reorder text are shown as escapes. JSON keys are stable and named in docs of each command.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Table, presets};
use prost_types::Timestamp;

use super::cli::Format;
use crate::clock::UnixMillis;

/// Longest value in a table with many rows.
const CELL_CHARS_MAX: usize = 48;

/// Where results go.
pub struct Out {
    format: Format,
    to: Box<dyn Write + Send>,
}

impl Out {
    pub fn stdout(format: Format) -> Self {
        Self { format, to: Box::new(io::stdout()) }
    }

    /// Keeps what is printed.
    #[cfg(test)]
    pub(super) fn captured(format: Format) -> (Self, std::sync::Arc<std::sync::Mutex<Vec<u8>>>) {
        struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let kept = std::sync::Arc::default();
        let to = Box::new(Shared(std::sync::Arc::clone(&kept)));
        (Self { format, to }, kept)
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints one JSON value on one or more lines; nothing in table mode.
    pub fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        if self.is_json() {
            serde_json::to_writer_pretty(&mut self.to, value)?;
            self.to.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Prints one JSON value on one line, at once; nothing in table mode.
    pub fn json_line(&mut self, value: &serde_json::Value) -> io::Result<()> {
        if self.is_json() {
            writeln!(self.to, "{value}")?;
            self.to.flush()?;
        }
        Ok(())
    }

    /// Prints a line; nothing in JSON mode.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        if !self.is_json() {
            writeln!(self.to, "{text}")?;
        }
        Ok(())
    }

    /// Prints a table whose cells are made safe here; nothing in JSON mode.
    pub fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        if self.is_json() {
            return Ok(());
        }
        writeln!(self.to, "{}", table(head, rows))
    }

    /// Prints pairs of a name and a value; nothing in JSON mode.
    pub fn pairs(&mut self, pairs: &[(&str, String)]) -> io::Result<()> {
        if self.is_json() {
            return Ok(());
        }
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(self.to, "{name:width$}  {}", safe(value))?;
        }
        Ok(())
    }
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(head);
    for row in rows {
        table.add_row(row.into_iter().map(|cell| Cell::new(safe(&cell))));
    }
    table
}

/// A note for people on standard error; not part of the result.
pub fn note(text: &str) {
    // A closed standard error must not stop the command.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether somebody is there to see a progress bar or to answer a question.
pub fn someone_watches() -> bool {
    io::stderr().is_terminal() && io::stdin().is_terminal()
}

/// `text` with everything escaped that could steer a terminal or reorder what is shown.
pub fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// At most `CELL_CHARS_MAX` characters.
pub fn short(text: &str) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// RFC 3339, or nothing.
pub fn time(t: Option<&Timestamp>) -> String {
    t.map(ToString::to_string).unwrap_or_default()
}

pub fn stamp(at: UnixMillis) -> Timestamp {
    let nanos = i32::try_from(at.0.rem_euclid(1000)).unwrap_or_default() * 1_000_000;
    Timestamp { seconds: at.0.div_euclid(1000), nanos }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(safe("a\u{1b}[31mred"), "a\\u{1b}[31mred");
        assert_eq!(safe("x\r\ny\tz\u{7}\u{9b}"), "x\\r\\ny\\tz\\u{7}\\u{9b}");
        assert_eq!(safe("user\u{202e}txt.exe\u{200b}"), "user\\u{202e}txt.exe\\u{200b}");
        assert_eq!(safe("Åkergatan 24, 江苏"), "Åkergatan 24, 江苏");
    }

    #[test]
    fn tables_hold_safe_cells_only() {
        let shown = table(&["FIELD"], vec![vec!["a\u{1b}]0;title\u{7}\nb".to_owned()]]).to_string();
        assert!(shown.contains("a\\u{1b}]0;title\\u{7}\\nb"), "{shown}");
        assert!(!shown.contains('\u{1b}'));
    }

    #[test]
    fn long_cells_end_in_an_ellipsis() {
        assert_eq!(short(&"é".repeat(48)).chars().count(), 48);
        let cut = short(&"é".repeat(49));
        assert_eq!(cut.chars().count(), 48);
        assert!(cut.ends_with('…'));
    }

    #[test]
    fn times_are_rfc_3339() {
        let t = Timestamp { seconds: 1_700_000_000, nanos: 0 };
        assert_eq!(time(Some(&t)), "2023-11-14T22:13:20Z");
        assert_eq!(time(None), "");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
