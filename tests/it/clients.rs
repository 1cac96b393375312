//! The examples of `clients/`, each the program that its page quotes, against the real service: what they say must be what
//! the test itself has ordered. A language whose tools the machine lacks is skipped, and says so.

mod pages;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use withheld::pb::v1 as pb;

use crate::harness::{
    BINARY, ONE_PERSON, Service, get, mk_accounts, mk_apply, mk_batch, mk_context, mk_journal, mk_order, nth, serve_on,
};
use crate::redis::ports::Port;
use crate::redis::servers::RedisServer;
use crate::redis::until;
use crate::shared::create_journal;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What the examples end with if there is no verdict.
const NO_VERDICT: i32 = 3;

/// Ids that a floating-point number, or one with a sign, makes others of: what is next to a withheld one is not.
const PLAIN: u64 = 700_000_000_000_000_001;
const PAST_F64: u64 = (1 << 53) + 1;
const PAST_I64: u64 = (1 << 63) + 7;
const LARGEST: u64 = u64::MAX;
const NEIGHBOURS: [u64; 4] = [PLAIN - 1, PAST_F64 - 1, PAST_I64 - 7, LARGEST - 1];

/// An example that is built.
#[derive(Clone)]
struct Client(Vec<String>);

impl Client {
    /// None where the machine lacks the language's tools.
    fn build(language: &str) -> Option<Self> {
        if language == "rust" {
            return Some(Self(vec![Self::example()]));
        }
        let built = Command::new(Path::new(ROOT).join("scripts/build-client")).arg(language).output().unwrap();
        let said = String::from_utf8_lossy(&built.stdout);
        match built.status.code() {
            Some(0) => {}
            // Not through a macro: what these print is shown of failed tests alone.
            Some(77) => {
                std::io::stderr().write_all(format!("clients/{language} {said}").as_bytes()).unwrap();
                return None;
            }
            _ => panic!("clients/{language} does not build: {said}{}", String::from_utf8_lossy(&built.stderr)),
        }
        let at = |path: &str| Path::new(ROOT).join("target").join(path).display().to_string();
        Some(Self(match language {
            "go" => vec![at("clients/go/client")],
            "python" => vec![at("test-venv/bin/python"), at("clients/python/main.py")],
            "java" => {
                let classes = format!("{}:{}", at("clients/java/target/classes"), at("clients/java/target/lib/*"));
                ["java", "-cp", &classes, "org.example.timeline.Main"].map(str::to_owned).to_vec()
            }
            "typescript" => vec!["node".to_owned(), at("clients/typescript/dist/main.js")],
            other => panic!("how is `{other}` run?"),
        }))
    }

    /// The one in Rust, which `cargo test` builds with the rest: a cargo of a test's own would wait for the other's lock, and
    /// build some dependencies anew.
    fn example() -> String {
        let example = Path::new(BINARY).parent().unwrap().join("examples/client");
        let made = |file: &Path| std::fs::metadata(file).and_then(|file| file.modified());
        for source in ["client.rs", "main.rs"] {
            let source = Path::new(ROOT).join("clients/rust").join(source);
            let fresh = made(&example).is_ok_and(|example| example >= made(&source).unwrap());
            assert!(
                fresh,
                "{} is older than {}: run `cargo build --example client`",
                example.display(),
                source.display()
            );
        }
        example.display().to_string()
    }

    fn command(&self, run: &Run, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.0[0]);
        command
            .args(&self.0[1..])
            .args(arguments)
            .env("SERVICE_CONFIG", Path::new(ROOT).join("clients/service-config.json"))
            .env("ENDPOINTS", run.endpoints.join(","))
            .env("DEADLINE_MS", run.deadline_ms.to_string())
            .env("MAX_STALENESS_MS", run.max_staleness_ms.to_string())
            .env("AT_LEAST_REVISION", run.at_least_revision.to_string())
            .stdin(Stdio::null());
        command
    }

    async fn tour(&self, run: Run, country: &str, ids: &[u64]) -> Said {
        let ids = ids.iter().map(u64::to_string);
        let arguments: Vec<String> = ["tour".to_owned(), country.to_owned()].into_iter().chain(ids).collect();
        let mut command = self.command(&run, &arguments);
        Said::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    }
}

/// What an example is told besides its arguments.
struct Run {
    endpoints: Vec<String>,
    /// Long, where an answer is certain to come: it costs nothing then.
    deadline_ms: u32,
    max_staleness_ms: u32,
    at_least_revision: u64,
}

impl Run {
    fn at<const N: usize>(endpoints: [&str; N]) -> Self {
        let endpoints = endpoints.map(|endpoint| endpoint.trim_start_matches("http://").to_owned()).to_vec();
        Self { endpoints, deadline_ms: 20_000, max_staleness_ms: 60_000, at_least_revision: 0 }
    }
}

/// What an example has printed, and its exit code.
struct Said {
    lines: Vec<String>,
    code: Option<i32>,
    errors: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            lines: String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect(),
            code: output.status.code(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn is(&self, what: &str, code: i32, lines: &[String]) {
        let Self { lines: said, code: ended, errors } = self;
        assert!(
            said == lines && *ended == Some(code),
            "{what}: {said:#?}\n{ended:?}, not {lines:#?}\n{code}\n{errors}"
        );
    }

    /// For each account `UNKNOWN`, with one of these reasons, and never a verdict.
    fn is_unknown(&self, what: &str, ids: &[u64], reasons: &[&str]) {
        let Self { lines, code, errors } = self;
        let asked: Vec<String> = ["check", "batch"]
            .iter()
            .flat_map(|how| ids.iter().map(move |id| format!("{how} IN {id}: UNKNOWN ")))
            .collect();
        let right = |(line, start): (&String, &String)| {
            line.strip_prefix(start.as_str()).is_some_and(|why| reasons.contains(&why))
        };
        assert!(
            lines.len() == asked.len() && lines.iter().zip(&asked).all(right) && *code == Some(NO_VERDICT),
            "{what}: {lines:#?}\n{code:?}, not {asked:#?} with {reasons:?}\n{errors}"
        );
    }
}

/// What the test has ordered: the countries of each account, `XX` for all.
struct Ordered {
    countries: BTreeMap<u64, Vec<&'static str>>,
    revision: u64,
}

impl Ordered {
    async fn at(service: &Service) -> Self {
        let mut orders = service.orders().await;
        let mut some = mk_apply(mk_order("some", &["IN", "BR"]), mk_accounts([PLAIN, PAST_F64, LARGEST]));
        orders.apply_order(some.clone()).await.unwrap();
        some.order = Some(pb::OrderSpec {
            order_id: "everywhere".to_owned(),
            territory: Some(pb::Territory { territory: Some(pb::territory::Territory::Worldwide(true)) }),
            ..some.order.unwrap()
        });
        some.items = Some(pb::apply_order_request::Items::ItemList(mk_accounts([PAST_I64])));
        let revision = orders.apply_order(some).await.unwrap().into_inner().revision;
        let listed = |id| (id, vec!["BR", "IN"]);
        let countries = [listed(PLAIN), listed(PAST_F64), listed(LARGEST), (PAST_I64, vec!["XX"])];
        Self { countries: countries.into(), revision }
    }

    /// What a tour must print.
    fn told(&self, country: &str, ids: &[u64]) -> Vec<String> {
        let countries = |id: &u64| self.countries.get(id).cloned().unwrap_or_default();
        let verdict = |id: &u64, country: &str| {
            let withheld = countries(id).iter().any(|code| *code == country || *code == "XX");
            let said = if withheld { "withheld withheld.user.legal_demand" } else { "visible" };
            format!("{id}: {said}, revision {} live", self.revision)
        };
        let each = |line: &dyn Fn(&u64) -> String| ids.iter().map(line).collect::<Vec<_>>();
        [
            each(&|id| format!("check {country} {}", verdict(id, country))),
            each(&|id| format!("batch {country} {}", verdict(id, country))),
            each(&|id| format!("check nowhere {}, country unknown", verdict(id, ""))),
            each(&|id| format!("countries {id}: {}", countries(id).join(" ")).trim_end().to_owned()),
            vec![format!("check Atlantis {}: UNKNOWN INVALID_ARGUMENT BAD_FIELDS viewer_country", ids[0])],
        ]
        .concat()
    }
}

/// Verdicts, and that there is none where nobody gives one.
async fn verdicts(client: &Client) {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &ONE_PERSON).await;
    let ordered = Ordered::at(&service).await;
    let ids: Vec<u64> = [PLAIN, PAST_F64, PAST_I64, LARGEST].into_iter().chain(NEIGHBOURS).collect();
    // Nothing listens on one, the other takes connections and says nothing.
    let (closed, silent) = (Port::reserve(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let closed = format!("127.0.0.1:{}", closed.number());
    let silent = silent.local_addr().unwrap().to_string();
    let live = || Run { at_least_revision: ordered.revision, ..Run::at([&service.queries]) };

    // The service waits five seconds for a revision that is not there, and the others meanwhile take turns: many JVMs at
    // once starting up would hold one another up.
    let (ahead, (in_india, elsewhere, beside_dead, dead, stale)) = tokio::join!(
        client.tour(Run { at_least_revision: ordered.revision + 1_000, ..live() }, "IN", &[PLAIN]),
        async {
            (
                client.tour(live(), "IN", &ids).await,
                client.tour(live(), "US", &ids).await,
                client.tour(Run::at([&closed, &silent, &service.queries]), "BR", &ids).await,
                client.tour(Run { deadline_ms: 1_000, ..Run::at([&closed]) }, "IN", &[PLAIN, 5]).await,
                client.tour(Run { max_staleness_ms: 0, ..live() }, "IN", &[PLAIN, 5]).await,
            )
        },
    );
    in_india.is("in India", 0, &ordered.told("IN", &ids));
    elsewhere.is("elsewhere", 0, &ordered.told("US", &ids));
    beside_dead.is("beside dead ones", 0, &ordered.told("BR", &ids));
    dead.is_unknown("nobody there", &[PLAIN, 5], &["DEADLINE_EXCEEDED", "UNAVAILABLE"]);
    ahead.is_unknown("a revision that is not there", &[PLAIN], &["FAILED_PRECONDITION REVISION_NOT_WRITTEN"]);
    stale.is_unknown("fresher than can be", &[PLAIN, 5], &["UNAVAILABLE TOO_STALE"]);
}

/// A replica that has lost its journal answers still, and does not know of the orders; but it says NOT_SERVING, and that it
/// is stale. Nobody hears it: who looks at health does not ask it, and who does not is refused, for he says how stale it may
/// be, and asks another.
async fn beside_stale(client: &Client, looks_at_health: bool) {
    let (dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &ONE_PERSON).await;
    let ordered = Ordered::at(&service).await;
    let redis = RedisServer::start().await;
    tokio::task::block_in_place(|| create_journal(&redis.url(), &[]));
    let mut command = serve_on(&redis.url());
    command.args(ONE_PERSON);
    command.arg("--snapshot").arg(dir.path().join("state.snapshot")).args(["--max-staleness", "300ms"]);
    let stale = Service::of(command);
    stale.serving().await;
    redis.kill();
    let limit = Duration::from_secs(if looks_at_health { 60 } else { 5 });
    until("it is stale", async || {
        let batch = stale.visibility().await.batch_check(mk_batch("IN", [PLAIN])).await.unwrap().into_inner();
        let age = Duration::try_from(batch.freshness.unwrap().age.unwrap()).unwrap();
        get(&stale.http, "/readyz").await.0 == 503 && (looks_at_health || age > limit)
    })
    .await;
    let ids: Vec<u64> = [PLAIN, PAST_F64].into_iter().chain(NEIGHBOURS).collect();
    let run = Run {
        max_staleness_ms: u32::try_from(limit.as_millis()).unwrap(),
        ..Run::at([&stale.queries, &service.queries])
    };
    client.tour(run, "IN", &ids).await.is("beside a stale one", 0, &ordered.told("IN", &ids));
}

/// Does not outlive its test.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A watch goes on where it was when its replica dies and another takes over.
async fn watch(client: &Client) {
    let (_dir, journal) = mk_journal();
    let (first, second) = (Port::reserve(), Port::reserve());
    let endpoints = [&first, &second].map(|port| format!("127.0.0.1:{}", port.number()));
    let on = |endpoint: &str| Service::of(serve_at(endpoint, &journal));
    let order = |id: &str, account: u64| mk_apply(mk_order(id, &["IN"]), mk_accounts([account]));

    let service = on(&endpoints[0]);
    service.serving().await;
    for (id, account) in [("stays", LARGEST), ("goes", PLAIN)] {
        service.orders().await.apply_order(order(id, account)).await.unwrap();
    }
    let run = Run::at([&endpoints[0], &endpoints[1]]);
    let until_last = |position: &str| ["watch".to_owned(), position.to_owned(), nth(4).to_string()];
    let mut child = client.command(&run, &until_last("")).stdout(Stdio::piped()).spawn().unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let (out, said) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&said));
        std::thread::spawn(move || out.lines().for_each(|line| said.lock().unwrap().push(line.unwrap())))
    };
    let child = Mutex::new(Watcher(child));
    let second = format!(".{}.", nth(2));
    let told =
        async || said.lock().unwrap().iter().any(|line| line.starts_with("resume at ") && line.contains(&second));
    until("it has been told", told).await;
    service.kill();
    let service = on(&endpoints[1]);
    service.serving().await;
    let mut orders = service.orders().await;
    let lift =
        pb::LiftOrderRequest { order_id: "goes".to_owned(), context: mk_context("why", ""), validate_only: false };
    orders.lift_order(lift).await.unwrap();
    orders.apply_order(order("comes", PAST_I64)).await.unwrap();

    until("it has ended", async || child.lock().unwrap().0.try_wait().unwrap().is_some()).await;
    reader.join().unwrap();
    let said = said.lock().unwrap().clone();
    assert!(child.lock().unwrap().0.wait().unwrap().success(), "{said:#?}");
    let mut changes: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("changed account_id ")).collect();
    changes.sort_unstable();
    // Each once: what was told before the break is not told again.
    let mut right = [format!("{LARGEST}: IN"), format!("{PLAIN}: IN"), format!("{PLAIN}:"), format!("{PAST_I64}: IN")];
    right.sort_unstable();
    assert_eq!(changes, right, "{said:#?}");
    let resumed = |line: &String| line.starts_with("the watch is resumed at `") && line.contains(&second);
    assert!(said.iter().any(resumed), "{said:#?}");
    let last = said.last().unwrap();
    assert!(last.starts_with("resume at ") && last.contains(&format!(".{}.", nth(4))), "{said:#?}");

    // A position of another journal: all that was told is forgotten, and told anew.
    let foreign = format!("{}.{}.{}", "0123456789abcdef".repeat(2), nth(2), "0123456789abcdef");
    let mut anew = client.command(&run, &until_last(&foreign));
    let anew = Said::of(tokio::task::spawn_blocking(move || anew.output().unwrap()).await.unwrap());
    let lines: Vec<&str> = anew.lines.iter().map(String::as_str).collect();
    let forgot = lines.iter().position(|line| *line == "forget everything");
    let changed = |line: &&str| line.starts_with("changed ");
    assert!(forgot.is_some_and(|forgot| !lines[..forgot].iter().any(changed)), "{lines:#?}\n{}", anew.errors);
    let mut changes: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("changed account_id ")).collect();
    changes.sort_unstable();
    // Of what is not withheld any more who begins anew needs not know.
    let mut right = [format!("{LARGEST}: IN"), format!("{PAST_I64}: IN")];
    right.sort_unstable();
    assert_eq!((changes, anew.code), (right.iter().map(String::as_str).collect(), Some(0)), "{lines:#?}");
}

fn serve_at(endpoint: &str, journal: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["serve", "--listen", endpoint, "--admin-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .env("WITHHELD_QUERY_THREADS", "1")
        .arg(format!("--journal=sqlite:{}", journal.display()))
        .env("RUST_LOG", "info");
    command
}

async fn works(language: &str) {
    let name = language.to_owned();
    let client = tokio::task::spawn_blocking(move || Client::build(&name)).await.unwrap();
    if let Some(client) = client {
        // grpc-js alone does not look at health.
        tokio::join!(verdicts(&client), watch(&client), beside_stale(&client, language != "typescript"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn go() {
    works("go").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python() {
    works("python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust() {
    works("rust").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java() {
    works("java").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript() {
    works("typescript").await;
}
