//! The command line as operators and their scripts use it, with mistakes in it.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{BINARY, CREATED, Service, mk_journal, nth};

const ORDER: &str = r#"
order_id = "order"
instrument = "court_order"
issuing_authority = "A court"
legal_basis = ["An act, s. 1"]
external_ref = "12/2021"

[territory]
countries = ["IN", "BR"]
"#;

/// A service and a directory for an operator's files.
struct Desk {
    service: Service,
    dir: tempfile::TempDir,
}

/// How a command ended: exit code, standard output, standard error.
type Ended = (i32, String, String);

impl Desk {
    async fn open() -> Self {
        let (dir, journal) = mk_journal();
        Self { service: Service::start(&journal).await, dir }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Ended {
        let output = self.service.cli(args);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn apply(&self, order: &str, list: &str) -> Ended {
        let (order, list) = (self.file("order.toml", order), self.file("list.csv", list));
        self.run(&["order", "apply", "--file", shown(&order), "--items", shown(&list), "--yes"])
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_previewed_applied_asked_about_and_lifted() {
    let desk = Desk::open().await;
    let (order, list) =
        (desk.file("order.toml", ORDER), desk.file("list.csv", "locator_type,locator\naccount_id,7\nhandle,@x\n"));
    let files = ["--file", shown(&order), "--items", shown(&list)];
    let (code, out, _) = desk.run(&[&["order", "preview"], files.as_slice()].concat());
    assert_eq!(code, 0);
    assert!(out.contains("nothing has been changed") && out.contains("1 account and 0 posts would go dark"), "{out}");
    assert!(out.contains("@x") && out.contains("ask for the account's id"), "{out}");
    // Nobody is at a terminal to be asked.
    let (code, _, err) = desk.run(&[&["order", "apply"], files.as_slice()].concat());
    assert_eq!(code, 2);
    assert!(err.contains("--yes"), "{err}");
    let (code, out, _) = desk.run(&["check", "IN", "7"]);
    assert_eq!((code, out.contains("0 of 1 withheld in IN")), (0, true), "{out}");

    let (code, out, _) = desk.run(&[&["order", "apply", "--yes"], files.as_slice()].concat());
    assert_eq!((code, out.contains(&format!("order order is in force at revision {}", nth(1)))), (0, true), "{out}");
    let (code, out, _) = desk.run(&[&["order", "apply", "--yes"], files.as_slice()].concat());
    assert_eq!(
        (code, out.contains(&format!("was applied before, at revision {}; nothing was changed", nth(1)))),
        (0, true),
        "{out}"
    );
    let (_, out, _) = desk.run(&["check", "BR", "7", "8"]);
    assert!(out.contains("1 of 2 withheld in BR"), "{out}");
    let (_, out, _) = desk.run(&["countries", "7"]);
    assert!(out.contains("BR, IN"), "{out}");
    let (_, out, _) = desk.run(&["explain", "7", "--country", "IN"]);
    assert!(out.contains("account 7 was withheld in IN"), "{out}");
    let (_, out, _) = desk.run(&["explain", "9"]);
    assert!(out.contains("no order ever named account 9"), "{out}");

    let (code, _, err) = desk.run(&["order", "lift", "order", "--yes"]);
    assert_eq!((code, err.contains("--reason")), (2, true), "{err}");
    let note = ["order", "note", "order", "--kind", "meeting", "--text", "they met", "--at", "2021-02-03T10:00:00Z"];
    assert_eq!(desk.run(&note).0, 0);
    let (code, out, _) = desk.run(&["order", "lift", "order", "--reason", "withdrawn", "--yes"]);
    assert_eq!(code, 0);
    assert!(out.contains(&format!("lifted at revision {}: 1 account and 0 posts visible again", nth(3))), "{out}");
    let (_, out, _) = desk.run(&["order", "show", "order"]);
    for said in ["lifted", "meeting — they met", "withdrawn", "12/2021", "desk@example.org"] {
        assert!(out.contains(said), "`{said}` is missing:\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_two_is_proposed_by_one_and_approved_or_rejected_by_another() {
    let desk = Desk::open().await;
    let worldwide = ORDER.replace("countries = [\"IN\", \"BR\"]", "worldwide = true");
    let (order, list) = (desk.file("order.toml", &worldwide), desk.file("list.csv", "7\n8\n"));
    let files = ["--file", shown(&order), "--items", shown(&list)];
    let (code, out, _) = desk.run(&[&["order", "preview"], files.as_slice()].concat());
    assert_eq!((code, out.contains("it takes two (worldwide)")), (0, true), "{out}");
    let (code, out, _) = desk.run(&[&["order", "apply", "--yes"], files.as_slice()].concat());
    assert_eq!(code, 0);
    let pending = format!("order order is pending approval at revision {}", nth(1));
    for said in ["to say `withheld order approve order`", &pending] {
        assert!(out.contains(said), "{out}");
    }
    let (_, out, _) = desk.run(&[&["order", "apply", "--yes"], files.as_slice()].concat());
    assert!(
        out.contains(&format!("order order was proposed before, at revision {}; nothing was changed", nth(1))),
        "{out}"
    );
    let (code, _, err) = desk.run(&["order", "approve", "order", "--yes"]);
    assert_eq!((code, err.contains("nobody approves their own")), (1, true), "{err}");
    let (_, out, _) = desk.run(&["order", "due"]);
    assert!(out.contains("approve or reject") && out.contains("pending approval"), "{out}");
    // Without a yes nothing is approved, and the question says what it is about.
    let second = ["--actor", "second@example.org"];
    let approve = [&second, ["order", "approve"].as_slice(), &["order"]].concat();
    let (code, said) = at_a_terminal(&desk, &approve, "n\n");
    assert_eq!(
        (code, said.contains("put order order into force? 2 accounts and 0 posts would go dark worldwide")),
        (1, true),
        "{said}"
    );
    assert!(desk.run(&["check", "US", "7"]).1.contains("0 of 1"));
    let (code, said) = at_a_terminal(&desk, &approve, "y\n");
    assert_eq!(
        (
            code,
            said.contains(&format!("order order approved at revision {}: 2 accounts and 0 posts gone dark", nth(2)))
        ),
        (0, true),
        "{said}"
    );
    let (_, out, _) = desk.run(&["check", "US", "7", "8"]);
    assert!(out.contains("2 of 2 withheld in US"), "{out}");
    let (_, out, _) = desk.run(&["order", "show", "order"]);
    for said in ["approved by second@example.org", "proposed by", "worldwide"] {
        assert!(out.contains(said), "`{said}` is missing:\n{out}");
    }
    let shown_json = desk.service.cli_json(&["order", "show", "order"]);
    assert_eq!(shown_json["approval"]["state"], "approved");
    assert_eq!(shown_json["approval"]["decided_revision"], nth(2).to_string());

    // Another one is rejected; its id stays taken, and that is said.
    let again = desk.file("again.toml", &worldwide.replace("\"order\"", "\"again\""));
    let files = ["order", "apply", "--yes", "--file", shown(&again), "--items", shown(&list)];
    assert_eq!(desk.run(&files).0, 0);
    let (code, _, err) = desk.run(&["order", "reject", "again", "--yes"]);
    assert_eq!((code, err.contains("--reason")), (2, true), "{err}");
    let reject = [&second, ["order", "reject", "again", "--reason", "too wide", "--yes"].as_slice()].concat();
    let (code, out, _) = desk.run(&reject);
    assert_eq!((code, out.contains(&format!("order again rejected at revision {}", nth(4)))), (0, true), "{out}");
    let (code, _, err) = desk.run(&files);
    assert_eq!(
        (code, err.contains(&format!("is rejected, at revision {}, and its order_id stays taken", nth(4)))),
        (1, true),
        "{err}"
    );
    let (_, out, _) = desk.run(&["order", "list", "--state", "rejected"]);
    assert!(out.contains("again") && out.contains("1 order"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_programs_read_is_json_with_ids_as_strings() {
    let desk = Desk::open().await;
    assert_eq!(desk.apply(ORDER, "18446744073709551615\n").0, 0);
    let check = desk.service.cli_json(&["check", "IN", "18446744073709551615", "5"]);
    assert_eq!(check["verdicts"][0]["account_id"], "18446744073709551615");
    assert_eq!(check["verdicts"][0]["withheld"], true);
    assert_eq!(
        check["verdicts"][1],
        json!({"account_id": "5", "withheld": false, "basis": null, "notice_key": null,
        "public_notice_url": null, "valid_until": null})
    );
    assert_eq!(check["freshness"]["revision"], nth(1).to_string());
    let countries = desk.service.cli_json(&["countries", "18446744073709551615"]);
    assert_eq!(countries["subjects"][0]["withheld_in_countries"], json!(["BR", "IN"]));
    let items = desk.service.cli_json(&["order", "items", "order"]);
    assert_eq!(items["items"][0]["subject"]["account_id"], "18446744073709551615");
    let list = desk.service.cli_json(&["order", "list", "--state", "in_force", "--country", "BR"]);
    assert_eq!((list["orders"][0]["order_id"].as_str(), &list["more"]), (Some("order"), &json!(false)));
    let explain = desk.service.cli_json(&["explain", "18446744073709551615"]);
    assert_eq!(explain["orders"][0]["withheld_then"], true);
    // An error is JSON too, on standard error, with the reason that programs go by.
    let (code, out, err) = desk.run(&["--output", "json", "order", "show", "no-such"]);
    let error: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!((code, out.as_str(), error["reason"].as_str()), (1, "", Some("ORDER_NOT_FOUND")));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_files_are_named_and_change_nothing() {
    let desk = Desk::open().await;
    let order = |from: &str, to: &str| ORDER.replace(from, to);
    for (what, order, list, code, says) in [
        ("no TOML", "order_id = ".to_owned(), "7\n", 2, "line 1"),
        ("an unknown field", order("external_ref", "externel_ref"), "7\n", 2, "externel_ref"),
        ("an unknown instrument", order("court_order", "letter"), "7\n", 2, "court_order"),
        (
            "a time without its offset",
            order("external_ref = \"12/2021\"", "issued_at = 2021-02-04T18:00:00"),
            "7\n",
            2,
            "issued_at",
        ),
        ("no territory", order("countries = [\"IN\", \"BR\"]", ""), "7\n", 2, "territory"),
        ("an unknown country", order("\"BR\"", "\"QQ\""), "7\n", 1, "`QQ`"),
        ("an unknown regime", order("external_ref = \"12/2021\"", "regime = \"in-69b\""), "7\n", 1, "in-69a"),
        (
            "a wrong count",
            order("external_ref = \"12/2021\"", "specified_items = 3"),
            "7\n8\n",
            1,
            "states `3` items, the list has `2`",
        ),
        (
            "an end before the start",
            order("external_ref = \"12/2021\"", "expires_at = 2021-02-04T18:00:00Z"),
            "7\n",
            1,
            "2021-02-04T18:00:00Z",
        ),
        ("an empty list", ORDER.to_owned(), "", 2, "has no items"),
        ("a list of blank lines", ORDER.to_owned(), "\n\n  \n", 2, "has no items"),
        ("columns in the wrong order", ORDER.to_owned(), "locator_type,id\naccount_id,7\n", 2, "none called `locator`"),
    ] {
        let (ended, out, err) = desk.apply(&order, list);
        assert_eq!(ended, code, "{what}: {out}{err}");
        assert!(err.starts_with("error: ") && err.contains(says), "{what}: {err}");
    }
    let (order, missing) = (desk.file("order.toml", ORDER), desk.dir.path().join("no-such.csv"));
    let (code, _, err) = desk.run(&["order", "apply", "--file", shown(&order), "--items", shown(&missing), "--yes"]);
    assert_eq!((code, err.contains("no-such.csv")), (2, true), "{err}");
    assert_eq!(desk.service.cli_json(&["check", "IN", "7"])["freshness"]["revision"], CREATED.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_at_the_prompt_are_named() {
    let desk = Desk::open().await;
    for (args, code, says) in [
        (["check", "in", "7"].as_slice(), 1, "write `IN` for `in`"),
        (&["check", "QQ", "7"], 1, "`QQ`"),
        (&["check", "IN", "seven"], 2, "digits"),
        (&["check", "IN", "0"], 2, "`0` is not an id"),
        (&["check", "IN", "1e18"], 2, "last digits"),
        (&["check", "IN"], 2, "at least one account or post"),
        (&["order", "lift", "no-such", "--reason", "why", "--yes"], 1, "there is no order `no-such`"),
        (&["order", "lift", "a b", "--reason", "why", "--yes"], 1, "` ` is not allowed"),
        (&["order", "list", "--state", "running"], 2, "in_force"),
        (&["order", "note", "order", "--kind", "mail", "--text", "x"], 2, "meeting"),
        (&["explain", "7", "--at", "yesterday"], 2, "--at"),
        (&["explain", "7", "--at", "2021-02-05"], 2, "like 2021-02-05T12:00:00Z"),
        (&["explain", "7", "--at", "2999-01-01T00:00:00Z"], 1, "still to come"),
        (&["ordre", "list"], 2, "order"),
        (&["journal", "verify", "--journal", "sqlite:no/such/file"], 2, "there is no journal"),
        (&["--endpoint", "http://127.0.0.1:1", "check", "IN", "7"], 1, "is it running"),
        (&["--endpoint", "not a url", "check", "IN", "7"], 2, "https://HOST:PORT"),
        (&["--endpoint", "https://127.0.0.1:1", "check", "IN", "7"], 1, "does it speak TLS"),
        (&["--endpoint", &desk.service.admin, "check", "IN", "7"], 1, "are the two mixed up?"),
        (&["--admin-endpoint", &desk.service.queries, "order", "list"], 1, "are the two mixed up?"),
        (&["--timeout", "-1s", "check", "IN", "7"], 2, "negative"),
    ] {
        let (ended, out, err) = desk.run(args);
        assert_eq!((ended, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
    let (code, out, _) = desk.run(&["healthcheck"]);
    assert_eq!((code, out.as_str()), (0, "SERVING\n"));
    assert_eq!(desk.run(&["healthcheck", "--service", "no.such.Service"]).0, 1);
}

/// Runs a command at a terminal at which somebody types; what the command says comes out of the terminal.
fn at_a_terminal(desk: &Desk, args: &[&str], typed: &str) -> (i32, String) {
    const SPAWN: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut child = Command::new("python3")
        .args(["-c", SPAWN, BINARY])
        .args(args)
        .env("WITHHELD_ENDPOINT", &desk.service.queries)
        .env("WITHHELD_ADMIN_ENDPOINT", &desk.service.admin)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept open until the command has ended: the end of input is an answer, too.
    let mut keyboard = child.stdin.take().unwrap();
    keyboard.write_all(typed.as_bytes()).unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_and_nothing_reported_as_done_without_a_yes() {
    let desk = Desk::open().await;
    let (order, list) = (desk.file("order.toml", ORDER), desk.file("list.csv", "7\n"));
    let apply = ["order", "apply", "--file", shown(&order), "--items", shown(&list)];
    for typed in ["n\n", "\n", "ja\n", "\u{4}"] {
        let (code, said) = at_a_terminal(&desk, &apply, typed);
        assert_eq!((code, said.contains("nothing was changed")), (1, true), "{typed:?}: {said}");
        assert!(said.contains("put order order into force? 1 account and 0 posts would go dark (BR:"), "{said}");
    }
    assert_eq!(desk.service.cli_json(&["check", "IN", "7"])["freshness"]["revision"], CREATED.to_string());
    let stay = ["order", "stay", "order", "--reason", "why"];
    for (typed, args, revision) in [("YES\n", apply.as_slice(), nth(1)), ("y\n", &stay, nth(2))] {
        let (code, said) = at_a_terminal(&desk, args, typed);
        assert_eq!((code, said.contains(&format!("at revision {revision}"))), (0, true), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_which_item_it_is_about() {
    let desk = Desk::open().await;
    assert_eq!(desk.apply(ORDER, "7\n8\n").0, 0);
    for (list, says) in [("7\n99\n", ["items[line 2]: "].as_slice()), ("98\n99\n", &["[line 1]: ", "[line 2]: "])] {
        let list = desk.file("list.csv", list);
        let lift = ["order", "lift-items", "order", "--items", shown(&list), "--reason", "why", "--yes"];
        let (code, _, err) = desk.run(&lift);
        assert_eq!((code, err.contains("nothing is lifted")), (1, true), "{err}");
        assert!(says.iter().all(|line| err.contains(line)), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_protected_from_a_list_and_bad_lines_are_all_named() {
    let desk = Desk::open().await;
    let good = desk.file("good.csv", "\u{feff}account_id,category\n7,journalist\n8,news_media\n");
    let (code, out, _) = desk.run(&["protect", "add", "--file", shown(&good)]);
    assert_eq!(
        (code, out.as_str()),
        (0, format!("protected: 2 added, 0 moved, 0 there before; at revision {}\n", nth(1)).as_str())
    );
    let bad = desk.file("bad.csv", "account_id,category\n9,journalist\nx,journalist\n10,poet\n0,activist\n");
    let (code, _, err) = desk.run(&["protect", "add", "--file", shown(&bad)]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("line 3") && err.contains("line 5") && !err.contains("line 2"), "{err}");
    let list = desk.service.cli_json(&["protect", "list"]);
    assert_eq!(list["accounts"].as_array().unwrap().len(), 2);
    let (code, out, _) = desk.run(&["protect", "remove", "--file", shown(&good), "--reason", "a mistake"]);
    assert_eq!((code, out.contains("2 removed")), (0, true), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_each_change_as_a_line() {
    use std::io::{BufRead as _, BufReader};
    let desk = Desk::open().await;
    let mut watch = Command::new(BINARY)
        .args(["watch", "--output", "json"])
        .env("WITHHELD_ENDPOINT", &desk.service.queries)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap().unwrap()).unwrap();
    desk.apply(ORDER, "7\n");
    let change = next();
    assert_eq!((&change["account_id"], &change["withheld_in_countries"]), (&json!("7"), &json!(["BR", "IN"])));
    desk.run(&["order", "stay", "order", "--reason", "the court said so", "--yes"]);
    assert_eq!(next()["withheld_in_countries"], json!([]));
    desk.run(&["order", "resume", "order", "--reason", "the court said so", "--yes"]);
    assert_eq!(next()["withheld_in_countries"], json!(["BR", "IN"]));
    // A program that is stopped amid a revision's lines is not to resume after that revision.
    desk.run(&["order", "lift", "order", "--reason", "over", "--yes"]);
    next();
    desk.apply(&ORDER.replace("\"order\"", "\"two\""), "8\n9\n");
    let resume_after = [next(), next()].map(|line| line["resume_after_revision"].clone());
    assert_eq!(resume_after, [nth(4), nth(5)].map(|revision| json!(revision.to_string())));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn there_are_completions_and_help_for_every_command() {
    let run = |args: &[&str]| Command::new(BINARY).args(args).output().unwrap();
    for (shell, looks) in [("bash", "complete -F"), ("zsh", "#compdef withheld"), ("fish", "complete -c withheld")] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains(looks), "{shell}");
    }
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for command in ["serve", "order", "check", "countries", "explain", "watch", "protect", "journal", "healthcheck"] {
        assert!(help.contains(command), "{help}");
        let output = run(&[command, "--help"]);
        assert!(output.status.success() && output.stderr.is_empty());
    }
    let version = run(&["--version"]).stdout;
    assert_eq!(version, format!("withheld {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
}
