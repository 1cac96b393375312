//! The server does what the tests of the service rely on.

use redis::{ClientTlsConfig, TlsCertificates};

use super::*;

/// A client as the service is one: by the URL, over the network.
async fn ping(client: RedisResult<Client>) -> Result<(), String> {
    let client = client.map_err(|error| error.to_string())?;
    let patient = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
    let mut connection = connection.map_err(|error| error.to_string())?;
    // With TLS 1.3 a client learns only from the first answer that its certificate was refused.
    redis::cmd("GET").arg("{withheld}:nothing").query_async(&mut connection).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_not_a_cut_file() {
    let server = RedisServer::start().await;
    for value in ["1", "2", "3"] {
        server.command(&["RPUSH", "list", value]).await;
    }
    let (port, pid) = (server.port(), server.pid());
    server.kill();
    assert!(!server.is_up());
    ping(Client::open(server.url())).await.unwrap_err();
    server.restart().await;
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.ask::<Vec<u8>>(&["LRANGE", "list", "0", "-1"]).await, [1, 2, 3]);
    // The last write, of which a crash leaves half.
    server.kill();
    server.truncate_aof(5);
    server.restart().await;
    assert_eq!(server.ask::<Vec<u8>>(&["LRANGE", "list", "0", "-1"]).await, [1, 2]);
}

#[tokio::test]
async fn its_settings_are_durable_unless_told_otherwise() {
    let setting = async |server: &RedisServer, key: &str| server.ask::<Vec<String>>(&["CONFIG", "GET", key]).await;
    let server = RedisServer::start().await;
    for (key, value) in
        [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction"), ("save", "")]
    {
        assert_eq!(setting(&server, key).await, [key, value]);
    }
    let careless = RedisServer::start_with(&["appendfsync everysec", "maxmemory-policy allkeys-lru"]).await;
    assert_eq!(setting(&careless, "appendfsync").await, ["appendfsync", "everysec"]);
    careless.config_set("appendfsync", "no").await;
    assert_eq!(setting(&careless, "appendfsync").await, ["appendfsync", "no"]);
}

#[tokio::test]
async fn a_paused_server_says_nothing_until_it_is_resumed() {
    let server = RedisServer::start().await;
    server.pause();
    let mut answer = std::pin::pin!(server.command(&["PING"]));
    tokio::time::timeout(Duration::from_millis(200), &mut answer).await.unwrap_err();
    server.resume();
    assert_eq!(answer.await, Value::SimpleString("PONG".into()));
    server.pause();
    server.kill();
    server.restart().await;
}

#[tokio::test]
async fn over_tls_it_wants_its_authority_and_if_told_so_a_client_certificate() {
    let certificates = Certificates::mk();
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let identity = |from: &Certificates| {
        Some(ClientTlsConfig { client_cert: read(from.client_cert()), client_key: read(from.client_key()) })
    };
    for (program, required) in ServerProgram::WITH_TLS.into_iter().flat_map(|one| [(one, false), (one, true)]) {
        let server = RedisServer::start_tls(program, &certificates, required).await;
        assert!(server.url().starts_with("rediss://"));
        let client = |from: &Certificates, client_tls| {
            Client::build_with_tls(server.url(), TlsCertificates { client_tls, root_cert: Some(read(from.ca())) })
        };
        ping(client(&certificates, identity(&certificates))).await.unwrap();
        assert_eq!(ping(client(&certificates, None)).await.is_err(), required);
        let other = Certificates::mk();
        ping(client(&other, identity(&certificates))).await.unwrap_err();
        assert_eq!(ping(client(&certificates, identity(&other))).await.is_err(), required);
        ping(Client::open(server.url().replace("rediss:", "redis:"))).await.unwrap_err();
    }
}

#[tokio::test]
async fn with_the_shipped_acl_the_service_may_do_what_it_needs_and_nobody_else_anything() {
    for program in ServerProgram::ALL {
        let server = RedisServer::start_as(&Setup { program, ..Setup::default() }).await;
        let run = async |url: String, words: &[&str]| {
            let mut service = Client::open(url)?.get_multiplexed_async_connection().await?;
            redis::Cmd::new().arg(words).query_async::<Value>(&mut service).await
        };
        let denied = async |url: String, words: &[&str]| run(url, words).await.unwrap_err().code().map(str::to_owned);
        run(server.url(), &["SET", "{withheld}:key", "value"]).await.unwrap();
        let refused: [&[&str]; 3] = [&["SET", "other", "value"], &["KEYS", "*"], &["CONFIG", "SET", "save", ""]];
        for words in refused {
            assert_eq!(denied(server.url(), words).await.as_deref(), Some("NOPERM"), "{words:?}");
        }
        let anybody = format!("redis://127.0.0.1:{}", server.port());
        assert!(ping(Client::open(anybody)).await.unwrap_err().contains("NOAUTH"));
        assert_eq!(server.ask::<String>(&["GET", "{withheld}:key"]).await, "value");

        let mut staging = ServiceUser::in_namespace("staging");
        let url = server.url_as(&staging).await;
        server.kill();
        server.restart().await;
        run(url.clone(), &["GET", "{staging}:key"]).await.unwrap();
        assert_eq!(denied(url, &["GET", "{withheld}:key"]).await.as_deref(), Some("NOPERM"));
        staging = staging.without("+get");
        let url = server.url_as(&staging).await;
        assert_eq!(denied(url, &["GET", "{staging}:key"]).await.as_deref(), Some("NOPERM"));
    }
}
