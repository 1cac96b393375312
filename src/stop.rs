//! How urgently the process is to stop: said by signals, heard by the server.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

/// How urgent it is; it never becomes less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Go on.
    None,
    /// Say that it is going to stop, and wait until balancers have noticed.
    Announced,
    /// Stop without that wait: finish what has begun.
    Prompt,
    /// Cut off what has not finished.
    Immediate,
}

/// Says it and hears it. A clone says the same.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<Urgency>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(Urgency::None))
    }
}

impl Stop {
    /// At least as urgent as this from now on.
    pub fn say(&self, urgency: Urgency) {
        self.0.send_if_modified(|now| {
            let more = urgency > *now;
            *now = urgency.max(*now);
            more
        });
    }

    /// Once it is at least as urgent as this.
    pub async fn reaches(&self, urgency: Urgency) {
        // The sender is here, so it does not end before.
        let _ = self.0.subscribe().wait_for(|now| *now >= urgency).await;
    }

    /// SIGTERM is what supervisors say, Ctrl-C what a person at a terminal does, whom no balancer follows. Saying either
    /// again is asking for the end at once.
    ///
    /// # Errors
    /// If signals cannot be had.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = self.clone();
        tokio::spawn(async move {
            let (name, urgency) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", Urgency::Announced),
                _ = interrupt.recv() => ("SIGINT", Urgency::Prompt),
            };
            info!(signal = name, "told to stop");
            stop.say(urgency);
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            info!("told again: what has not finished is cut off");
            stop.say(Urgency::Immediate);
        });
        Ok(())
    }
}
