//! Connections: very many, very slow, and very short.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Scene;
use crate::frames::{Frame, GREETING, HEADERS, Wire, literal};
use crate::redis::until;

fn address(scene: &Scene) -> String {
    scene.service.queries.trim_start_matches("http://").to_owned()
}

/// As many open files as the system lets us have.
fn many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_take_their_places_and_no_more() {
    many_files();
    let scene = Scene::set(&["--max-connections", "2004"]).await;
    let mut idle = JoinSet::new();
    for _ in 0..3_000 {
        let address = address(&scene);
        idle.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(GREETING).await;
            stream
        });
    }
    let mut idle = idle.join_all().await;
    until("all places are taken", async || scene.held().await.1 == 2_000).await;
    let mut turned_away = 0;
    for stream in &mut idle {
        let mut settings = [0; 9];
        turned_away += usize::from(stream.read_exact(&mut settings).await.is_err());
    }
    assert_eq!(turned_away, 1_000);
    drop(idle);
    scene.over("3,000 idle connections for 2,000 places", "1,000 turned away at once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_hello_byte_by_byte_is_gone_before_it_is_said() {
    let scene = Scene::set(&[]).await;
    let mut slow = JoinSet::new();
    for number in 0..300_usize {
        let address = address(&scene);
        slow.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // One a second would take half a minute and more.
            for byte in GREETING.iter().skip(number % 3) {
                if stream.write_all(&[*byte]).await.is_err() {
                    return true;
                }
                let mut end = [0; 64];
                let closed = tokio::time::timeout(std::time::Duration::from_secs(1), stream.read(&mut end)).await;
                if matches!(closed, Ok(Ok(0) | Err(_))) {
                    return true;
                }
            }
            false
        });
    }
    let gone = slow.join_all().await.into_iter().filter(|gone| *gone).count();
    assert_eq!(gone, 300);
    scene.over("300 that say hello byte by byte", "all cut off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_never_finished_wait_alone() {
    let scene = Scene::set(&[]).await;
    let mut wires = Vec::new();
    for _ in 0..50 {
        let mut wire = Wire::greet(&scene.service.queries).await;
        // Half a head: another one before it has ended would be an error of the whole connection.
        wire.send(&Frame::of(HEADERS, 0, 1, &literal(":method", "POST"))).await;
        wires.push(wire);
    }
    for _ in 0..50 {
        let mut wire = Wire::greet(&scene.service.queries).await;
        for stream in (1..200).step_by(2) {
            wire.begin(stream, "withheld.v1.VisibilityService/Check").await;
        }
        wires.push(wire);
    }
    until("they are all there", async || scene.held().await.1 == 100).await;
    drop(wires);
    scene.over("5,050 calls that are never finished", "they hang up before they are given up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_come_and_go_leave_nothing() {
    let scene = Scene::set(&[]).await;
    for _ in 0..20 {
        let mut coming = JoinSet::new();
        for number in 0..100_usize {
            let address = address(&scene);
            coming.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let _ = stream.write_all(&GREETING[..number % GREETING.len()]).await;
                if number % 2 == 0 {
                    // Reset, not closed.
                    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                }
            });
        }
        coming.join_all().await;
    }
    scene.over("2,000 connections that come and go", "all gone").await;
}
