//! Certificates and keys in files as people make them: what is wrong with one is said, with the file and what to do.

use std::process::Command;

use super::Desk;
use crate::harness::BINARY;

/// Runs openssl in the desk's directory.
fn openssl(desk: &Desk, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(desk.dir.path()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What is said of a service with these files.
fn said(desk: &Desk, certificate: &str, key: &str, ca: &str) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--validate", "--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", ca]);
    let output = command.current_dir(desk.dir.path()).env_clear().output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn each_mistake_in_a_file_is_named_with_what_to_do() {
    let desk = Desk::mk();
    let write = |name: &str, bytes: &[u8]| std::fs::write(desk.path(name), bytes).unwrap();
    let [certificate, key] = ["service.pem", "service.key"].map(|name| std::fs::read(desk.path(name)).unwrap());
    let (code, err) = said(&desk, "service.pem", "service.key", "people.pem");
    assert_eq!(code, Some(0), "{err}");

    for (name, bytes) in [("mark", &certificate), ("mark-key", &key)] {
        write(name, &[b"\xef\xbb\xbf", &bytes[..]].concat());
    }
    let utf16: Vec<u8> =
        String::from_utf8(certificate.clone()).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect();
    write("utf16", &[b"\xff\xfe", &utf16[..]].concat());
    write("empty", b"\n");
    write("words", b"certificate of the service\n");
    write("damaged", &[&certificate[..80], b"*", &certificate[80..]].concat());
    write("half", &certificate[..certificate.len() / 2]);
    openssl(&desk, &["x509", "-in", "service.pem", "-outform", "der", "-out", "cert.der"]);
    openssl(&desk, &["pkey", "-in", "service.key", "-outform", "der", "-out", "key.der"]);
    openssl(&desk, &["pkey", "-in", "service.key", "-aes256", "-passout", "pass:x", "-out", "encrypted"]);
    openssl(&desk, &["genrsa", "-traditional", "-aes128", "-passout", "pass:x", "-out", "encrypted-old", "2048"]);
    openssl(&desk, &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "other.key"]);
    let short = [
        "req",
        "-x509",
        "-newkey",
        "rsa:1024",
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        "short.key",
        "-out",
        "short.pem",
    ];
    openssl(&desk, &short);
    let curve = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:secp256k1",
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        "curve.key",
        "-out",
        "curve.pem",
    ];
    openssl(&desk, &curve);
    openssl(&desk, &["crl2pkcs7", "-nocrl", "-certfile", "service.pem", "-out", "bundle"]);

    for (certificate, key, ca, words) in [
        ("mark", "service.key", "people.pem", &["`mark`", "byte order mark"][..]),
        ("service.pem", "mark-key", "people.pem", &["`mark-key`", "byte order mark"]),
        ("service.pem", "service.key", "mark", &["`mark`", "byte order mark"]),
        ("utf16", "service.key", "people.pem", &["`utf16`", "UTF-16"]),
        ("empty", "service.key", "people.pem", &["`empty`", "is empty"]),
        ("service.pem", "empty", "people.pem", &["`empty`", "is empty"]),
        ("words", "service.key", "people.pem", &["`words`", "-----BEGIN CERTIFICATE-----"]),
        ("damaged", "service.key", "people.pem", &["`damaged`", "damaged certificate"]),
        ("half", "service.key", "people.pem", &["`half`", "damaged certificate"]),
        ("cert.der", "service.key", "people.pem", &["`cert.der`", "is DER", "openssl x509 -inform der"]),
        ("service.pem", "key.der", "people.pem", &["`key.der`", "is DER", "openssl pkey -inform der"]),
        ("service.pem", "encrypted", "people.pem", &["`encrypted`", "encrypted", "openssl pkey -in"]),
        ("service.pem", "encrypted-old", "people.pem", &["`encrypted-old`", "encrypted", "openssl pkey -in"]),
        ("service.key", "service.key", "people.pem", &["`service.key`", "a private key in it", "exchanged"]),
        ("service.pem", "service.pem", "people.pem", &["`service.pem`", "a certificate in it", "exchanged"]),
        ("service.pem", "service.key", "service.key", &["`service.key`", "a private key in it"]),
        ("bundle", "service.key", "people.pem", &["`bundle`", "PKCS #7"]),
        ("service.pem", "other.key", "people.pem", &["`service.pem`", "`other.key` is another one's"]),
        ("short.pem", "short.key", "people.pem", &["`short.pem`", "1024 bits", "2048", "openssl genpkey"]),
        ("curve.pem", "curve.key", "people.pem", &["`curve.pem`", "P-256"]),
        ("no-such.pem", "service.key", "people.pem", &["`no-such.pem`", "cannot be read"]),
    ] {
        let (code, err) = said(&desk, certificate, key, ca);
        assert_eq!(code, Some(1), "{certificate} {key} {ca}: {err}");
        let missing: Vec<_> = words.iter().filter(|words| !err.contains(**words)).collect();
        assert!(missing.is_empty(), "{certificate} {key} {ca}: {missing:?} not in {err}");
    }
}
