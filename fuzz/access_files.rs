//! The access file, the token file, and the header by which somebody wants to be known.

use std::path::Path;

use super::{Access, AccessError, AccessFile, Credential, Role, Roles, TokenFile};

crate::fuzz::target!(access_files, check);

fn check(bytes: &[u8]) {
    let Some([people, tokens, header]) = crate::fuzz::parts(bytes) else { return };
    let path = Path::new("/etc/people.toml");
    let file = match AccessFile::parse(&people, path) {
        Ok(file) => file,
        Err(error @ (AccessError::Tokens(_) | AccessError::Jwt(_) | AccessError::Read { .. })) => panic!("{error}"),
        Err(error) => return assert!(error.to_string().contains("`/etc/people.toml`"), "{error}"),
    };
    assert!([Roles::NONE, Roles::of(&[Role::Reader])].contains(&file.anonymous()), "{people}");
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    for name in &names {
        assert_eq!(*file.by_name(name).unwrap().name, **name);
    }
    let Ok(tokens) = toml::from_str::<TokenFile>(&tokens) else { return };
    assert_eq!(toml::from_str::<TokenFile>(&toml::to_string(&tokens).unwrap()).as_ref(), Ok(&tokens));
    let now = jiff::Timestamp::UNIX_EPOCH;
    // With one more person and token, which are known to be good.
    let (mut tokens, mut people) = (tokens, people);
    people.push_str("\n[[identity]]\nname = 'the good one'\nroles = ['auditor']\n");
    let good = tokens.create("the good one", now, now + jiff::SignedDuration::from_secs(1)).unwrap();
    let file = AccessFile::parse(&people, path).unwrap_or(file);
    let is_there = file.by_name("the good one").is_some();
    let access = Access { file, tokens, jwks: None };
    if let Ok(who) = access.who(Some(&header), None, now) {
        // Only who wrote the file could know what has this hash.
        let Credential::Token(id) = &who.credential else { panic!("{who:?}") };
        let (_, stored) = access.tokens.iter().find(|(known, _)| *known == &**id).unwrap();
        assert_eq!((&*stored.name, stored.revoked), (&*who.name, None));
        assert!(stored.expires > now && header.contains(&format!("withheld_{id}_")));
    }
    if !is_there || names.iter().any(|name| name == "the good one") {
        return;
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let who = access.who(Some(&format!("{scheme} {}", good.token)), None, now).unwrap();
        assert_eq!((&*who.name, who.roles), ("the good one", Roles::of(&[Role::Auditor])));
    }
    for (forged, at) in [
        (format!("Bearer {}{header}", good.token), now),
        (format!("Bearer {header}{}", good.token), now),
        (format!("Bearer {}", good.token), now + jiff::SignedDuration::from_secs(1)),
        (good.token, now),
    ] {
        assert!(
            (header.is_empty() && at == now && forged.contains(' ')) || access.who(Some(&forged), None, at).is_err()
        );
    }
}
