//! Owns the wrapper around a port's service: each request knows its connection, and the connection its requests.
//! Must never touch a request or an answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::task::futures::TaskLocalFuture;
use tower::Service;

use super::{
    caller::Caller,
    peer::{InProgress, Peer},
};

/// A service whose requests are counted as their connection's.
#[derive(Debug, Clone)]
pub struct Attended<S> {
    service: S,
    peer: Arc<Peer>,
}

/// A request until its answer begins.
#[derive(Debug)]
pub struct AttendedRequest<F> {
    answer: F,
    request: Option<InProgress>,
}

/// An answer, which is a request in progress until its end.
#[derive(Debug)]
pub struct AttendedBody<B> {
    body: B,
    _request: Option<InProgress>,
}

impl<S> Attended<S> {
    /// Wraps the service of one connection.
    #[must_use]
    pub const fn new(service: S, peer: Arc<Peer>) -> Self {
        Self { service, peer }
    }
}

impl<S, Sent, Answer> Service<Request<Sent>> for Attended<S>
where
    S: Service<Request<Sent>, Response = Response<Answer>>,
    S::Future: Unpin,
{
    type Response = Response<AttendedBody<Answer>>;
    type Error = S::Error;
    type Future = TaskLocalFuture<Caller, AttendedRequest<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Sent>) -> Self::Future {
        request.extensions_mut().insert(Arc::clone(&self.peer));
        let in_progress = self.peer.begin();
        let answer = self.service.call(request);
        self.peer.caller().scope(AttendedRequest { answer, request: Some(in_progress) })
    }
}

impl<F, Answer, Error> Future for AttendedRequest<F>
where
    F: Future<Output = Result<Response<Answer>, Error>> + Unpin,
{
    type Output = Result<Response<AttendedBody<Answer>>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context))?;
        let request = self.request.take();
        Poll::Ready(Ok(answer.map(|body| AttendedBody { body, _request: request })))
    }
}

impl<B: Body + Unpin> Body for AttendedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
