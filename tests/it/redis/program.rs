//! The server programs that people run, and so the tests. `scripts/install-test-deps` installs all of them.

use std::path::{Path, PathBuf};

/// The environment variable that says which one the suites run on that do not run on all of them.
const VARIABLE: &str = "WITHHELD_TEST_SERVER";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerProgram {
    /// Debian's Redis, or the `redis-server` on the path: version 7.0 in Debian 12.
    DebianRedis,
    Redis74,
    Valkey9,
}

impl ServerProgram {
    pub const ALL: [Self; 3] = [Self::DebianRedis, Self::Redis74, Self::Valkey9];

    /// Those that speak TLS. The Valkey that is to be had as a wheel is built without it.
    pub const WITH_TLS: [Self; 2] = [Self::DebianRedis, Self::Redis74];

    /// What [`VARIABLE`] calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DebianRedis => "debian-redis",
            Self::Redis74 => "redis-7.4",
            Self::Valkey9 => "valkey-9",
        }
    }

    /// The one that the environment asks for; Debian's Redis if it asks for none.
    pub fn from_env() -> Self {
        let Some(name) = std::env::var_os(VARIABLE) else { return Self::DebianRedis };
        Self::ALL.into_iter().find(|program| program.name() == name).unwrap_or_else(|| {
            panic!("{VARIABLE} is {name:?}: set it to one of {}", Self::ALL.map(Self::name).join(", "))
        })
    }

    /// The program's file.
    pub fn file(self) -> PathBuf {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-redis");
        let found = match self {
            Self::DebianRedis => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let mut dirs = std::env::split_paths(&path).chain([installed]);
                dirs.find_map(|dir| Some(dir.join("redis-server")).filter(|program| program.is_file()))
            }
            Self::Redis74 => Some(installed.join("redis-7.4/redis-server")),
            Self::Valkey9 => Some(installed.join("valkey-9/valkey-server")),
        };
        let found = found.filter(|program| program.is_file());
        found.unwrap_or_else(|| panic!("{} is not installed: run `scripts/install-test-deps`", self.name()))
    }
}

mod tests {
    use std::process::Command;

    use super::*;
    use crate::redis::servers::RedisServer;
    use crate::redis::setup::Setup;

    #[test]
    fn each_program_is_the_version_that_it_is_named_after() {
        for (program, version) in [
            (ServerProgram::DebianRedis, " v="),
            (ServerProgram::Redis74, " v=7.4."),
            (ServerProgram::Valkey9, " v=9."),
        ] {
            let output = Command::new(program.file()).arg("--version").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains(version), "{}: {said}", program.name());
        }
    }

    /// As the service sees them.
    #[tokio::test]
    async fn each_program_runs() {
        for (program, version) in
            [(ServerProgram::Redis74, "redis_version:7.4."), (ServerProgram::Valkey9, "valkey_version:9.")]
        {
            let server = RedisServer::start_as(&Setup { program, ..Setup::default() }).await;
            let info: String = server.ask(&["INFO", "server"]).await;
            assert!(info.contains(version), "{info}");
        }
    }

    /// Should the wheel's program learn it, the tests of TLS are to run on it, too.
    #[test]
    fn a_program_that_is_not_tried_with_tls_has_none() {
        for program in ServerProgram::ALL.into_iter().filter(|program| !ServerProgram::WITH_TLS.contains(program)) {
            let output = Command::new(program.file()).args(["--port", "0", "--tls-port", "1"]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                !output.status.success() && said.contains("Failed finding TLS support"),
                "{}: {said}",
                program.name()
            );
        }
    }
}
