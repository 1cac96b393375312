//! URLs of Redis: read as they are printed, and never with a password in what is said about them.

use super::{Credentials, RedisUrl, redacted};

crate::fuzz::target!(redis_urls, check);

const SECRET: &str = "hunter-77c1";

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(url) = text.parse::<RedisUrl>() {
        let without = Credentials { password: None, ..url.credentials.clone() };
        let again = url.to_string().parse::<RedisUrl>();
        assert_eq!(again, Ok(RedisUrl { credentials: without, ..url }), "{text}");
    }
    let Some((before, after)) = text.split_once('@') else { return };
    // A host can be called so, also by way of characters that do not count in hosts.
    if format!("{text} {:?}", text.parse::<RedisUrl>()).contains(SECRET) {
        return;
    }
    let with_password = format!("{before}:{SECRET}@{after}");
    assert!(!redacted(&with_password).contains(SECRET), "{with_password}");
    match with_password.parse::<RedisUrl>() {
        Ok(url) => assert!(!format!("{url} {url:?}").contains(SECRET), "{with_password}"),
        Err(error) => assert!(!format!("{error} {error:?}").contains(SECRET), "{with_password}"),
    }
}
