//! When connections are to end, told to all of them at once.

use tokio_util::sync::CancellationToken;

/// First they are to leave, in their own time; then they are cut off. A clone tells the same.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    leave: CancellationToken,
    cut: CancellationToken,
}

impl Drain {
    /// Nobody accepts any more; every connection says that it takes no new calls (GOAWAY); streams that would go on for
    /// ever end; other calls finish.
    pub fn leave(&self) {
        self.leave.cancel();
    }

    /// What has not finished is cut off.
    pub fn cut(&self) {
        self.leave.cancel();
        self.cut.cancel();
    }

    /// Once connections are to leave.
    pub async fn leaving(&self) {
        self.leave.cancelled().await;
    }

    /// Once what has not finished is cut off.
    pub async fn cut_off(&self) {
        self.cut.cancelled().await;
    }

    /// Cancelled with leaving, or before that by itself.
    pub(super) fn end_of_streams(&self) -> CancellationToken {
        self.leave.child_token()
    }
}
