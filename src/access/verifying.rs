//! Verifying JWTs, where nobody waits for it who shows none.
//!
//! A signature takes a hundred times as long as an answer, and whoever is a stranger can have any number of them looked at.
//! So they are verified on the threads for long computations, only so many of one connection in a second, and only so many
//! at once of all; what is beyond is refused.

use std::sync::{Arc, LazyLock};

use tokio::sync::Semaphore;

use super::{Access, Unknown};
use crate::clock::Clock;
use crate::compute;
use crate::metrics;

/// Verifications that are under way or wait, of all connections.
const MAX_AT_ONCE: usize = 64;

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_AT_ONCE)));

/// A verification under way.
pub(super) type Verifying = tokio::task::JoinHandle<Result<(), Unknown>>;

/// Begins one.
///
/// # Errors
/// If there are too many.
pub(super) fn begin(access: Arc<Access>, authorization: String, clock: &Clock) -> Result<Verifying, Unknown> {
    let place = Arc::clone(&PLACES).try_acquire_owned();
    let place = place.map_err(|_| Unknown::TooManyToVerify("of all connections together"))?;
    let now = clock.now();
    Ok(compute::begin(move || {
        let verified = access.verify(&authorization, now);
        metrics::jwt_verified(verified.is_ok());
        drop(place);
        verified
    }))
}
