//! ProtectionService: the accounts on which orders are declined by default.

use std::collections::HashSet;

use tonic::{Request, Response, Status};

use super::page::{self, Cursor};
use super::parse::{self, Caller, MAX_ITEMS};
use super::status::{BadFields, ServiceError};
use super::{Context, render};
use crate::domain::decide::Command;
use crate::domain::ids::{AccountId, Subject};
use crate::domain::protection::Category;
use crate::pb::v1 as pb;
use crate::pb::v1::protection_service_server::ProtectionService;

/// See the module.
#[derive(Debug, Clone)]
pub struct Protections(Context);

impl Protections {
    /// The service over a context.
    #[must_use]
    pub const fn new(context: Context) -> Self {
        Self(context)
    }
}

fn category(number: i32) -> Result<Category, String> {
    Category::ALL.into_iter().find(|c| render::category(*c) == number).ok_or_else(|| match number {
        0 => "it is required".to_owned(),
        _ => format!("`{number}` is no category"),
    })
}

fn within_limits(bad: &mut BadFields, field: &'static str, count: usize) -> Result<(), ServiceError> {
    if count > MAX_ITEMS {
        return Err(ServiceError::BatchTooLarge { field, limit: MAX_ITEMS, actual: count });
    }
    if count == 0 {
        bad.add(field, "name at least one account");
    }
    Ok(())
}

fn once(bad: &mut BadFields, field: String, id: u64, seen: &mut HashSet<u64>) -> Option<AccountId> {
    if !seen.insert(id) {
        bad.add(field, format!("account `{id}` is named twice"));
        return None;
    }
    bad.take(field, AccountId::try_from(id))
}

#[tonic::async_trait]
impl ProtectionService for Protections {
    async fn protect_accounts(
        &self,
        request: Request<pb::ProtectAccountsRequest>,
    ) -> Result<Response<pb::ProtectAccountsResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let context = request.context.take();
        let (mut bad, mut seen) = (BadFields::default(), HashSet::new());
        within_limits(&mut bad, "accounts", request.accounts.len())?;
        let by = parse::attribution(&mut bad, &caller, context, false, "ProtectAccounts", &request);
        let mut accounts = Vec::with_capacity(request.accounts.len());
        for (at, account) in request.accounts.iter().enumerate() {
            let id = once(&mut bad, format!("accounts[{at}].account_id"), account.account_id, &mut seen);
            let category = bad.take(format!("accounts[{at}].category"), category(account.category));
            accounts.extend(id.zip(category));
        }
        bad.none()?;
        let Some(by) = by else { return Err(ServiceError::Internal("no attribution".to_owned()).into()) };
        let before = self.0.replica.current();
        let mut answer = pb::ProtectAccountsResponse::default();
        for (id, category) in &accounts {
            match before.state.protection(*id) {
                None => answer.added += 1,
                Some(p) if p.category != *category => answer.moved += 1,
                Some(_) => answer.unchanged += 1,
            }
            if answer.withheld_account_ids.len() < 100 && !before.index.countries(Subject::Account(*id)).is_empty() {
                answer.withheld_account_ids.push(id.get());
            }
        }
        let done = self.0.desk.submit(Command::ProtectAccounts(accounts), by).await.map_err(ServiceError::from)?;
        answer.revision = done.revision.get();
        Ok(Response::new(answer))
    }

    async fn unprotect_accounts(
        &self,
        request: Request<pb::UnprotectAccountsRequest>,
    ) -> Result<Response<pb::UnprotectAccountsResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let context = request.context.take();
        let (mut bad, mut seen) = (BadFields::default(), HashSet::new());
        within_limits(&mut bad, "account_ids", request.account_ids.len())?;
        let by = parse::attribution(&mut bad, &caller, context, true, "UnprotectAccounts", &request);
        let ids = request.account_ids.iter().enumerate();
        let ids: Vec<_> =
            ids.filter_map(|(at, id)| once(&mut bad, format!("account_ids[{at}]"), *id, &mut seen)).collect();
        bad.none()?;
        let Some(by) = by else { return Err(ServiceError::Internal("no attribution".to_owned()).into()) };
        let before = self.0.replica.current();
        let removed = ids.iter().filter(|id| before.state.protection(**id).is_some()).count() as u64;
        let unchanged = ids.len() as u64 - removed;
        let done = self.0.desk.submit(Command::UnprotectAccounts(ids), by).await.map_err(ServiceError::from)?;
        Ok(Response::new(pb::UnprotectAccountsResponse { removed, unchanged, revision: done.revision.get() }))
    }

    async fn list_protected_accounts(
        &self,
        request: Request<pb::ListProtectedAccountsRequest>,
    ) -> Result<Response<pb::ListProtectedAccountsResponse>, Status> {
        let published = self.0.published(&request, request.get_ref().consistency.clone()).await?;
        let request = request.into_inner();
        let mut bad = BadFields::default();
        let wanted = match request.category {
            0 => None,
            number => bad.take("category", category(number)),
        };
        bad.none()?;
        let filters = request.category.to_le_bytes();
        let after = page::cursor(&request.page_token, &filters)?.map_or(0, |Cursor(_, id)| id);
        let size = page::size(request.page_size, MAX_ITEMS);
        let list = published.state.protections().iter();
        let list = list.filter(|(id, p)| id.get() > after && wanted.is_none_or(|category| p.category == category));
        let mut accounts: Vec<_> = list
            .map(|(id, p)| pb::ProtectedAccount {
                account_id: id.get(),
                category: render::category(p.category),
                since: Some(render::time(p.since)),
            })
            .take(size.saturating_add(1))
            .collect();
        let next = page::cut(&mut accounts, size).map(|last| last.account_id);
        Ok(Response::new(pb::ListProtectedAccountsResponse {
            next_page_token: next.map(|id| page::token(Cursor(0, id), &filters)).unwrap_or_default(),
            accounts,
            freshness: Some(render::freshness(published.index.revision(), self.0.replica.freshness())),
            total: published.state.protections().len() as u64,
        }))
    }
}
