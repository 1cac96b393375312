//! The guard before a listener's services: nobody gets to a method who may not call it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::roles::{Roles, Rule, rule_of};
use super::{Current, Principal, Unknown};
use crate::clock::Clock;
use crate::net::{Arrives, Connection};

/// Why somebody may not call a method.
#[derive(Debug)]
pub enum Refusal {
    /// It is no call of gRPC. A page in somebody's browser can send others, and the browser adds their certificate; this
    /// one it cannot send without asking first.
    NotGrpc,
    /// Nobody knows who it is.
    Unknown(Unknown),
    /// It is known who it is, and it has none of these roles.
    Forbidden {
        /// Who.
        who: Principal,
        /// Which roles may.
        needed: Roles,
    },
    /// It calls more often than it may.
    TooOften {
        /// Who.
        who: Principal,
        /// How often that is, in a second.
        limit: u32,
        /// When it can be tried again.
        after: Duration,
    },
}

/// Answers who may not call a method.
type TurnAway = dyn Fn(&str, Refusal) -> Response<Body> + Send + Sync;

/// See the module. One for each listener.
#[derive(Clone)]
pub struct Guard {
    access: Current,
    clock: Clock,
    turn_away: Arc<TurnAway>,
}

impl Guard {
    /// Guards by what holds at the time of each call; `turn_away` answers those who may not, given the path.
    pub fn new(
        access: Current,
        clock: Clock,
        turn_away: impl Fn(&str, Refusal) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self { access, clock, turn_away: Arc::new(turn_away) }
    }

    /// Who calls, if it may.
    fn admit<B: Arrives>(&self, request: &Request<B>) -> Result<Option<Principal>, Refusal> {
        if !is_grpc(request) {
            return Err(Refusal::NotGrpc);
        }
        let access = self.access.load();
        // Nobody is asked.
        let Some(access) = &*access else { return Ok(None) };
        let Rule::Needs(needed) = rule_of(request.uri().path()) else { return Ok(None) };
        let header = request.headers().get(AUTHORIZATION).map(|header| header.to_str().unwrap_or_default());
        let names = request.body().connection().and_then(Connection::names);
        let who = match access.who(header, names, self.clock.now()) {
            Ok(who) => who,
            // A credential that is shown has to hold, also where none is needed.
            Err(Unknown::Nobody) if access.anybody().meets(needed) => return Ok(None),
            Err(unknown) => return Err(Refusal::Unknown(unknown)),
        };
        if !who.roles.meets(needed) {
            return Err(Refusal::Forbidden { who, needed });
        }
        let taken = who.rate.as_ref().map(|rate| (rate.a_second(), rate.take(self.clock.monotonic())));
        match taken {
            Some((limit, Err(after))) => Err(Refusal::TooOften { who, limit, after }),
            Some((_, Ok(()))) | None => Ok(Some(who)),
        }
    }
}

/// POST, and `application/grpc`, `application/grpc+proto` and the like.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    request.method() == Method::POST && kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service behind a guard.
#[derive(Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Arrives,
    R: From<Body>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = GuardedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.guard.admit(&request) {
            Ok(who) => {
                if let Some(who) = who {
                    request.extensions_mut().insert(who);
                }
                GuardedFuture::Admitted { inner: self.inner.call(request) }
            }
            Err(refusal) => {
                let answer = (self.guard.turn_away)(request.uri().path(), refusal);
                GuardedFuture::TurnedAway { answer: Some(answer) }
            }
        }
    }
}

pin_project_lite::pin_project! {
    /// A call, or what is said instead.
    #[project = GuardedProjection]
    pub enum GuardedFuture<F> {
        /// It goes in.
        Admitted {
            #[pin]
            inner: F,
        },
        /// It does not.
        TurnedAway {
            answer: Option<Response<Body>>,
        },
    }
}

impl<F, E, R> Future for GuardedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: From<Body>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            GuardedProjection::Admitted { inner } => inner.poll(context),
            GuardedProjection::TurnedAway { answer } => {
                answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer.map(R::from))))
            }
        }
    }
}
