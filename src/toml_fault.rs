//! What is wrong with a TOML text, told without what it says.
//!
//! Guarantees: a fault names the line, the key if it has the form of one, and what was expected there; no value of the
//! text is repeated, since the text may be another file than was meant.

/// One fault of a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}{}: {expected}", key_part(.key))]
pub struct TomlFault {
    /// Counted from 1.
    pub line: usize,
    /// Empty where the line has none.
    pub key: String,
    pub expected: String,
}

fn key_part(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(", `{key}`") }
}

impl TomlFault {
    /// The parser's own message begins with the value, or shows the line: only what was expected is taken over.
    pub fn new(text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count();
        let source = text.lines().nth(line).unwrap_or_default();
        let key = source.split_once('=').map(|(key, _)| key.trim()).unwrap_or_default();
        let message = error.message().lines().next().unwrap_or_default();
        // Of what is quoted in it only a name with the form of a key is shown.
        let quoted = message.split('`').nth(1).unwrap_or_default();
        let hidden = message.starts_with("invalid ")
            || message.starts_with("unknown variant")
            || (message.starts_with("unknown field") && !has_the_form_of_a_key(quoted));
        let expected = match message.split_once("expected ") {
            Some((_, expected)) if hidden => format!("expected {expected}"),
            _ if hidden => "not what can stand here".to_owned(),
            _ => message.to_owned(),
        };
        let key = if has_the_form_of_a_key(key) { key.to_owned() } else { String::new() };
        Self { line: line + 1, key, expected }
    }
}

fn has_the_form_of_a_key(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Shape {
        number: u8,
        choice: Option<Choice>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        This,
    }

    fn fault(text: &str) -> String {
        TomlFault::new(text, &toml::from_str::<Shape>(text).unwrap_err()).to_string()
    }

    #[test]
    fn a_fault_names_line_and_key() {
        assert_eq!(fault("\nnumber = 'canary'"), "line 2, `number`: expected u8");
        assert!(fault("number = 1\nchioce = 1").starts_with("line 2, `chioce`: unknown field"));
        assert_eq!(fault(""), "line 1: missing field `number`");
        let choice = fault("number = 1\nchoice = 'canary'");
        assert_eq!(choice, "line 2, `choice`: expected `this`");
    }

    #[test]
    fn a_file_that_was_not_meant_is_not_shown() {
        for text in [
            "57,canary,canary@example.org\n58,canary,x",
            "canary",
            "canary canary = 1",
            "number = canary",
            "number = \"canary",
            "canary@example.org = 1\nnumber = 1",
            "'canary x' = 5\nnumber = 1",
            "number = 1\n[canary]\nx = 1",
            "{\"email\": \"canary@example.org\"}",
        ] {
            let told = fault(text);
            assert!(!told.contains("canary@") && !told.contains("canary,"), "{text}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
            println!("{told}");
        }
    }
}
