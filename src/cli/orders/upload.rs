//! A list of items on its way to the service: inside the request, or staged ahead of it.

use std::time::Duration;

use indicatif::ProgressBar;
use tonic::Status;

use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{progress, waiting};
use crate::pb::v1 as pb;

/// Items in one message.
const PART: usize = 10_000;

/// A list, inside the request or staged: lists that do not fit into one request are uploaded first.
#[derive(Clone)]
pub(super) enum Source {
    Inline(pb::ItemList),
    Staged(String),
}

/// Stages a list that is too long for one request.
pub(super) async fn source(items: Vec<pb::Item>, client: &Client) -> Result<Source, CliError> {
    if items.len() <= PART {
        return Ok(Source::Inline(pb::ItemList { items }));
    }
    let bar = uploading(items.len());
    let context = client.context("");
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let shown = bar.clone();
    let feed = async move {
        let mut items = items.into_iter();
        loop {
            let items: Vec<_> = items.by_ref().take(PART).collect();
            let count = items.len() as u64;
            if count == 0 || sender.send(pb::UploadItemsRequest { context: context.clone(), items }).await.is_err() {
                break;
            }
            shown.inc(count);
        }
    };
    let mut orders = client.orders().await?;
    let stream = client.request(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let (answer, ()) = tokio::join!(orders.upload_items(stream), feed);
    uploaded(&bar, answer.is_ok());
    Ok(Source::Staged(answer?.into_inner().upload_id))
}

impl Source {
    /// Sends the request that first takes the list to the service; a list inside it has its bar meanwhile.
    pub(super) async fn first<R>(&self, call: impl Future<Output = Result<R, Status>>) -> Result<R, Status> {
        let Self::Inline(list) = self else { return waiting("previewing", call).await };
        let bar = uploading(list.items.len());
        let answer = call.await;
        uploaded(&bar, answer.is_ok());
        answer
    }
}

fn uploading(items: usize) -> ProgressBar {
    let bar = progress(items as u64, "uploading");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A bar is full once the service has the whole list, and stays where it was if it has not.
fn uploaded(bar: &ProgressBar, whole: bool) {
    if whole {
        bar.finish();
    } else {
        bar.abandon();
    }
}
