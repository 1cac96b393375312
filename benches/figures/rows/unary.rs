//! Check, against a stock tonic echo: how much of a core each takes for one call.

use std::path::PathBuf;

use crate::client::Ask;
use crate::data::Journals;
use crate::echo;
use crate::load::{Answers, Load};
use crate::program::{CLIENT, Pinned, SERVER, service_on};
use crate::table::{Aim, Figure, Rounds, Unit};

const ROUNDS: usize = 5;
/// Connections and streams of each, and how many times as cheap as the echo it is to be.
const LOADS: [(usize, usize, f64); 2] = [(8, 32, 2.0), (64, 4, 1.5)];

/// Files of a certificate, its key, and the authority's certificate.
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

pub async fn check(journals: &Journals) -> Vec<Figure> {
    measure(journals, None).await
}

/// Both in turn, each on a core of its own, asked from the other one.
pub async fn measure(journals: &Journals, tls: Option<&Tls>) -> Vec<Figure> {
    let journal = journals.million().await;
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let files = tls.map(|tls| [path(&tls.certificate), path(&tls.key)]);
    let flags: Vec<&str> =
        files.iter().flat_map(|[certificate, key]| ["--tls-cert", certificate, "--tls-key", key]).collect();
    let service = match tls {
        None => service_on(SERVER, journal, &[]).await,
        // Health cannot be asked for without TLS; a moment is enough to load this.
        Some(_) => {
            let service = crate::program::start_on(SERVER, journal, &flags);
            while !service.log().contains(" serving\n") {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            service
        }
    };
    let arguments: Vec<&str> = std::iter::once(echo::ROLE).chain(files.iter().flatten().map(String::as_str)).collect();
    let mut stock = Pinned::this(SERVER, &arguments);
    let stock_address = stock.line();
    let mut figures = Vec::new();
    for (connections, streams, aim) in LOADS {
        let ask = |to: &str, pid: u32| {
            let load = Load::new(to, pid, connections, streams, Ask::Check);
            Load { authority: tls.map(|tls| tls.authority.clone()), ..load }.on(CLIENT)
        };
        let rounds: Vec<[Answers; 2]> =
            (0..ROUNDS).map(|_| [ask(&service.queries, service.pid()), ask(&stock_address, stock.pid())]).collect();
        for [ours, theirs] in &rounds {
            let apart = ours.bytes_each() - theirs.bytes_each();
            assert!(apart.abs() < 2.0, "answers have {} and {} bytes", ours.bytes_each(), theirs.bytes_each());
        }
        figures.extend(compare(&rounds, connections, streams, tls.is_none().then_some(aim), tls.is_some()));
    }
    assert!(service.stop().success());
    figures
}

fn compare(rounds: &[[Answers; 2]], connections: usize, streams: usize, aim: Option<f64>, tls: bool) -> [Figure; 2] {
    let of =
        |which: usize, what: fn(&Answers) -> f64| -> Rounds { rounds.iter().map(|both| what(&both[which])).collect() };
    let [ours, theirs] = [0, 1].map(|which| of(which, Answers::cpu_each));
    let ratio = theirs.of(&ours);
    let what = format!("Check{}, {connections} connections × {streams} streams", if tls { " by TLS" } else { "" });
    let figure = Figure::new(format!("{what}: time of a core"), Unit::Seconds, &ours)
        .against("stock tonic echo", Unit::Seconds, &theirs)
        .ratio(&ratio);
    let figure = match aim {
        Some(aim) => figure.aim(Aim::Least(aim), Unit::Times, ratio.median()),
        None => figure,
    };
    let [ours, theirs] = [0, 1].map(|which| of(which, Answers::a_second));
    let rate = Figure::new("  answers, on one core", Unit::ASecond, &ours)
        .against("stock tonic echo", Unit::ASecond, &theirs)
        .ratio(&ours.of(&theirs));
    [figure, rate]
}
