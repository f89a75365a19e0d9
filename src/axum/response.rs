//! The future of a response: a task that is inside the request's span whenever it is polled or dropped.

use super::body::ResponseBody;
use super::grpc;
use super::request::Recorded;
use http::Response;
use lookback_recorder::Recorded as Task;
use pin_project_lite::pin_project;
use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The future of a response whose request is a span: see [`layer`](super::layer()).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        task: Task<InSpan<F>>,
    }
}

pin_project! {
    #[derive(Debug)]
    struct InSpan<F> {
        // None after the request has ended, if it is recorded.
        #[pin]
        inner: Option<F>,
        // None if nothing is recorded, and after the end.
        recorded: Option<Recorded>,
    }

    impl<F> PinnedDrop for InSpan<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(recorded) = this.recorded.take() {
                let _entered = recorded.enter();
                this.inner.set(None);
                recorded.given_up();
            }
        }
    }
}

impl<F> ResponseFuture<F> {
    /// `place` is the task's place in the source, if it is to be a task.
    pub(super) fn new(
        inner: F,
        recorded: Option<Recorded>,
        place: Option<&'static Location<'static>>,
    ) -> Self {
        let place = place.filter(|_| recorded.is_some());
        let inner = InSpan { inner: Some(inner), recorded };
        let task = match place {
            Some(place) => Task::new(inner, "request", place),
            None => Task::unrecorded(inner),
        };
        Self { task }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Display,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().task.poll(context)
    }
}

impl<F, B, E> Future for InSpan<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Display,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut().expect("a future is not polled after its end");
        let Some(recorded) = this.recorded.as_ref() else {
            let result = ready!(inner.poll(context));
            let unrecorded = |body| ResponseBody::new(body, None);
            return Poll::Ready(result.map(|response| response.map(unrecorded)));
        };
        let entered = recorded.enter();
        let mut result = ready!(inner.poll(context));
        // Events at its end belong to the request, too.
        this.inner.set(None);
        // A gRPC call's outcome follows its body, unless it has none.
        let mut goes_on = false;
        match &mut result {
            Ok(response) => {
                recorded.answered(response);
                if grpc::is_grpc(response.headers()) {
                    let code = grpc::status(response.headers());
                    goes_on = code.is_none();
                    code.into_iter().for_each(|code| recorded.concluded(Some(code)));
                }
            }
            Err(error) => recorded.failed(error),
        }
        drop(entered);
        let recorded = this.recorded.take().filter(|_| goes_on);
        Poll::Ready(result.map(|response| response.map(|body| ResponseBody::new(body, recorded))))
    }
}
