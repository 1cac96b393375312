//! A long list on its way in: staged chunk by chunk, each an entry of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use super::Orders;
use crate::api::parse::Caller;
use crate::api::status::{BadFields, ServiceError};
use crate::api::{parse, render};
use crate::clock::new_id;
use crate::domain::decide::Command;
use crate::domain::ids::UploadId;
use crate::domain::item::ItemChunk;
use crate::pb::v1 as pb;

/// Answers UploadItems.
pub(super) async fn upload(
    orders: &Orders,
    caller: &Caller,
    mut chunks: Streaming<pb::UploadItemsRequest>,
) -> Result<pb::UploadItemsResponse, Status> {
    let name = new_id();
    let upload: UploadId = name.parse().map_err(|_| ServiceError::Internal(format!("bad upload id `{name}`")))?;
    let (mut context, mut total, mut revision, mut started) = (None, 0_u32, 0, None);
    let mut undone: BTreeMap<&'static str, u64> = BTreeMap::new();
    while let Some(mut chunk) = chunks.next().await.transpose()? {
        let (first, own) = (context.is_none(), chunk.context.take());
        let context = context.get_or_insert_with(|| own.unwrap_or_default());
        let mut bad = BadFields::default();
        let part = pb::CommandContext { request_id: format!("{name}:{total}"), ..context.clone() };
        let by = parse::attribution(&mut bad, caller, Some(part), false, "UploadItems", &chunk);
        bad.none()?;
        let rules = orders.context.rules.load_full();
        let items: Arc<ItemChunk> = parse::items(chunk.items, total.saturating_add(1), &rules.links)?;
        if items.is_empty() && !first {
            continue;
        }
        total = total.saturating_add(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items.iter() {
            let (cause, _) = render::undone(item.resolution);
            if !cause.is_empty() {
                *undone.entry(cause).or_default() += 1;
            }
        }
        started.get_or_insert_with(|| orders.context.replica.clock().now());
        let Some(by) = by else { return Err(ServiceError::Internal("no attribution".to_owned()).into()) };
        revision = orders.submit(Command::StageItems { upload: upload.clone(), items }, by).await?.revision.get();
    }
    let Some(started) = started else {
        let mut bad = BadFields::default();
        bad.add("items", "the list is empty: send at least one message");
        return Err(ServiceError::from(bad).into());
    };
    let count = |(cause, items): (&str, u64)| pb::DispositionCount {
        disposition: pb::Disposition::NoAction.into(),
        cause: cause.to_owned(),
        items,
    };
    Ok(pb::UploadItemsResponse {
        upload_id: name,
        items: total.into(),
        unresolved: undone.into_iter().map(count).collect(),
        expires_at: started.checked_add(orders.keep_uploads).ok().map(render::time),
        revision,
    })
}
