//! Which settings take effect while the service runs: one list, from which come both what is done and what is said of it.
//!
//! A setting that is not here keeps the value that the service was started with, whatever the file says by now, and it is
//! said that it needs a restart. One that is here is in force as soon as it is read.

use super::ServeArgs;

/// A setting, how it is taken over, and when it cannot be.
struct Reloadable {
    name: &'static str,
    may: fn(&ServeArgs, &ServeArgs) -> bool,
    take: fn(&mut ServeArgs, &ServeArgs),
}

macro_rules! reloadable {
    ($($may:ident: $($name:literal = $($field:ident).+),+;)*) => {
        const RELOADABLE: &[Reloadable] = &[$($(Reloadable {
            name: $name,
            may: $may,
            take: |in_force, read| in_force.$($field).+.clone_from(&read.$($field).+),
        }),+),*];
    };
}

reloadable! {
    always:
        "regimes" = regimes,
        "groups" = groups,
        "links" = links,
        "policy" = policy,
        "log-level" = log_level;
    unless_nobody_would_be_asked:
        "access" = access.access;
    while_tls_stays_on_or_off:
        "tls-cert" = access.tls_cert,
        "tls-key" = access.tls_key,
        "tls-client-ca" = access.tls_client_ca,
        "tls-min-version" = access.tls_min_version,
        "client-cert" = access.client_cert,
        "admin-client-cert" = access.admin_client_cert,
        "http-client-cert" = access.http_client_cert;
}

const fn always(_: &ServeArgs, _: &ServeArgs) -> bool {
    true
}

/// From then on everybody could do everything: a slip in a file must not do that.
const fn unless_nobody_would_be_asked(in_force: &ServeArgs, read: &ServeArgs) -> bool {
    in_force.access.access.is_none() || read.access.access.is_some()
}

/// A listener speaks TLS from its first connection to its last, or never.
const fn while_tls_stays_on_or_off(in_force: &ServeArgs, read: &ServeArgs) -> bool {
    in_force.access.tls_cert.is_some() == read.access.tls_cert.is_some()
}

/// Whether a setting can take effect without a restart.
#[must_use]
pub fn is_reloadable(name: &str) -> bool {
    RELOADABLE.iter().any(|setting| setting.name == name)
}

impl ServeArgs {
    /// Takes over from settings that were read anew what can be, and tells the names of those settings.
    pub fn take_over(&mut self, read: &Self) -> Vec<&'static str> {
        // Whether one may be taken over is asked of the settings as they were.
        let taken: Vec<_> = RELOADABLE.iter().filter(|setting| (setting.may)(self, read)).collect();
        taken.iter().for_each(|setting| (setting.take)(self, read));
        taken.iter().map(|setting| setting.name).collect()
    }
}
