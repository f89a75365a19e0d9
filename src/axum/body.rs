//! The body of a response. A gRPC call continues in its body, and its outcome is in the trailers.

use super::grpc;
use super::request::Recorded;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    /// The body of a response whose request is a span: see [`layer`](super::layer()). It passes the service's
    /// body through; the span of a gRPC call ends with it.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        // None after its end, if it is recorded.
        #[pin]
        inner: Option<B>,
        // None if nothing is recorded of the body, and after its end.
        recorded: Option<Recorded>,
    }

    impl<B> PinnedDrop for ResponseBody<B> {
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

impl<B> ResponseBody<B> {
    pub(super) fn new(inner: B, recorded: Option<Recorded>) -> Self {
        Self { inner: Some(inner), recorded }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Error: Display,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let Some(recorded) = this.recorded.as_ref() else { return inner.poll_frame(context) };
        let entered = recorded.enter();
        let polled = inner.poll_frame(context);
        let is_over = match &polled {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(frame))) => match frame.trailers_ref() {
                Some(trailers) => {
                    recorded.concluded(grpc::status(trailers));
                    true
                }
                None => false,
            },
            Poll::Ready(Some(Err(error))) => {
                recorded.failed(error);
                true
            }
            Poll::Ready(None) => {
                recorded.concluded(None);
                true
            }
        };
        if is_over {
            // Events at its end belong to the request, too.
            this.inner.set(None);
        }
        drop(entered);
        if is_over {
            *this.recorded = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
