//! The rights that deploy/redis ships: the servers of the tests have these and no more, so that what the tests show
//! holds for who sets up Redis as the documentation says.
//!
//! Everything is read from the shipped files; only passwords are put in.

use std::process::Command;

const USERS: &str = include_str!("../../../deploy/redis/users.acl");
const SENTINEL_CONF: &str = include_str!("../../../deploy/redis/sentinel.conf");
const README: &str = include_str!("../../../deploy/redis/README.md");

/// A user of the shipped files, and the password that the tests put in.
#[derive(Debug, Clone, Copy)]
pub struct User {
    pub name: &'static str,
    pub password: &'static str,
}

/// The service, to servers and to Sentinels.
pub const SERVICE: User = User { name: "withheld", password: "password-of-withheld" };
/// Who works on Redis, here the harness.
pub const KEEPER: User = User { name: "keeper", password: "password-of-keeper" };
/// A replica, to its primary.
pub const REPLICATION: User = User { name: "replication", password: "password-of-replication" };
/// A Sentinel, to servers and to other Sentinels; among Sentinels it may do everything.
pub const SENTINEL: User = User { name: "sentinel", password: "password-of-sentinel" };

/// The text of a shipped file with a password in the place of each.
pub fn with_passwords(text: &str) -> String {
    [SERVICE, KEEPER, REPLICATION, SENTINEL].iter().fold(text.to_owned(), |text, user| {
        let placeholder = format!("CHANGE-{}", user.name);
        text.replace(&placeholder, user.password)
    })
}

/// A user as whom the service runs: a name and the rules for it.
#[derive(Debug, Clone)]
pub struct ServiceUser {
    pub name: String,
    rules: Vec<String>,
}

impl ServiceUser {
    /// The shipped one.
    pub fn shipped() -> Self {
        let users = with_passwords(USERS);
        let line = users.lines().find_map(|line| line.strip_prefix("user withheld ")).unwrap();
        Self { name: SERVICE.name.to_owned(), rules: line.split(' ').map(str::to_owned).collect() }
    }

    /// The same in another namespace, which is also this user's name.
    pub fn in_namespace(namespace: &str) -> Self {
        let mut user = Self::shipped();
        let keys = user.rules.iter_mut().find(|rule| *rule == "~{withheld}:*").unwrap();
        *keys = format!("~{{{namespace}}}:*");
        user.name = namespace.to_owned();
        user
    }

    /// The same with what the documentation adds on a cluster.
    pub fn on_cluster(mut self) -> Self {
        let (_, rest) = README.split_once("On a cluster also `").unwrap();
        self.rules.extend(rest.split('`').next().unwrap().split(' ').map(str::to_owned));
        self
    }

    /// The commands that it may run, as the file has them: `+xadd`, `+config|get`.
    pub fn rights(&self) -> Vec<String> {
        self.rules.iter().filter(|rule| rule.starts_with('+')).cloned().collect()
    }

    /// The same without one of these.
    pub fn without(mut self, right: &str) -> Self {
        let before = self.rules.len();
        self.rules.retain(|rule| rule != right);
        assert_eq!(self.rules.len(), before - 1, "{right} is not among the rights");
        self
    }

    /// The words that give these rights to a new user of an ACL.
    pub fn words(&self) -> Vec<&str> {
        [self.name.as_str(), "reset"].into_iter().chain(self.rules.iter().map(String::as_str)).collect()
    }

    /// How a URL names it.
    pub fn login(&self) -> String {
        format!("{}:{}@", self.name, SERVICE.password)
    }
}

/// The shipped file, but for what the service may do.
pub fn users(service: &ServiceUser) -> String {
    let mut file = String::new();
    for line in with_passwords(USERS).lines() {
        if line.starts_with("user withheld ") {
            file.push_str(&format!("user {} {}\n", service.name, service.rules.join(" ")));
        } else {
            file.push_str(&format!("{line}\n"));
        }
    }
    file
}

/// How a server logs in to its primary.
pub fn replication_lines() -> [String; 2] {
    [format!("masteruser {}", REPLICATION.name), format!("masterauth {}", REPLICATION.password)]
}

/// Of the shipped file of a Sentinel: its users, and how it logs in. They stand after the line that names the primary.
pub fn sentinel_lines() -> Vec<String> {
    let wanted = ["user ", "sentinel auth-", "sentinel sentinel-"];
    let lines = with_passwords(SENTINEL_CONF);
    lines.lines().filter(|line| wanted.iter().any(|start| line.starts_with(start))).map(str::to_owned).collect()
}

/// Tells a command of ours who it is to Sentinels.
pub fn log_in_to_sentinels(command: &mut Command) -> &mut Command {
    command.env("WITHHELD_REDIS_SENTINEL_USER", SERVICE.name);
    command.env("WITHHELD_REDIS_SENTINEL_PASSWORD", SERVICE.password)
}

mod tests {
    use super::*;

    /// The line in the documentation is for who copies it from there.
    #[test]
    fn the_documentation_and_the_file_give_the_service_the_same_rights() {
        let line = USERS.lines().find(|line| line.starts_with("user withheld ")).unwrap();
        assert!(README.contains(&line.replace("CHANGE-withheld", "PASSWORD")), "{line}");
        let rights = ServiceUser::shipped().rights();
        assert!(rights.len() >= 20 && rights.iter().any(|right| right == "+xadd"), "{rights:?}");
        let added = ServiceUser::shipped().on_cluster().rights().split_off(rights.len());
        assert_eq!(added, ["+cluster|info", "+cluster|keyslot", "+cluster|slots"]);
    }

    #[test]
    fn every_password_of_the_shipped_files_is_set() {
        let users = users(&ServiceUser::in_namespace("staging"));
        assert!(
            !users.contains("CHANGE") && users.contains("user staging on >password-of-withheld resetkeys ~{staging}:*")
        );
        let sentinel = sentinel_lines().join("\n");
        assert!(!sentinel.contains("CHANGE") && sentinel.contains("sentinel auth-pass withheld password-of-sentinel"));
        assert!(sentinel.contains("user default off") && sentinel.contains("sentinel sentinel-pass"));
    }

    /// The namespace of a set of the chart's values has its keys in the shipped file.
    #[test]
    fn the_shipped_rights_are_for_the_namespaces_of_the_charts_values() {
        for values in [
            include_str!("../../../deploy/helm/withheld/values.yaml"),
            include_str!("../../../deploy/helm/withheld/values-production.yaml"),
        ] {
            let (_, journal) = values.split_once("\njournal:\n").unwrap();
            let namespace = journal.lines().find_map(|line| line.strip_prefix("  namespace: ")).unwrap();
            assert!(USERS.contains(&format!(" ~{{{namespace}}}:* ")), "{namespace}");
        }
    }
}
