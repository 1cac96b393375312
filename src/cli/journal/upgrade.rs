//! `withheld journal upgrade`: entries are written in a newer format from now on.

use serde_json::json;

use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{Output, confirm, say};
use crate::pb::v1 as pb;

pub(super) async fn run(
    client: &Client,
    format: Option<u32>,
    reason: &str,
    yes: bool,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut journals = client.journals().await?;
    let request = client.request(pb::GetJournalRequest::default());
    let journal = journals.get_journal(request).await?.into_inner();
    let wanted = format.unwrap_or(journal.newest_format);
    if wanted > journal.format {
        say(format!("journal {} is in format {}, and would be in format {wanted}.", journal.name, journal.format));
        say(
            "A replica that does not read that format stops at this entry: upgrade every replica first. There is no way back.",
        );
        if !confirm("Have entries written in it?", yes)? {
            return Err(CliError::failed("nothing was changed"));
        }
    }
    let request = pb::UpgradeJournalRequest { context: client.context(reason), format: wanted };
    let done = journals.upgrade_journal(client.request(request)).await?.into_inner();
    if out.is_json() {
        let revision = done.revision.to_string();
        return out.json(&json!({"upgraded": done.upgraded, "format": done.format, "revision": revision}));
    }
    out.line(match done.upgraded {
        true => format!("journal {} is in format {} from revision {} on", journal.name, done.format, done.revision),
        false => format!("journal {} was in format {} already: nothing was changed", journal.name, journal.format),
    })
}
