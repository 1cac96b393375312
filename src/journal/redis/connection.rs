//! Connections to single Redis servers, and what their errors mean for whoever sent a command.
//!
//! Every call has a time limit of its own: the driver's are off, because a blocking read and an append differ. A link
//! that went dead without a word is found out by these limits, by keepalive and by `TCP_USER_TIMEOUT`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ErrorKind, FromRedisValue,
    IntoConnectionInfo as _, Pipeline, RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, Value,
};

use tracing::warn;

use super::options::{Credentials, Node, RedisOptions, SetUpError, TlsFiles};
use super::scripts::UnexpectedAnswer;
use crate::journal::error::UnreachableKind;
use crate::telemetry::causes;

/// What became of a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No answer came: it may have been carried out.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection broke: it may have been carried out.
    #[error("the connection broke")]
    Broken(#[source] RedisError),
    /// The server said no: it was not carried out.
    #[error("the server refused{}", missing_right(.0))]
    Refused(#[source] RedisError),
    /// What the server said makes no sense: it may have been carried out.
    #[error(transparent)]
    Unexpected(#[from] UnexpectedAnswer),
}

impl CallError {
    /// Whether the connection is of no more use: dead, or to a server that is not the primary (any more).
    pub(super) fn ends_session(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Broken(_) | Self::Unexpected(_) => true,
            Self::Refused(error) => match error.kind() {
                ErrorKind::Server(kind) => match kind {
                    ServerErrorKind::NoScript
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading
                    | ServerErrorKind::ReadOnly => true,
                    // What is refused here would be refused on a new connection, too.
                    _ => false,
                },
                // A blocked read is told so when its server is demoted.
                _ => error.code() == Some("UNBLOCKED"),
            },
        }
    }

    /// What kind of cause it is. Over TLS without a certificate of its own, a connection that breaks at its beginning was
    /// broken off by a server that asks for one: it says so, if the answer arrives before the end of the connection does.
    pub(super) fn kind(&self, tls_without_certificate: bool) -> UnreachableKind {
        use UnreachableKind as Kind;
        let error = match self {
            Self::TimedOut(_) => return Kind::TimedOut,
            Self::Unexpected(_) => return Kind::Other,
            Self::Broken(error) | Self::Refused(error) => error,
        };
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => return Kind::WrongPassword,
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => return Kind::MissingRight,
            (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => return Kind::Loading,
            (ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown), _) => return Kind::NotPrimary,
            (ErrorKind::Server(_) | ErrorKind::Extension, _) => return Kind::Other,
            _ if error.is_connection_refusal() => return Kind::ConnectionRefused,
            _ if error.is_timeout() => return Kind::TimedOut,
            _ => {}
        }
        // The driver keeps only the text of what its layers said.
        let said = causes(error);
        let says = |any: &[&str]| any.iter().any(|part| said.contains(part));
        match () {
            () if says(&["failed to lookup address", "No address found"]) => Kind::NameNotResolved,
            () if says(&["invalid peer certificate"]) => Kind::UntrustedCertificate,
            () if says(&["InvalidContentType", "corrupt message"]) => Kind::NotTls,
            () if says(&["fatal alert: Certificate", "fatal alert: BadCertificate", "fatal alert: UnknownCA"]) => {
                Kind::ClientCertificate
            }
            () if tls_without_certificate => Kind::ClientCertificate,
            () => Kind::Other,
        }
    }

    /// Whether the server refused because of the keys, and not of the command.
    pub(super) fn is_about_keys(&self) -> bool {
        match self {
            Self::Refused(error) => error.detail().is_some_and(|said| said.contains("permissions to access")),
            Self::TimedOut(_) | Self::Broken(_) | Self::Unexpected(_) => false,
        }
    }

    /// Whether the server said that it did not carry the call out.
    pub(super) const fn refused(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Broken(_) | Self::Unexpected(_) => false,
            Self::Refused(_) => true,
        }
    }
}

/// Which right is missing, if that is why a server refuses: it says that the user "has no permissions to run the 'config|get'
/// command", and administrators know that as `CONFIG GET`.
fn missing_right(error: &RedisError) -> String {
    let said = error.detail().and_then(|detail| detail.split_once("has no permissions to run the '"));
    let Some((command, _)) = said.and_then(|(_, rest)| rest.split_once('\'')) else { return String::new() };
    let command = command.replace('|', " ").to_uppercase();
    format!(": the ACL user may not call `{command}`, allow it (deploy/redis/users.acl)")
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => Self::Refused(error),
            _ => Self::Broken(error),
        }
    }
}

/// Sends a command and waits for its answer, no longer than so long.
pub(super) async fn call<T: FromRedisValue>(
    connection: &MultiplexedConnection,
    command: &Cmd,
    limit: Duration,
) -> Result<T, CallError> {
    let mut connection = connection.clone();
    match tokio::time::timeout(limit, command.query_async(&mut connection)).await {
        Ok(answer) => answer.map_err(CallError::from),
        Err(_) => Err(CallError::TimedOut(limit)),
    }
}

/// Sends commands at once, and gives an answer for each.
pub(super) async fn call_all(
    connection: &MultiplexedConnection,
    pipeline: &mut Pipeline,
    limit: Duration,
) -> Result<Vec<Result<Value, CallError>>, CallError> {
    let mut connection = connection.clone();
    let answers = pipeline.ignore_errors().query_async::<Vec<Result<Value, RedisError>>>(&mut connection);
    match tokio::time::timeout(limit, answers).await {
        Ok(answers) => Ok(answers?.into_iter().map(|answer| answer.map_err(CallError::from)).collect()),
        Err(_) => Err(CallError::TimedOut(limit)),
    }
}

/// Opens connections, all with the same settings.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tls: Option<Arc<Certificates>>,
    timeout: Duration,
}

/// Certificates, read again for each new connection: they are renewed while the process runs.
#[derive(Debug)]
struct Certificates {
    files: TlsFiles,
    /// Those that could be read last; used while the files cannot be.
    last: Mutex<TlsCertificates>,
}

impl Certificates {
    fn read(files: &TlsFiles) -> Result<TlsCertificates, SetUpError> {
        let read =
            |path: &Path| std::fs::read(path).map_err(|source| SetUpError::File { path: path.to_owned(), source });
        let root_cert = files.ca.as_deref().map(read).transpose()?;
        let client_tls = match &files.identity {
            Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
            None => None,
        };
        let read = TlsCertificates { client_tls, root_cert };
        // What makes no sense is found out now, not when a server is to be connected to.
        let somewhere =
            ConnectionAddr::TcpTls { host: "localhost".to_owned(), port: 6379, insecure: false, tls_params: None };
        let tls = |error: RedisError| SetUpError::Tls(error.into());
        Client::build_with_tls(somewhere.into_connection_info().map_err(tls)?, read.clone()).map_err(tls)?;
        Ok(read)
    }

    fn current(&self) -> TlsCertificates {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match Self::read(&self.files) {
            Ok(read) => *last = read,
            Err(error) => {
                warn!(error = causes(&error), "certificates for Redis not read again, going on with those before")
            }
        }
        last.clone()
    }
}

impl Connector {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, SetUpError> {
        let files = &options.tls;
        if !options.url.tls {
            let given = files.ca.is_some() || files.identity.is_some();
            return if given {
                Err(SetUpError::NotEncrypted(options.url.to_string()))
            } else {
                Ok(Self { tls: None, timeout: options.timeout })
            };
        }
        // Another part of the process may have chosen before: any choice serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let last = Mutex::new(Certificates::read(files)?);
        let certificates = Certificates { files: files.clone(), last };
        Ok(Self { tls: Some(Arc::new(certificates)), timeout: options.timeout })
    }

    /// Whether connections are encrypted, and there is no certificate to show.
    pub(super) fn has_tls_without_certificate(&self) -> bool {
        self.tls.as_ref().is_some_and(|certificates| certificates.files.identity.is_none())
    }

    fn client(&self, (host, port): &Node, who: &Credentials, database: i64) -> Result<Client, RedisError> {
        let address = match self.tls {
            Some(_) => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let keepalive = redis::io::tcp::socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(5))
            .with_interval(Duration::from_secs(1))
            .with_retries(3);
        let tcp =
            TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(Duration::from_secs(5));
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = &who.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &who.password {
            settings = settings.set_password(password);
        }
        let info = address.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(settings);
        match &self.tls {
            Some(certificates) => Client::build_with_tls(info, certificates.current()),
            None => Client::open(info),
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(
        &self,
        node: &Node,
        who: &Credentials,
        database: i64,
    ) -> Result<MultiplexedConnection, CallError> {
        let client = self.client(node, who, database)?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(CallError::TimedOut(self.timeout)),
        }
    }
}
