//! Bearer tokens: made, listed, revoked while the service runs, and of no use in any other form.

use tonic::Code;

use super::{Desk, ask, mk_check, plain, refused, unauthenticated, with_token};
use crate::redis::until;

const PEOPLE: &str = "
[[identity]]
name = \"timeline\"
roles = [\"reader\"]
[[identity]]
name = \"desk@example.org\"
roles = [\"operator\"]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_holds_until_it_is_revoked_while_the_service_runs_and_only_as_it_was_made() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let [kept, lost] = [desk.token("timeline"), desk.token("timeline")];
    let service = desk.service().await;
    let queries = plain(&service.queries).await;
    for token in [&kept, &lost] {
        assert!(!ask(queries.clone(), with_token(token, mk_check())).await.unwrap());
    }
    let secret_of = |token: &String| token.splitn(3, '_').nth(2).unwrap().to_owned();
    let [secret, other_secret] = [&kept, &lost].map(secret_of);
    let head = kept.strip_suffix(&format!("_{secret}")).unwrap();
    let mut last = secret.clone();
    let end = last.pop().unwrap();
    last.push(if end == 'A' { 'B' } else { 'A' });
    for wrong in [
        kept.to_uppercase(),
        kept.to_lowercase(),
        format!("{head}_{other_secret}"),
        format!("{head}_{last}"),
        format!("{head}_"),
        format!("{kept}A"),
        format!("{kept} "),
        head.to_owned(),
        "withheld__".to_owned(),
        "x".to_owned(),
        "x".repeat(8_000),
    ] {
        // What a client's library takes for white space at the end is not sent.
        if wrong.trim() != wrong {
            continue;
        }
        let status = ask(queries.clone(), with_token(&wrong, mk_check())).await.expect_err(&wrong);
        assert_eq!(refused(&status), unauthenticated(), "{wrong}");
        assert!(!status.message().contains(&secret), "{}", status.message());
    }
    for header in [kept.clone(), format!("Basic {kept}"), format!("Bearer  {kept}"), "Bearer".to_owned(), String::new()]
    {
        let mut request = tonic::Request::new(mk_check());
        request.metadata_mut().insert("authorization", header.parse().unwrap());
        assert_eq!(refused(&ask(queries.clone(), request).await.unwrap_err()), unauthenticated(), "{header}");
    }

    let list = desk.token_json(&["list"]);
    let id = list["tokens"].as_array().unwrap().iter().map(|token| token["id"].as_str().unwrap());
    let id = id.map(str::to_owned).find(|id| lost.contains(&format!("_{id}_"))).unwrap();
    assert!(desk.token_cli(&["revoke", &id]).status.success());
    until("the revoked token is turned away", async || {
        ask(queries.clone(), with_token(&lost, mk_check()))
            .await
            .is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    assert!(!ask(queries.clone(), with_token(&kept, mk_check())).await.unwrap(), "the other one holds");
    // One that is made now holds soon, too; nothing was restarted.
    let new = desk.token("timeline");
    until("the new token holds", async || ask(queries.clone(), with_token(&new, mk_check())).await.is_ok()).await;

    // The secrets are nowhere: not in the file, and not in the log, where refusals are told.
    let (file, log) = (std::fs::read_to_string(desk.path("tokens.toml")).unwrap(), service.log());
    for token in [&kept, &lost, &new] {
        let secret = secret_of(token);
        assert!(!file.contains(&secret) && !log.contains(&secret));
    }
    let refusal = log.lines().find(|line| line.contains("authentication failed")).unwrap();
    assert!(log.contains("revoked") && refusal.contains(" peer=\"127.0.0.1:"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_by_itself() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let made = desk.token_json(&["create", "timeline", "--expires", "3s"]);
    let service = desk.service().await;
    let (queries, token) = (plain(&service.queries).await, made["token"].as_str().unwrap());
    until("it has ended", async || {
        let held = ask(queries.clone(), with_token(token, mk_check())).await.is_ok();
        let over = made["expires"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() < jiff::Timestamp::now();
        assert!(!held || !over || jiff::Timestamp::now() > made["expires"].as_str().unwrap().parse().unwrap());
        !held && over
    })
    .await;
    assert_eq!(desk.token_json(&["list"])["tokens"][0]["standing"], "expired");
}

#[test]
fn mistakes_with_tokens_are_told_kindly() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    for (args, said) in [
        (&["create", "timelin"][..], "did you mean `timeline`?"),
        (&["create", "timeline", "--expires", "0s"], "longer than nothing"),
        (&["create", "timeline", "--expires", "10y"], "366 days at most"),
        (&["create", "timeline", "--expires", "soon"], "--expires"),
        (&["revoke", "0123abcd"], "no token `0123abcd`"),
    ] {
        let output = desk.token_cli(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(said), "{args:?}: {told}");
    }
    std::fs::write(desk.path("access.toml"), PEOPLE).unwrap();
    let told = desk.token_cli(&["list"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("names no file of tokens"));
    for (text, said) in [
        ("anonymous = [\"operator\"]", "`anonymous` can be [\"reader\"] at most"),
        ("[[identity]]\nname = \"a\"\nroles = [\"king\"]", "king"),
        ("[[identity]]\nname = \"a\"\nroles = []\n[[identity]]\nname = \"a\"\nroles = []", "the name `a` twice"),
        ("[[identity]]\nname = \" \"\nroles = []", "has the name ` `: write 1 to 256 bytes"),
        ("[[identity]]\nname = \"a\"\nperson = \"\"\nroles = []", "has the person ``: write 1 to 256 bytes"),
        ("[[identity]]\nname = \"a\"\nperson = \"\\t \"\nroles = []", "and not only spaces"),
        (
            "[[identity]]\nname = \"a\"\nroles = []\ncertificates = [\"\"]",
            "gives `a` the certificate ``, which says nothing",
        ),
        (
            "[[identity]]\nname = \"a\"\nroles = []\nsubjects = [\"b\", \" \"]",
            "gives `a` the subject ` `, which says nothing",
        ),
        ("nonsense = 1", "nonsense"),
    ] {
        std::fs::write(desk.path("access.toml"), text).unwrap();
        let output = desk.token_cli(&["list"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(said) && told.contains("access.toml"), "{text}: {told}");
    }
}
