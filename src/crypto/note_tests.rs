//! Notes: the specification's and another implementation's own examples, and everything that is almost a note.

use super::*;

/// The example of the specification.
const POEM: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\
— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC\
+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

/// The key and the note of the documentation of Go's package `note`.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN: &str = "If you think cryptography is the answer to your problem,\n\
then you don't know what your problem is.\n\n\
— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSN\
XgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn notes_of_others_are_read_and_verified() {
    let note = Note::parse(POEM).unwrap();
    assert_eq!(note.text(), POEM.split_at(POEM.find("\n\n—").unwrap() + 1).0);
    assert_eq!(note.to_string(), POEM);
    let (key, note) = (VerifierKey::parse(PETER).unwrap(), Note::parse(NEUMANN).unwrap());
    assert_eq!(key.to_string(), PETER);
    assert!(note.verify(&key).is_ok());
    let changed = Note::parse(&NEUMANN.replace("answer", "anchor")).unwrap();
    assert_eq!(changed.verify(&key), Err(NoteError::Signature));
    let renamed = Note::parse(&NEUMANN.replace("— Peter", "— Pieter")).unwrap();
    assert_eq!(renamed.verify(&key), Err(NoteError::Unsigned));
}

#[test]
fn what_is_almost_a_note_is_refused() {
    let line = NEUMANN.lines().last().unwrap();
    for (bad, why) in [
        (String::new(), NoteError::Shape),
        ("text\n".to_owned(), NoteError::Shape),
        ("text\n\n".to_owned(), NoteError::Shape),
        (NEUMANN.trim_end().to_owned(), NoteError::Shape),
        (NEUMANN.replace("answer", "ans\twer"), NoteError::Shape),
        (NEUMANN.replace("answer", "ans\rwer"), NoteError::Shape),
        (NEUMANN.replace("— Peter", "- Peter"), NoteError::SignatureLine),
        (NEUMANN.replace("— Peter", "— Peter "), NoteError::SignatureLine),
        (NEUMANN.replace("nAM=", "nAM"), NoteError::SignatureLine),
        (NEUMANN.replace("nAM=", "nAN="), NoteError::SignatureLine),
        (NEUMANN.replace(line, "— PeterNeumann x08gow=="), NoteError::SignatureLine),
        (NEUMANN.replace(line, "—  x08go/ZJkg=="), NoteError::Name),
        (NEUMANN.replace("— Peter", "— Pe+ter"), NoteError::Name),
        (format!("{}{NEUMANN}", "x".repeat(NOTE_BYTES_MAX)), NoteError::TooLong),
        (
            format!("{NEUMANN}{}", format!("{line}\n").repeat(NOTE_SIGNATURES_MAX)),
            NoteError::TooLong,
        ),
    ] {
        assert_eq!(Note::parse(&bad), Err(why), "{bad:?}");
    }
    let most = format!("{NEUMANN}{}", format!("{line}\n").repeat(NOTE_SIGNATURES_MAX - 1));
    assert!(Note::parse(&most).is_ok(), "sixteen signatures are the least that a reader takes");
    const { assert!(NOTE_SIGNATURES_MAX > 16) };
}

#[test]
fn keys_that_were_mistyped_are_refused() {
    for (bad, why) in [
        ("", NoteError::Key),
        ("PeterNeumann", NoteError::Key),
        ("PeterNeumann+c74f20a3", NoteError::Key),
        ("PeterNeumann+c74f20a3+", NoteError::Key),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::KeyHash),
        ("PeterNewmann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::KeyHash),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::Name),
        ("a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::Name),
        ("PeterNeumann+c74f20a3+CRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::Key),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10", NoteError::Key),
    ] {
        assert_eq!(VerifierKey::parse(bad), Err(why), "{bad}");
    }
}

#[test]
fn a_cosignature_holds_for_its_text_time_and_key_only() {
    let (key, line) = CosignerKey::generate(KeyName::parse("w.example/1").unwrap()).unwrap();
    let again = CosignerKey::parse(&line).unwrap();
    assert_eq!(again.verifier(), key.verifier());
    assert_eq!(VerifierKey::parse(&key.verifier().to_string()), Ok(key.verifier()));
    assert_eq!(format!("{key:?}"), "CosignerKey(w.example/1, secret)");
    for bad in [&line[1..], &line[..line.len() - 4], &line.replace("w.example", "v.example")] {
        assert!(CosignerKey::parse(bad).is_err());
    }
    // A key that signs notes as such is no cosigner's.
    let seed = STANDARD.encode([1; 33]);
    assert_eq!(
        CosignerKey::parse(&format!("{PRIVATE}n+00000000+{seed}")).err(),
        Some(NoteError::Key)
    );

    let signature = key.sign("text\n", 1_679_315_147);
    let note = |text: &str, signature| Note::new(text.to_owned(), vec![signature]);
    assert_eq!(
        note("text\n", signature.clone()).verify(&key.verifier()).unwrap().timed().unwrap().0,
        1_679_315_147
    );
    assert!(note("test\n", signature.clone()).verify(&key.verifier()).is_err());
    for bit in 0..signature.bytes.len() * 8 {
        let mut other = signature.clone();
        other.bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = note("text\n", other).verify(&key.verifier()).map(|_| ());
        assert_eq!(verdict, Err(NoteError::Signature), "bit {bit}");
    }
    let plain = VerifierKey::new(
        key.verifier().name().clone(),
        SignatureKind::Ed25519,
        *key.verifier().public(),
    );
    assert_eq!(note("text\n", signature).verify(&plain).err(), Some(NoteError::Unsigned));
}

#[test]
fn a_time_beyond_what_the_specification_allows_is_no_time() {
    let (key, _) = CosignerKey::generate(KeyName::parse("w").unwrap()).unwrap();
    let late = key.sign("text\n", 1 << 63);
    let note = Note::new("text\n".to_owned(), vec![late]);
    assert_eq!(note.verify(&key.verifier()).map(|_| ()), Err(NoteError::Signature));
}
