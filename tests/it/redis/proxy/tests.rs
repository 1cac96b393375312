//! The proxy does to connections what it says.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::super::servers::RedisServer;
use super::super::{PATIENCE, until};
use super::*;

/// Long enough to call it silence.
const SILENCE: Duration = Duration::from_millis(200);

async fn connect(proxy: &Proxy) -> RedisResult<MultiplexedConnection> {
    let patient = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(None);
    Client::open(proxy.url()).unwrap().get_multiplexed_async_connection_with_config(&patient).await
}

async fn incr(connection: &MultiplexedConnection, key: &str) -> RedisResult<u64> {
    redis::cmd("INCR").arg(key).query_async(&mut connection.clone()).await
}

async fn mk() -> (RedisServer, Proxy) {
    let server = RedisServer::start_open(&[]).await;
    let proxy = Proxy::start(server.port());
    (server, proxy)
}

#[tokio::test]
async fn what_passes_is_counted_and_what_is_delayed_comes_later() {
    let (_server, proxy) = mk().await;
    let connection = connect(&proxy).await.unwrap();
    // The client says who it is before anything else, and does not wait for the answer.
    assert_eq!(incr(&connection, "key").await.unwrap(), 1);
    let before = proxy.traffic();
    assert_eq!((before.accepted, before.open), (1, 1));
    assert_eq!(incr(&connection, "key").await.unwrap(), 2);
    let after = proxy.traffic();
    // INCR key in the protocol's words, and `:1`.
    assert_eq!((after.to_server - before.to_server, after.to_client - before.to_client), (23, 4));
    proxy.set(Way::ToServer, Flow::Delay(Duration::from_millis(50)));
    proxy.set(Way::ToClient, Flow::Delay(Duration::from_millis(30)));
    let started = Instant::now();
    // Delays of what is under way at once do not add up.
    let mut many = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let connection = connection.clone();
        many.spawn(async move { incr(&connection, "key").await.unwrap() });
    }
    many.join_all().await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(80), "{took:?}");
    assert!(took < Duration::from_millis(80 * 10), "{took:?}");
    drop(connection);
    until("the connection is closed on both sides", async || proxy.traffic().open == 0).await;
}

#[tokio::test]
async fn in_a_black_hole_nothing_arrives_and_nobody_is_told() {
    let (server, proxy) = mk().await;
    let connection = connect(&proxy).await.unwrap();
    for (way, done_meanwhile) in [(Way::ToServer, false), (Way::ToClient, true), (Way::Both, false)] {
        server.command(&["SET", "key", "0"]).await;
        proxy.set(way, Flow::Blackhole);
        let (held, anew) = (incr(&connection, "key"), connect(&proxy));
        let mut both = std::pin::pin!(async { tokio::join!(held, anew) });
        timeout(SILENCE, &mut both).await.map(drop).unwrap_err();
        assert_eq!(proxy.traffic().open, 2, "the new connection was accepted");
        assert_eq!(server.ask::<u64>(&["GET", "key"]).await, u64::from(done_meanwhile), "{way:?}");
        proxy.heal();
        let (held, anew) = both.await;
        assert_eq!(held.unwrap(), 1);
        assert_eq!(incr(&anew.unwrap(), "key").await.unwrap(), 2);
        until("one connection is left", async || proxy.traffic().open == 1).await;
    }
    // A server that goes away in a black hole is not seen to.
    proxy.set(Way::ToClient, Flow::Blackhole);
    server.kill();
    timeout(SILENCE, incr(&connection, "key")).await.unwrap_err();
    proxy.heal();
    incr(&connection, "key").await.unwrap_err();
}

#[tokio::test]
async fn a_wall_is_a_black_hole_for_one_client_alone() {
    let (_server, proxy) = mk().await;
    let other: Ipv4Addr = [127, 0, 0, 9].into();
    proxy.wall_off(other);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((other, 0).into()).unwrap();
    let mut walled = socket.connect((Ipv4Addr::LOCALHOST, proxy.port()).into()).await.unwrap();
    walled.write_all(b"PING\r\n").await.unwrap();
    incr(&connect(&proxy).await.unwrap(), "key").await.unwrap();
    let mut answer = [0; 7];
    timeout(SILENCE, walled.read_exact(&mut answer)).await.unwrap_err();
    proxy.heal();
    walled.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[tokio::test]
async fn connections_are_cut_and_refused_at_once() {
    let (_server, proxy) = mk().await;
    let connection = connect(&proxy).await.unwrap();
    proxy.cut_now();
    assert_eq!(proxy.traffic().open, 0);
    incr(&connection, "key").await.unwrap_err();
    let connection = connect(&proxy).await.unwrap();
    proxy.refuse();
    assert_eq!(proxy.traffic().open, 0);
    incr(&connection, "key").await.unwrap_err();
    assert!(connect(&proxy).await.unwrap_err().is_connection_refusal());
    proxy.heal();
    let connection = connect(&proxy).await.unwrap();
    assert_eq!(incr(&connection, "key").await.unwrap(), 1);
    // Others go elsewhere now; this one stays.
    let elsewhere = RedisServer::start_open(&[]).await;
    proxy.retarget(elsewhere.port());
    assert_eq!(incr(&connect(&proxy).await.unwrap(), "key").await.unwrap(), 1);
    assert_eq!(incr(&connection, "key").await.unwrap(), 2);
}

#[tokio::test]
async fn an_answer_is_cut_after_so_many_bytes() {
    let (server, proxy) = mk().await;
    server.command(&["SET", "key", "a value of some length"]).await;
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
    proxy.cut_mid_reply(9);
    client.write_all(b"GET key\r\n").await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"$22\r\na va");
    assert!(!proxy.is_trap_set());
}

#[tokio::test]
async fn a_request_is_cut_before_or_after_it_is_done() {
    let (server, proxy) = mk().await;
    let (writer, other) = (connect(&proxy).await.unwrap(), connect(&proxy).await.unwrap());
    proxy.cut_before("unlucky");
    assert_eq!(incr(&other, "lucky").await.unwrap(), 1);
    incr(&writer, "unlucky").await.unwrap_err();
    assert_eq!(server.ask::<Option<u64>>(&["GET", "unlucky"]).await, None);
    let writer = connect(&proxy).await.unwrap();
    proxy.cut_reply_to("unlucky", 0);
    assert_eq!(incr(&other, "lucky").await.unwrap(), 2);
    assert!(proxy.is_trap_set());
    incr(&writer, "unlucky").await.unwrap_err();
    assert_eq!(server.ask::<Option<u64>>(&["GET", "unlucky"]).await, Some(1));
    let writer = connect(&proxy).await.unwrap();
    assert_eq!(incr(&writer, "unlucky").await.unwrap(), 2);
}
