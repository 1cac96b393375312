//! Two cores instead of one, and TLS.

use crate::client::Ask;
use crate::data::Journals;
use crate::load::{Answers, Load};
use crate::program::{BOTH, CLIENT, service_on};
use crate::redis::tls::Certificates;
use crate::rows::unary::{self, Tls};
use crate::table::{Figure, Rounds, Unit};

const ROUNDS: usize = 5;

/// One query thread and two, both with both cores, of which whoever asks takes its part, too.
pub async fn cores(journals: &Journals) -> Vec<Figure> {
    let journal = journals.million().await;
    let copy = journals.dir();
    let copy = crate::data::copy_of(journal, copy.path());
    let one = service_on(BOTH, journal, &["--query-threads", "1"]).await;
    let two = service_on(BOTH, &copy, &["--query-threads", "2"]).await;
    let ask =
        |service: &crate::harness::Service| Load::new(&service.queries, service.pid(), 64, 4, Ask::Check).on(CLIENT);
    let rounds: Vec<[Answers; 2]> = (0..ROUNDS).map(|_| [ask(&one), ask(&two)]).collect();
    let [single, double] = [0, 1].map(|which| -> Rounds { rounds.iter().map(|both| both[which].a_second()).collect() });
    let share: Rounds = rounds
        .iter()
        .map(|[_, double]| {
            let all: f64 = double.query_threads.iter().sum();
            double.query_threads.iter().copied().fold(f64::INFINITY, f64::min) / all
        })
        .collect();
    assert!(rounds.iter().all(|[_, double]| double.query_threads.len() == 2));
    vec![
        Figure::new("Check, 2 query threads, 64 connections × 4 streams: answers", Unit::ASecond, &double)
            .against("1 query thread", Unit::ASecond, &single)
            .ratio(&double.of(&single)),
        Figure::new("  share of the query thread that has less to do", Unit::Share, &share),
    ]
}

/// The rows of Check again, encrypted.
pub async fn tls(journals: &Journals) -> Vec<Figure> {
    let certificates = Certificates::mk();
    let tls =
        Tls { certificate: certificates.server_cert(), key: certificates.server_key(), authority: certificates.ca() };
    unary::measure(journals, Some(&tls)).await
}
