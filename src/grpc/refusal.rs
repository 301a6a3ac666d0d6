//! Owns what stands around the generated service: it keeps the time of arrival, and brings tonic's own refusals into the
//! contract's table: what tonic refuses before a handler runs gets our details.
//! Must never touch an answer that a handler made.

use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::{Status, body::Body, server::NamedService};
use tower::{
    Service,
    util::{MapResponse, future::MapResponseFuture},
};

use super::{deadline::Arrival, status};

type Map = fn(Response<Body>) -> Response<Body>;

/// A service whose bare refusals are mapped.
#[derive(Clone, Debug)]
pub struct Mapped<S>(MapResponse<S, Map>);

impl<S> Mapped<S> {
    /// Wraps a service.
    #[must_use]
    pub fn new(service: S) -> Self {
        Self(MapResponse::new(service, map))
    }
}

impl<S: NamedService> NamedService for Mapped<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Mapped<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MapResponseFuture<S::Future, Map>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.extensions_mut().insert(Arrival::now());
        self.0.call(request)
    }
}

fn map(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    // A refusal is told in the headers alone; what began to answer is told in trailers and is a handler's.
    let bare = headers.contains_key(Status::GRPC_STATUS) && !headers.contains_key("grpc-status-details-bin");
    match Status::from_header_map(headers) {
        Some(refused) if bare => status::refused_by_transport(refused).into_http(),
        Some(_) | None => response,
    }
}
