//! Flags, environment, file and defaults; what is said of mistakes; and what a running service takes up from its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{BINARY, Service, mk_accounts, mk_apply, mk_journal, mk_order, refusal};
use crate::redis::until;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/withheld.toml");
const REGIMES: &str = include_str!("../../data/regimes.toml");

/// A directory with a file of settings in it.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program, in this directory, in an environment of its own.
    fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.0.path()).env_clear();
        command
    }

    /// How a program ends: exit code, standard output, standard error.
    fn ended(&self, command: &mut Command) -> (i32, String, String) {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Value and source of each setting that would be in force.
    fn in_force(&self, command: &mut Command) -> BTreeMap<String, (Option<String>, String)> {
        let (_, out, err) = self.ended(command.args(["--validate", "--output", "json"]));
        let said: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let settings = said["settings"].as_array().unwrap().iter();
        settings.map(|s| (text(&s["name"]).unwrap(), (text(&s["value"]), text(&s["source"]).unwrap()))).collect()
    }
}

#[test]
fn flags_outrank_the_environment_and_that_the_file_and_that_the_defaults() {
    let dir = Dir::new();
    dir.write("all.toml", "max_batch = 3\ndrain = '30s'\nlisten = '127.0.0.1:3'\nserve-from-snapshot = true\n");
    let mut serve = dir.program(&["serve", "--config", "all.toml", "--max-batch", "1"]);
    let found = dir.in_force(serve.env("WITHHELD_MAX_BATCH", "2").env("WITHHELD_DRAIN", "25s"));
    for (name, value, source) in [
        ("max-batch", Some("1"), "flag"),
        ("drain", Some("25s"), "environment"),
        ("listen", Some("127.0.0.1:3"), "file"),
        ("serve-from-snapshot", Some("true"), "file"),
        ("stale-after", Some("5s"), "default"),
        ("max-staleness", None, "default"),
    ] {
        assert_eq!(found[name], (value.map(str::to_owned), source.to_owned()), "{name}");
    }
    // The file may be named by the environment, and a flag can say no.
    let mut serve = dir.program(&["serve", "--serve-from-snapshot=false"]);
    let found = dir.in_force(serve.env("WITHHELD_CONFIG", "all.toml"));
    assert_eq!(found["serve-from-snapshot"].0.as_deref(), Some("false"));
    assert_eq!(found["max-batch"], (Some("3".to_owned()), "file".to_owned()));
}

#[test]
fn rust_log_is_a_second_name_of_the_log_level() {
    let dir = Dir::new();
    dir.write("log.toml", "log-level = 'warn'\n");
    for (flag, own, other, level) in [
        (Some("error"), Some("debug"), Some("trace"), "error"),
        (None, Some("debug"), Some("trace"), "debug"),
        (None, None, Some("trace"), "trace"),
        (None, None, Some(""), "warn"),
        (None, None, None, "warn"),
    ] {
        let mut serve = dir.program(&["serve", "--config", "log.toml"]);
        flag.map(|level| serve.args(["--log-level", level]));
        own.map(|level| serve.env("WITHHELD_LOG_LEVEL", level));
        other.map(|level| serve.env("RUST_LOG", level));
        assert_eq!(dir.in_force(&mut serve)["log-level"].0.as_deref(), Some(level), "{flag:?} {own:?} {other:?}");
    }
}

#[test]
fn mistakes_in_the_file_are_all_named_with_a_hint_and_without_secrets() {
    let dir = Dir::new();
    for (text, says) in [
        ("max-stalenes = '30s'", &["`max-stalenes`", "did you mean `max-staleness`?"][..]),
        ("max_stalenes = '30s'", &["did you mean `max-staleness`?"]),
        ("colour = 'red'", &["`colour`", "withheld serve --help"]),
        ("config = 'other.toml'", &["`config` is not a setting"]),
        ("endpoint = 'http://h:1'", &["`endpoint` is not a setting"]),
        ("[redis]\nuser = 'x'", &["`redis`", "did you mean `redis-user`?"]),
        ("max-batch = 0", &["`max-batch`", "`0`", "1..=100000"]),
        ("max-batch = 1\nmax_batch = 2", &["`max_batch`", "twice"]),
        ("stale-after = 5", &["`stale-after`", "`5`", "90s"]),
        ("drain = 1.5", &["`drain`", "float"]),
        ("drain = ''", &["`drain`", "leave the setting out"]),
        ("unknown-viewer = 'lenient'", &["`unknown-viewer`", "`lenient`", "worldwide-only, strict"]),
        ("serve-from-snapshot = 'maybe'", &["`serve-from-snapshot`", "`maybe`", "true, false"]),
        ("log-level = 'inof'", &["`log-level`", "`inof` is no level"]),
        ("journal = 'redsi://desk:hunter2@h'", &["`journal`", "redis://HOST:PORT"]),
        ("redis-password = ['hunter2']", &["`redis-password`", "array"]),
        ("drain = '3s'\nredis-password = 'hunter2", &["line 2"]),
        ("redis-cert = 'c.pem'", &["`redis-cert` is set and `redis-key` is not"]),
        ("max-batch = 0\nlissten = 'x'", &["max-batch", "lissten"]),
    ] {
        dir.write("bad.toml", text);
        let (code, out, err) = dir.ended(&mut dir.program(&["serve", "--config", "bad.toml"]));
        assert_eq!((code, out.as_str()), (1, ""), "{text}: {err}");
        assert!(says.iter().all(|said| err.contains(said)) && !err.contains("hunter2"), "{text}: {err}");
        let (code, _, err) = dir.ended(&mut dir.program(&["serve", "--config", "bad.toml", "--output", "json"]));
        let error: Value = serde_json::from_str(&err).unwrap_or_else(|_| panic!("{err}"));
        assert_eq!((code, error["reason"].as_str()), (1, Some("CONFIGURATION")), "{err}");
    }
    let (code, _, err) = dir.ended(&mut dir.program(&["serve", "--config", "no-such.toml"]));
    assert_eq!((code, err.contains("`no-such.toml` cannot be read")), (1, true), "{err}");
    // Nor does a slip in the environment show what it must not.
    let mut serve = dir.program(&["serve"]);
    let (code, _, err) = dir.ended(serve.env("WITHHELD_JOURNAL", "redsi://desk:hunter2@h"));
    assert_eq!((code, err.contains("redsi://***@h"), err.contains("hunter2")), (2, true, false), "{err}");
}

#[test]
fn validating_starts_nothing_and_names_every_file_that_is_wrong() {
    let dir = Dir::new();
    let (code, out, err) = dir.ended(&mut dir.program(&["serve", "--validate"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("max-staleness") && out.contains("sqlite:withheld-data/journal.db"), "{out}");
    assert_eq!(std::fs::read_dir(dir.0.path()).unwrap().count(), 0, "nothing is made");

    dir.write("groups.toml", "[[group]]\ncode = 'EU'\nversion = '1'\ncountries = ['QQ']\n");
    let flags = ["serve", "--validate", "--journal", "rediss://h", "--redis-ca", "no-such.pem"];
    for (data, says) in [("groups", "`QQ`"), ("links", "no-such.toml")] {
        let (flag, file) = (format!("--{data}"), if data == "groups" { "groups.toml" } else { "no-such.toml" });
        let flags = [flags.as_slice(), &[flag.as_str(), file, "--output", "json"]].concat();
        let (code, out, _) = dir.ended(&mut dir.program(&flags));
        let said: Value = serde_json::from_str(&out).unwrap();
        let problems = said["problems"].to_string();
        assert_eq!((code, &said["valid"]), (1, &Value::Bool(false)));
        assert!(problems.contains(says) && problems.contains("no-such.pem"), "{problems}");
    }
}

#[test]
fn a_variable_that_nothing_reads_is_named_with_what_was_probably_meant() {
    let dir = Dir::new();
    let mut serve = dir.program(&["serve", "--validate"]);
    let (code, _, err) =
        dir.ended(serve.env("WITHHELD_MAX_STALENES", "secret").env("WITHHELD_ACTOR", "me").env("WITHHELD_XYZ", ""));
    assert_eq!(code, 0);
    assert!(err.contains("`WITHHELD_MAX_STALENES`") && err.contains("did you mean `WITHHELD_MAX_STALENESS`?"), "{err}");
    assert!(err.contains("`WITHHELD_XYZ`") && !err.contains("WITHHELD_ACTOR") && !err.contains("secret"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_after_the_journal_takes_the_journal_from_the_same_file() {
    let (dir, journal) = mk_journal();
    Service::start(&journal).await.stop();
    let dir = Dir(dir);
    dir.write("all.toml", "journal = 'sqlite:journal.db'\nmax-batch = 7\nlog-format = 'json'\n");
    let (code, out, err) = dir.ended(&mut dir.program(&["journal", "verify", "--config", "all.toml"]));
    assert_eq!((code, out.contains("is whole: 1 entries")), (0, true), "{err}");
    // What only `serve` knows is not taken, but a slip in it is still one.
    dir.write("all.toml", "journal = 'sqlite:journal.db'\nmax-bach = 7\n");
    let (code, _, err) = dir.ended(&mut dir.program(&["journal", "verify", "--config", "all.toml"]));
    assert_eq!((code, err.contains("did you mean `max-batch`?")), (1, true), "{err}");
}

#[test]
fn settings_that_make_one_another_meaningless_are_refused() {
    let dir = Dir::new();
    let tls = ["--tls-cert", "c.pem", "--tls-key", "k.pem"];
    for listener in ["client-cert", "admin-client-cert", "http-client-cert"] {
        let required = [&format!("--{listener}") as &str, "required"];
        for flags in [required.to_vec(), [&required[..], &tls].concat()] {
            let flags = [&["serve", "--validate"][..], &flags].concat();
            let (code, _, err) = dir.ended(&mut dir.program(&flags));
            assert!(code == 1 && err.contains(&format!("`{listener}` is required")), "{flags:?}: {code} {err}");
            assert!(err.contains("`tls-client-ca`"), "{err}");
        }
    }
    let port = |flag, other| ["serve", "--validate", flag, "127.0.0.1:7001", other, "127.0.0.1:7001"];
    for flags in
        [port("--listen", "--admin-listen"), port("--listen", "--http-listen"), port("--admin-listen", "--http-listen")]
    {
        let (code, _, err) = dir.ended(&mut dir.program(&flags));
        assert!(code == 1 && err.contains("are both 127.0.0.1:7001"), "{flags:?}: {code} {err}");
    }
    let (code, _, err) =
        dir.ended(&mut dir.program(&["serve", "--validate", "--listen", "[::1]:0", "--admin-listen", "[::1]:0"]));
    assert_eq!(code, 0, "a port that the system chooses is each its own: {err}");
}

/// Every setting that takes effect on SIGHUP says so in the help and in the example, and no other does.
#[test]
fn what_is_reloadable_is_said_to_be_everywhere() {
    let dir = Dir::new();
    let (code, help, err) = dir.ended(&mut dir.program(&["serve", "--help"]));
    assert_eq!(code, 0, "{err}");
    let (mut helps, mut flag) = (BTreeMap::<String, String>::new(), String::new());
    for line in help.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("--") {
            flag = name.split([' ', '[']).next().unwrap().to_owned();
        }
        helps.entry(flag.clone()).or_default().push_str(line);
    }
    // The comment above a setting, or above those that it stands together with.
    let (mut comments, mut comment, mut over) = (BTreeMap::new(), String::new(), true);
    for line in std::fs::read_to_string(EXAMPLE).unwrap().lines() {
        let setting = line.trim_start_matches("# ").split_once(" = ").filter(|(name, _)| !name.contains(' '));
        match setting {
            Some((name, _)) => drop(comments.insert(name.to_owned(), comment.clone())),
            None if line.is_empty() || std::mem::take(&mut over) => line.clone_into(&mut comment),
            None => comment.push_str(line),
        }
        over |= setting.is_some();
    }
    for name in dir.in_force(&mut dir.program(&["serve"])).into_keys() {
        let reloadable = withheld::config::is_reloadable(&name);
        assert_eq!(helps[&name].contains("(reload)"), reloadable, "{name}: {}", helps[&name]);
        assert_eq!(comments[&name].contains("(reload)"), reloadable, "{name}: {}", comments[&name]);
    }
}

/// The file in deploy/ says what is the default, of every setting, and no other.
#[test]
fn the_example_has_every_setting_at_its_default() {
    let dir = Dir::new();
    let defaults = dir.in_force(&mut dir.program(&["serve"]));
    let example = dir.in_force(&mut dir.program(&["serve", "--config", EXAMPLE]));
    assert!(defaults.len() > 25 && example.len() == defaults.len());
    for (name, (value, source)) in &example {
        assert_eq!(value, &defaults[name].0, "{name}");
        assert_eq!(source, if value.is_some() { "file" } else { "default" }, "{name} is left out");
    }
    // Those without one stand there too, behind a `#`, with a value that could be.
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let commented = |line: &str| line.strip_prefix("# ").and_then(|line| line.split_once(" = ")).is_some();
    let lines = text.lines().map(|line| if commented(line) { &line[2..] } else { line });
    let everything = dir.write("everything.toml", &lines.collect::<Vec<_>>().join("\n"));
    let found = dir.in_force(&mut dir.program(&["serve", "--config", everything.to_str().unwrap()]));
    for (name, (_, source)) in &found {
        assert_eq!(source, "file", "{name} is left out");
    }
}

/// A service whose settings are in a file.
fn serving_by(dir: &Path, settings: &str) -> Service {
    let file = dir.join("withheld.toml");
    let own = "listen = '127.0.0.1:0'\nadmin-listen = '127.0.0.1:0'\nhttp-listen = 'off'\nquery-threads = 1\n";
    std::fs::write(&file, format!("{own}{settings}")).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(&file).current_dir(dir).env_clear();
    Service::of(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_in_force_are_logged_at_the_start_without_secrets() {
    let dir = Dir::new();
    let settings =
        "journal = 'redis://desk:hunter2@127.0.0.1:1'\nredis-sentinel-password = 'hunter3'\nstale-after = '1m 5s'\n";
    let service = serving_by(dir.0.path(), settings);
    let log = service.log();
    let line = log.lines().find(|line| line.contains("configuration")).unwrap();
    for said in ["journal=redis://***@127.0.0.1:1 (file)", "stale-after=\"1m 5s\" (file)", "max-batch=10000 "] {
        assert!(line.contains(said), "`{said}` is missing: {line}");
    }
    assert!(line.contains("redis-sentinel-password=*** (file)"), "{line}");
    assert!(!log.contains("hunter"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_is_taken_up_on_sighup_and_what_cannot_is_named() {
    let dir = Dir::new();
    let regimes = dir.write("regimes.toml", REGIMES);
    let settings = "journal = 'memory:'\nregimes = 'regimes.toml'\nredis-password = 'hunter2'\n";
    let service = serving_by(dir.0.path(), settings);
    service.serving().await;
    let mut orders = service.orders().await;
    let mut apply = async |id: &str| {
        let mut order = mk_order(id, &["IN"]);
        order.regime = "brand-new".to_owned();
        orders.apply_order(mk_apply(order, mk_accounts([7]))).await
    };
    let hangup = |reloads: usize, said: &'static str| {
        assert!(Command::new("kill").args(["-HUP", &service.pid().to_string()]).status().unwrap().success());
        let log = &service;
        until(said, move || async move { log.log().matches(said).count() == reloads })
    };
    let refused = apply("one").await.unwrap_err();
    assert_eq!(refusal(&refused).1, "UNKNOWN_REGIME");

    // The same file, with another regime in it.
    let more = "\n[[regime]]\nid = 'brand-new'\nname = 'New'\nconfidentiality = 'public'\nsource = 'a new act'\n";
    std::fs::write(&regimes, format!("{REGIMES}{more}")).unwrap();
    hangup(1, "reloaded changed=other regimes\n").await;
    apply("two").await.unwrap();

    // A mistake in one file, and nothing of any is taken.
    std::fs::write(&regimes, REGIMES).unwrap();
    let file = dir.0.path().join("withheld.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}log-level = 'loud'\n")).unwrap();
    hangup(1, "configuration reload failed: everything stays as it was").await;
    assert!(service.log().contains("`loud` is no level"), "{}", service.log());
    apply("three").await.unwrap();
    std::fs::write(&file, &good).unwrap();
    std::fs::write(&regimes, "regime = 'none'").unwrap();
    hangup(2, "configuration reload failed: everything stays as it was").await;
    apply("four").await.unwrap();

    // Two settings that need a restart, and the log level, which does not.
    std::fs::write(&regimes, format!("{REGIMES}{more}")).unwrap();
    let changed = good.replace("hunter2", "hunter3");
    std::fs::write(&file, format!("{changed}drain = '10s'\nlog-level = 'debug'\n")).unwrap();
    hangup(1, "reloaded changed=log-level: info -> debug\n").await;
    for said in ["needs a restart change=drain: 20s -> 10s\n", "needs a restart change=redis-password: another one\n"] {
        until(said, async || service.log().contains(said)).await;
    }
    // They are named each time, for they are still not in force; what is taken is told once.
    hangup(2, "needs a restart change=drain: 20s -> 10s\n").await;
    assert_eq!(service.log().matches("log-level: info -> debug").count(), 1);
    assert!(service.log().contains("reloaded changed=nothing\n"), "{}", service.log());
    assert!(!service.log().contains("hunter"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_changes_while_the_service_runs() {
    let dir = Dir::new();
    let service = serving_by(dir.0.path(), "journal = 'memory:'\n");
    service.serving().await;
    let file = dir.0.path().join("withheld.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    let set = async |more: &str, said: &str| {
        std::fs::write(&file, format!("{settings}{more}")).unwrap();
        assert!(Command::new("kill").args(["-HUP", &service.pid().to_string()]).status().unwrap().success());
        until(said, || async { service.log().contains(said) }).await;
    };
    set("log-level = 'warn'", "reloaded changed=log-level: info -> warn").await;
    let before = service.log();
    // This is told, and no longer what info would tell just before it.
    set("log-level = 'warn'\ndrain = '10s'", "change=drain: 20s -> 10s").await;
    set("log-level = 'info'", "reloaded changed=log-level: warn -> info").await;
    let after = service.log();
    let told: Vec<&str> = after.strip_prefix(&before).unwrap().lines().collect();
    assert_eq!(told.len(), 2, "{told:?}");
}
