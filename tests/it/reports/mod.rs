//! Reports: what leaves the house is right, whole, and nothing more.

mod attack;
mod commands;
mod counting;
mod february;
mod suppression;

/// Asks until it is answered: a service in this process listens before it has loaded its journal.
async fn until_ready(mut done: impl AsyncFnMut() -> bool) {
    let ready = async {
        while !done().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ready).await.expect("ready within a minute");
}
