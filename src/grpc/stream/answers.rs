//! Owns the answers of a stream and its end, between the task that makes them and the connection that takes them.
//! Must never end a stream with OK unless its task said so.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use super::{super::status, room::Room};
use crate::{
    connections::caller::inherit,
    failure::{Failure, Reason},
    grpc::proto::SendBatchResponse,
    tasks::Tasks,
};

/// Answers that wait for the connection to take them.
const ANSWERS_MAX: usize = 4;

/// An answer that waits for the connection, and what its frame holds until then.
pub(super) type Answer = (SendBatchResponse, Option<Room>);

/// The answers of a stream, then its end.
#[derive(Debug)]
pub struct Answers {
    receiver: mpsc::Receiver<Answer>,
    /// How the stream ends, none for OK. INTERNAL until its task says otherwise: a task that panics says nothing. Written by the
    /// task before it drops its sender.
    end: Arc<Mutex<Option<Status>>>,
}

// === impl Answers ===

impl Answers {
    /// Runs a task that answers and returns how the stream ends, for as long as somebody takes the answers.
    pub(super) fn of<T>(tasks: &Tasks, task: impl FnOnce(mpsc::Sender<Answer>) -> T) -> Self
    where
        T: Future<Output = Option<Status>> + Send + 'static,
    {
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let lost =
            Failure::new(Reason::Internal, "the stream's task ended without a word; a fault of the sidecar");
        let end = Arc::new(Mutex::new(Some(status::status(&lost))));
        let (told, gone) = (Arc::clone(&end), answers.clone());
        // In a box for its size's sake, as in `tasks.rs`.
        let task = Box::pin(task(answers));
        let running = async move {
            tokio::select! {
                ended = task => *told.lock() = ended,
                () = gone.closed() => {}
            }
        };
        tasks.spawn("stream", inherit(running));
        Self { receiver, end }
    }
}

impl Stream for Answers {
    type Item = Result<SendBatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.receiver.poll_recv(context) {
            Poll::Ready(Some((answer, _room))) => Poll::Ready(Some(Ok(answer))),
            Poll::Ready(None) => Poll::Ready(self.end.lock().take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_whose_task_panics_ends_with_internal() {
        let mut answers = Answers::of(&Tasks::default(), async |answers: mpsc::Sender<Answer>| {
            answers.send((SendBatchResponse::default(), None)).await.unwrap();
            panic!("as a fault would");
        });
        assert!(answers.next().await.unwrap().is_ok());
        let status = answers.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.get_error_details().error_info().unwrap().metadata["persisted"], "MAYBE");
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_ends_as_its_task_says() {
        let mut answers = Answers::of(&Tasks::default(), async |_answers| None);
        assert!(answers.next().await.is_none());
        let mut answers = Answers::of(&Tasks::default(), async |_answers| Some(Status::aborted("told")));
        assert_eq!(answers.next().await.unwrap().unwrap_err().message(), "told");
        assert!(answers.next().await.is_none());
    }
}
