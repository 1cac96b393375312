//! What is reloaded while the service runs: what the log says is what callers experience, each file by itself, and what could
//! not be read is tried again.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use tonic::transport::Channel;

use super::certificates::{metrics, shake};
use super::{Desk, ask, channel, mk_check, plain, tls, with_token};
use crate::harness::{BINARY, Service};
use crate::redis::until;
use crate::scrape::Scrape;

const PEOPLE: &str = "
[[identity]]
name = \"timeline\"
roles = [\"reader\"]
calls_per_second = 5
";

/// A service whose settings are in a file beside the desk's others, and that file.
struct Running {
    service: Service,
    file: std::path::PathBuf,
}

impl Running {
    fn start(desk: &Desk, settings: &str) -> Self {
        let file = desk.path("withheld.toml");
        let running = |service| Self { service, file: file.clone() };
        write(&file, settings);
        let mut command = std::process::Command::new(BINARY);
        command.args(["serve", "--config"]).arg(&file).current_dir(desk.dir.path()).env_clear();
        running(Service::of(command))
    }

    fn configure(&self, settings: &str) {
        write(&self.file, settings);
    }

    /// SIGHUP, and waits until the log has said this so often.
    async fn hang_up(&self, says: &str, times: usize) {
        let pid = self.service.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        self.has_said(says, times).await;
    }

    async fn has_said(&self, says: &str, times: usize) {
        until(says, async || self.service.log().matches(says).count() >= times).await;
    }
}

fn write(file: &Path, settings: &str) {
    let own = "journal = 'memory:'\nlisten = '127.0.0.1:0'\nadmin-listen = '127.0.0.1:0'\nhttp-listen = '127.0.0.1:0'\nquery-threads = 1\n";
    std::fs::write(file, format!("{own}{settings}")).unwrap();
}

async fn serves(running: &Running) {
    running.has_said(" serving\n", 1).await;
}

async fn is_let_in(channel: Result<Channel, tonic::transport::Error>) -> bool {
    match channel {
        Ok(channel) => ask(channel, tonic::Request::new(mk_check())).await.is_ok(),
        Err(_) => false,
    }
}

const TLS: &str = "tls-cert = 'service.pem'\ntls-key = 'service.key'\ntls-client-ca = 'people.pem'\n";

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_certificate_is_required_is_what_the_log_says_it_is() {
    let desk = Desk::mk();
    let running = Running::start(&desk, TLS);
    serves(&running).await;
    let stranger =
        async || is_let_in(channel(&running.service.queries, tls(&desk.path("services.pem"), None)).await).await;
    assert!(stranger().await);
    running.configure(&format!("{TLS}client-cert = 'required'\n"));
    running.hang_up("reloaded changed=client-cert: optional -> required", 1).await;
    assert!(!stranger().await, "it is said to be in force");
    assert!(!running.service.log().contains("needs a restart"), "{}", running.service.log());

    // Without who vouches for them it would let nobody in, or everybody: it stays as it was.
    running.configure("tls-cert = 'service.pem'\ntls-key = 'service.key'\nclient-cert = 'required'\n");
    running.hang_up("configuration reload failed", 1).await;
    assert!(running.service.log().contains("`client-cert` is required"), "{}", running.service.log());
    assert!(!stranger().await);
    running.configure(TLS);
    running.hang_up("reloaded changed=client-cert: required -> optional", 1).await;
    assert!(stranger().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_is_what_the_log_says_whether_the_file_is_added_changed_or_taken_away() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let running = Running::start(&desk, "");
    serves(&running).await;
    let queries = plain(&running.service.queries).await;
    let anybody = async || ask(queries.clone(), tonic::Request::new(mk_check())).await.is_ok();
    assert!(anybody().await);

    running.configure("access = 'access.toml'\n");
    running.hang_up("reloaded changed=access: not set -> access.toml", 1).await;
    assert!(!anybody().await, "it is said to be in force");
    let token = desk.token("timeline");
    let timeline = async || ask(queries.clone(), with_token(&token, mk_check())).await.is_ok();
    until("the token holds", timeline).await;

    // Taken away it would let everybody in: that needs a restart, is said to, and revocations are seen as before.
    running.configure("");
    running.hang_up("needs a restart change=access: access.toml -> not set", 1).await;
    assert!(!anybody().await);
    let id = desk.token_json(&["list"])["tokens"][0]["id"].as_str().unwrap().to_owned();
    assert!(desk.token_cli(&["revoke", &id]).status.success());
    until("the revoked token is turned away", async || !timeline().await).await;

    // Another file in its place is the one that counts, and is looked at, from then on.
    let other = desk.path("other.toml");
    std::fs::write(&other, "anonymous = ['reader']\n").unwrap();
    running.configure("access = 'other.toml'\n");
    running.hang_up("reloaded changed=access: access.toml -> other.toml", 1).await;
    assert!(anybody().await);
    std::fs::write(&other, "anonymous = []\n").unwrap();
    until("nobody is a reader any more", async || !anybody().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_file_is_by_itself_what_failed_is_tried_again_and_measured() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let running = Running::start(&desk, &format!("{TLS}access = 'access.toml'\n"));
    serves(&running).await;
    let gauge = async |name: &str, part: &str| {
        let name = format!("withheld_config_{name}{{part=\"{part}\"}}");
        Scrape::read(&metrics(&running.service)).value(&name)
    };
    let token = desk.token("timeline");
    let asked = async || {
        let channel = channel(&running.service.queries, tls(&desk.path("services.pem"), None)).await.unwrap();
        ask(channel, with_token(&token, mk_check())).await
    };
    until("the token holds", async || asked().await.is_ok()).await;
    for part in ["settings", "access", "certificates"] {
        assert_eq!(gauge("last_reload_successful", part).await, 1.0, "{part}");
        assert!(gauge("last_reload_success_timestamp_seconds", part).await > 1.7e9, "{part}");
    }

    // A slip in the access file: who was revoked is still known to be somebody, which is an alert; certificates go on.
    let good = std::fs::read_to_string(desk.path("access.toml")).unwrap();
    std::fs::write(desk.path("access.toml"), "[[identity]\n").unwrap();
    until("it is measured", async || gauge("last_reload_successful", "access").await == 0.0).await;
    assert_eq!(gauge("last_reload_successful", "certificates").await, 1.0);
    let shown = || shake(&running.service, &desk, &[&rustls::version::TLS13]).unwrap();
    let before = shown();
    desk.show(&desk.services.for_service());
    until("the new certificate is shown", async || shown() != before).await;
    let refusals = || running.service.log().matches("configuration reload failed").count();
    assert_eq!(refusals(), 1, "the same is not said every two seconds: {}", running.service.log());
    std::fs::write(desk.path("access.toml"), &good).unwrap();
    until("it is taken up", async || gauge("last_reload_successful", "access").await == 1.0).await;
    assert!(asked().await.is_ok());

    // And the other way round.
    std::fs::write(desk.path("service.pem"), "nothing").unwrap();
    until("it is measured", async || gauge("last_reload_successful", "certificates").await == 0.0).await;
    let id = desk.token_json(&["list"])["tokens"][0]["id"].as_str().unwrap().to_owned();
    assert!(desk.token_cli(&["revoke", &id]).status.success());
    until("the revoked token is turned away", async || asked().await.is_err()).await;
}

/// A file that the service may not read for a while is read once it may be, though nothing else of it has changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_could_not_be_read_is_read_when_it_can_be() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let token = desk.token("timeline");
    let service = desk.service().await;
    let queries = plain(&service.queries).await;
    let known = async || ask(queries.clone(), with_token(&token, mk_check())).await.is_ok();
    assert!(known().await);
    // Gone for a moment, as a file is that somebody replaces in two steps; revoked in it when it comes back, under the very
    // times that it had.
    let (tokens, aside) = (desk.path("tokens.toml"), desk.path("aside.toml"));
    let times = std::fs::metadata(&tokens).unwrap().modified().unwrap();
    std::fs::rename(&tokens, &aside).unwrap();
    until("it is said", async || service.log().contains("configuration reload failed")).await;
    assert!(known().await, "what was known is still known");
    let text = std::fs::read_to_string(&aside).unwrap();
    let revoked = text.replace("created", "revoked = \"2021-02-01T00:00:00Z\"\ncreated");
    std::fs::write(&aside, revoked).unwrap();
    std::fs::File::options().append(true).open(&aside).unwrap().set_modified(times).unwrap();
    std::fs::rename(&aside, &tokens).unwrap();
    until("the revoked token is turned away", async || !known().await).await;
}

#[test]
fn a_token_file_keeps_its_owner_and_mode() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    desk.token("timeline");
    let file = desk.path("tokens.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    // As root, somebody else's; as anybody, one's own.
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let owner = if is_root {
        (4_711, 4_712)
    } else {
        (std::fs::metadata(&file).unwrap().uid(), std::fs::metadata(&file).unwrap().gid())
    };
    chown(&file, Some(owner.0), Some(owner.1)).unwrap();
    let id = desk.token_json(&["list"])["tokens"][0]["id"].as_str().unwrap().to_owned();
    assert!(desk.token_cli(&["revoke", &id]).status.success());
    let after = std::fs::metadata(&file).unwrap();
    assert_eq!((after.uid(), after.gid(), after.mode() & 0o7777), (owner.0, owner.1, 0o640));
}

/// A limit is not had anew by reloading.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_of_a_limit_stays_used_when_the_file_is_read_anew() {
    let desk = Desk::mk();
    // One call a second: while the file is read anew several times a second, there are no more calls than seconds.
    desk.access(&PEOPLE.replace("= 5", "= 1"));
    let running = Running::start(&desk, "access = 'access.toml'\n");
    serves(&running).await;
    let token = desk.token("timeline");
    let queries = plain(&running.service.queries).await;
    let call = async || ask(queries.clone(), with_token(&token, mk_check())).await;
    until("the token is known", async || call().await.is_ok()).await;
    let began = std::time::Instant::now();
    let mut let_through = 0;
    for reload in 1..=20 {
        running.hang_up("reloaded changed=", reload).await;
        let_through += u64::from(call().await.is_ok());
    }
    // As many again may come at once.
    let most = began.elapsed().as_secs() + 2;
    assert!(let_through <= most, "{let_through} in {:?}", began.elapsed());
    assert!(most < 15, "20 reloads in {:?} tell nothing", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_certificates_end_is_measured_and_one_that_has_ended_is_said_and_never_taken_up() {
    let desk = Desk::mk();
    let running = Running::start(&desk, TLS);
    serves(&running).await;
    let expiry = async |which: &str| {
        let name = format!("withheld_certificate_expiry_timestamp_seconds{{certificate=\"{which}\"}}");
        Scrape::read(&metrics(&running.service)).value(&name)
    };
    // As rcgen has it where nothing else is said: the year 4096.
    assert_eq!((expiry("server").await / 31_556_952.0).round() + 1970.0, 4096.0);
    assert!(expiry("client_ca").await > 0.0);
    desk.show(&desk.services.expired_for_service());
    running.has_said("has expired, at 2021-02-01T00:00:00Z", 1).await;
    let service = &running.service;
    assert!(
        is_let_in(channel(&service.queries, tls(&desk.path("services.pem"), None)).await).await,
        "the old one is shown"
    );

    let validate = |settings: &str| {
        write(&desk.path("check.toml"), settings);
        let mut command = std::process::Command::new(BINARY);
        command.args(["serve", "--validate", "--config", "check.toml"]).current_dir(desk.dir.path()).env_clear();
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = validate(TLS);
    assert!(code == Some(1) && said.contains("has expired"), "{said}");
    // A service that starts with it says so, too, and serves: a plain listener may be all that is needed of it.
    let late = Running::start(&desk, TLS);
    late.has_said("certificate expired", 1).await;
}
