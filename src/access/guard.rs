//! The guard before a listener's services: nobody gets to a method who may not call it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::roles::{Roles, Rule, rule_of};
use super::verifying::{self, Verifying};
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
type TurnAway = dyn Fn(&str, Option<SocketAddr>, Refusal) -> Response<Body> + Send + Sync;

/// See the module. One for each listener.
#[derive(Clone)]
pub struct Guard {
    access: Current,
    clock: Clock,
    turn_away: Arc<TurnAway>,
}

impl Guard {
    /// Guards by what holds at the time of each call; `turn_away` answers those who may not, given the path and where the call comes from.
    pub fn new(
        access: Current,
        clock: Clock,
        turn_away: impl Fn(&str, Option<SocketAddr>, Refusal) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self { access, clock, turn_away: Arc::new(turn_away) }
    }

    /// Who calls, if it may, or what has to be verified before that can be told.
    fn admit<B: Arrives>(&self, request: &Request<B>) -> Result<Option<Principal>, Refusal> {
        if !is_grpc(request) {
            return Err(Refusal::NotGrpc);
        }
        let access = self.access.load();
        // Nobody is asked.
        let Some(access) = &*access else { return Ok(None) };
        let Rule::Needs(needed) = rule_of(request.uri().path()) else { return Ok(None) };
        let names = request.body().connection().and_then(Connection::names);
        let who = match access.who(authorization(request), names, self.clock.now()) {
            Ok(who) => who,
            // A credential that is shown has to hold, also where none is needed.
            Err(Unknown::Nobody) if access.anybody().meets(needed) => {
                request.body().connection().into_iter().for_each(Connection::admitted);
                return Ok(None);
            }
            Err(unknown) => return Err(Refusal::Unknown(unknown)),
        };
        if !who.roles.meets(needed) {
            return Err(Refusal::Forbidden { who, needed });
        }
        request.body().connection().into_iter().for_each(Connection::admitted);
        let taken = who.rate.as_ref().map(|rate| (rate.a_second(), rate.take(self.clock.monotonic())));
        match taken {
            Some((limit, Err(after))) => Err(Refusal::TooOften { who, limit, after }),
            Some((_, Ok(()))) | None => Ok(Some(who)),
        }
    }

    /// Begins to verify what a call shows.
    fn verify<B: Arrives>(&self, request: &Request<B>) -> Result<Verifying, Unknown> {
        let connection = request.body().connection();
        if connection.is_some_and(|connection| connection.verifications().take(self.clock.monotonic()).is_err()) {
            return Err(Unknown::TooManyToVerify("of this connection"));
        }
        let access = self.access.load_full().ok_or(Unknown::Unverified)?;
        verifying::begin(access, authorization(request).unwrap_or_default().to_owned(), &self.clock)
    }

    fn turned_away<B: Arrives>(&self, request: &Request<B>, refusal: Refusal) -> Response<Body> {
        let peer = request.body().connection().map(Connection::peer);
        (self.turn_away)(request.uri().path(), peer, refusal)
    }
}

fn authorization<B>(request: &Request<B>) -> Option<&str> {
    request.headers().get(AUTHORIZATION).map(|header| header.to_str().unwrap_or_default())
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

impl<S> Guarded<S> {
    /// Has a call answered that is let in, or gives it back with why it is not.
    #[expect(clippy::result_large_err, reason = "the request is given back as it came, and lives no longer")]
    fn enter<B, R>(&mut self, mut request: Request<B>) -> Result<S::Future, (Request<B>, Refusal)>
    where
        S: Service<Request<B>, Response = Response<R>>,
        B: Arrives,
    {
        match self.guard.admit(&request) {
            Ok(who) => {
                if let Some(who) = who {
                    request.extensions_mut().insert(who);
                }
                Ok(self.inner.call(request))
            }
            Err(refusal) => Err((request, refusal)),
        }
    }
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Unpin,
    S::Future: Unpin,
    B: Arrives + Unpin,
    R: From<Body>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = GuardedFuture<S, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (request, unknown) = match self.enter(request) {
            Ok(inner) => return GuardedFuture::Admitted(inner),
            Err((request, Refusal::Unknown(Unknown::Unverified))) => match self.guard.verify(&request) {
                Ok(verifying) => {
                    let waiting = Waiting { verifying, request: Some(request), guarded: self.clone() };
                    return GuardedFuture::Verifying(Box::new(waiting));
                }
                Err(unknown) => (request, Refusal::Unknown(unknown)),
            },
            Err(refused) => refused,
        };
        GuardedFuture::TurnedAway(Some(self.guard.turned_away(&request, unknown)))
    }
}

/// A call whose credential is being verified.
pub struct Waiting<S, B> {
    verifying: Verifying,
    request: Option<Request<B>>,
    guarded: Guarded<S>,
}

/// A call, or what is said instead.
pub enum GuardedFuture<S, B>
where
    S: Service<Request<B>>,
{
    /// It goes in.
    Admitted(S::Future),
    /// It waits until it is known who it is.
    Verifying(Box<Waiting<S, B>>),
    /// It does not go in.
    TurnedAway(Option<Response<Body>>),
}

impl<S, B, R> Future for GuardedFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Unpin,
    S::Future: Unpin,
    B: Arrives + Unpin,
    R: From<Body>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Admitted(inner) => return Pin::new(inner).poll(context),
                Self::TurnedAway(answer) => {
                    return answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer.map(R::from))));
                }
                Self::Verifying(waiting) => {
                    let verified = ready!(Pin::new(&mut waiting.verifying).poll(context));
                    let Some(request) = waiting.request.take() else { return Poll::Pending };
                    let entered = match verified {
                        Ok(Ok(())) => waiting.guarded.enter(request),
                        Ok(Err(unknown)) => Err((request, Refusal::Unknown(unknown))),
                        Err(_) => Err((request, Refusal::Unknown(Unknown::Jwt("verifying broke off".to_owned())))),
                    };
                    *this = match entered {
                        Ok(inner) => Self::Admitted(inner),
                        Err((request, refusal)) => {
                            Self::TurnedAway(Some(waiting.guarded.guard.turned_away(&request, refusal)))
                        }
                    };
                }
            }
        }
    }
}
