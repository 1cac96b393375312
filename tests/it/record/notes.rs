//! Signed notes: the form that other tools know, by examples that are theirs.

use std::os::unix::fs::PermissionsExt as _;

use withheld::audit::note::{KeyError, Note, NoteError, SigningKey, VerifierKey, sign};

use super::{auditor, ended, new_key, withheld};

/// From the documentation of golang.org/x/mod/sumdb/note.
const SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNATURE: &str =
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn vkey() -> VerifierKey {
    VKEY.parse().unwrap()
}

#[test]
fn keys_and_notes_are_those_of_other_tools() {
    let key: SigningKey = SKEY.parse().unwrap();
    assert_eq!((key.verifier().to_string().as_str(), key.secret().as_str()), (VKEY, SKEY));
    let note = format!("{TEXT}\n{SIGNATURE}");
    assert_eq!(sign(TEXT, &[key]), note);
    let parsed: Note = note.parse().unwrap();
    assert_eq!(parsed.text(), TEXT);
    assert_eq!(parsed.verify(&[vkey()]).unwrap().name(), "PeterNeumann");
    // And for the program that auditors are given.
    let check = "import runpy, sys
v = runpy.run_path(sys.argv[1])
name, key_id, public = v['verifier'](sys.argv[2])
text, line = sys.argv[3].encode(), v['unbase64'](sys.argv[4].split()[2])
assert line[:4] == key_id and v['signed'](public, text, line[4:])
assert not v['signed'](public, text + b'.', line[4:])
assert not v['signed'](public, text, line[4:-1] + bytes([line[-1] ^ 1]))
print(name)";
    let mut python = std::process::Command::new("python3");
    let (code, out, err) = ended(python.args(["-c", check]).arg(auditor()).args([VKEY, TEXT, SIGNATURE]));
    assert_eq!((code, out.as_str()), (0, "PeterNeumann\n"), "{err}");
}

#[test]
fn a_signature_counts_if_a_trusted_key_made_it_and_not_otherwise() {
    let (one, other) = (SigningKey::generate("log").unwrap(), SigningKey::generate("log").unwrap());
    let (trusted, stranger) = (one.verifier().clone(), vkey());
    let both: Note = sign("a\n", &[other, one]).parse().unwrap();
    assert_eq!(both.verify(std::slice::from_ref(&trusted)).unwrap(), &trusted);
    let Err(NoteError::Untrusted(by)) = both.verify(&[stranger]) else { panic!("nobody is trusted") };
    assert_eq!(by.matches("`log+").count(), 2, "{by}");
    assert!(matches!(both.verify(&[]), Err(NoteError::Untrusted(_))));
    // A trusted key's name over something else is worse than no signature.
    let bent: Note = format!("{}\n{SIGNATURE}", TEXT.replace("problem is", "problem was")).parse().unwrap();
    assert_eq!(bent.verify(&[vkey()]), Err(NoteError::BadSignature("PeterNeumann".to_owned())));
}

#[test]
fn what_is_no_note_and_no_key_is_told_why() {
    for (note, why) in [
        (String::new(), "empty line"),
        (TEXT.to_owned(), "empty line"),
        (format!("{TEXT}\n"), "last line"),
        (format!("{TEXT}\n{}", SIGNATURE.trim_end()), "last line"),
        (format!("{TEXT}\n{}", SIGNATURE.replace('—', "-")), "no signature"),
        (format!("{TEXT}\n{}", SIGNATURE.replace("AM=", "AN=")), "no signature"),
        (format!("{TEXT}\r\n{SIGNATURE}"), "control characters"),
        (format!("{TEXT}\n{}", SIGNATURE.repeat(101)), "more than a hundred"),
    ] {
        let error = note.parse::<Note>().unwrap_err().to_string();
        assert!(error.contains(why), "{note}: {error}");
    }
    for (key, error) in [
        (SKEY, KeyError::Secret),
        ("PeterNeumann", KeyError::Verifier("PeterNeumann".to_owned())),
        (&VKEY.replace("c74f20a3", "c74f20a4"), KeyError::Hash("PeterNeumann".to_owned())),
        (&VKEY.replace("+ARpc", "+ARpd"), KeyError::Hash("PeterNeumann".to_owned())),
        (&VKEY.replace("+ARpc", "+AhpC"), KeyError::Verifier(VKEY.replace("+ARpc", "+AhpC"))),
    ] {
        assert_eq!(key.parse::<VerifierKey>(), Err(error), "{key}");
    }
    let error = SKEY.replace("c74f20a3", "c74f20a4").parse::<SigningKey>().unwrap_err();
    assert!(!error.to_string().contains("AYEKF"), "{error}");
    assert_eq!(VKEY.parse::<SigningKey>().unwrap_err(), KeyError::Signing);
    for name in ["", "two words", "a+b", "line\n"] {
        assert_eq!(SigningKey::generate(name).unwrap_err(), KeyError::Name(name.to_owned()));
    }
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let shown = file.to_str().unwrap();
    let vkey = new_key(&file);
    let secret = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(secret.parse::<SigningKey>().unwrap().verifier(), &vkey.parse().unwrap());
    assert_eq!(withheld(&["journal", "key", "show", shown]), (0, format!("{vkey}\n"), String::new()));
    let (code, _, err) = withheld(&["journal", "key", "new", "other", "--out", shown]);
    assert_eq!((code, err.contains("is there already"), std::fs::read_to_string(&file).unwrap()), (2, true, secret));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = withheld(&["journal", "key", "show", shown]);
    assert_eq!((code, err.contains("chmod 600")), (1, true), "{err}");
    let (code, _, err) = withheld(&["journal", "key", "new", "two words"]);
    assert_eq!((code, err.contains("`two words` cannot name a key")), (2, true), "{err}");
}
