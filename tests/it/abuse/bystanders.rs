//! Timeline services that ask at a steady pace, whatever goes on beside them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use withheld::pb::v1 as pb;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;

use crate::redis::until;

/// How many there are.
pub const CONNECTIONS: u64 = 4;
/// How often each asks: the next time is not put off by an answer that is late.
const EVERY: Duration = Duration::from_millis(10);
/// How many answers there are at least to be told about.
const ENOUGH: usize = 400;

pub struct Bystanders {
    stop: watch::Sender<bool>,
    answered: Arc<AtomicUsize>,
    asking: JoinSet<Vec<Duration>>,
}

/// How long they have waited for their answers.
pub struct Waited(Vec<Duration>);

impl Bystanders {
    pub async fn asking(endpoint: &str) -> Self {
        let endpoint = Channel::from_shared(endpoint.to_owned()).unwrap();
        Self::over(async || endpoint.connect().await.unwrap(), true).await
    }

    /// On connections of another kind, to a service that withholds account 7 in India, or nobody.
    pub async fn over(connect: impl AsyncFn() -> Channel, withheld: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let answered = Arc::<AtomicUsize>::default();
        let mut asking = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let client = VisibilityServiceClient::new(connect().await);
            asking.spawn(ask(client, withheld, stopped.clone(), Arc::clone(&answered)));
        }
        Self { stop, answered, asking }
    }

    /// Has them stop. None has had an error or a wrong verdict, or this fails.
    pub async fn stop(self) -> Waited {
        // Also those after the attack: what it left behind would be theirs.
        until("enough are answered", async || self.answered.load(Ordering::Relaxed) >= ENOUGH).await;
        self.stop.send(true).unwrap();
        let mut all = self.asking.join_all().await.concat();
        all.sort();
        Waited(all)
    }
}

async fn ask(
    client: VisibilityServiceClient<Channel>,
    withheld: bool,
    stopped: watch::Receiver<bool>,
    answered: Arc<AtomicUsize>,
) -> Vec<Duration> {
    let (mut waited, mut ticks) = (JoinSet::new(), tokio::time::interval(EVERY));
    for number in 0_u64.. {
        let due = ticks.tick().await;
        if *stopped.borrow() {
            break;
        }
        let (mut client, answered) = (client.clone(), Arc::clone(&answered));
        waited.spawn(async move {
            let account_id = 7 + number % 2;
            let request = pb::CheckRequest { account_id, viewer_country: "IN".to_owned(), ..Default::default() };
            let answer = client.check(request).await.expect("others are answered").into_inner();
            assert_eq!(answer.withheld, withheld && account_id == 7, "others are told the truth");
            answered.fetch_add(1, Ordering::Relaxed);
            Instant::now().duration_since(due.into_std())
        });
    }
    waited.join_all().await
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |per_mille: usize| self.0[(self.0.len() - 1) * per_mille / 1_000].as_secs_f64() * 1e3;
        let [p50, p99, most] = [500, 990, 1_000].map(at);
        write!(f, "{} others answered, p50 {p50:.1}, p99 {p99:.1}, at most {most:.1} ms", self.0.len())
    }
}
