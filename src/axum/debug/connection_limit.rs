//! A listener with a limit on connections. Each connection takes a descriptor of the service, with or without
//! a token, and the service must not run out of them. When one more arrives, the one that has been idle for
//! longest is closed, so idle connections lock no client out.

use ::axum::serve::Listener;
use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::{TcpListener, TcpStream};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The listener.
#[derive(Debug)]
pub(super) struct Limited {
    listener: TcpListener,
    most: usize,
    places: Arc<Mutex<Places>>,
}

/// The open connections.
#[derive(Debug, Default)]
struct Places {
    /// The number of each, and the waker that closes it; the longest idle one is first.
    by_stillness: VecDeque<(u64, Option<Waker>)>,
    /// How many there have been.
    ever: u64,
}

/// A connection that is closed when another one takes its place.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    number: u64,
    places: Arc<Mutex<Places>>,
}

impl Limited {
    pub(super) fn new(listener: TcpListener, most: usize) -> Self {
        Self { listener, most, places: Arc::default() }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let (number, closed) = lock(&self.places).take(self.most);
        // Wake without the lock: the woken task may be returning a place.
        closed.into_iter().for_each(Waker::wake);
        (Connection { stream, number, places: Arc::clone(&self.places) }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    /// A place for one more. If all are taken, the longest idle connection loses its own, and must be woken.
    fn take(&mut self, most: usize) -> (u64, Option<Waker>) {
        let all_taken = self.by_stillness.len() >= most;
        let closed = if all_taken { self.by_stillness.pop_front() } else { None };
        self.ever += 1;
        self.by_stillness.push_back((self.ever, None));
        (self.ever, closed.and_then(|(_, waker)| waker))
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        self.by_stillness.iter().position(|(known, _)| *known == number)
    }
}

impl Connection {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }

    /// Polls the stream, unless the connection lost its place.
    fn with_place<T>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        let mut places = lock(&this.places);
        let Some(index) = places.index_of(this.number) else {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        let result = poll(Pin::new(&mut this.stream), context);
        let mut before = None;
        if result.is_ready() {
            let moved = places.by_stillness.remove(index);
            places.by_stillness.extend(moved);
        } else if let Some((_, waker)) = places.by_stillness.get_mut(index) {
            before = waker.replace(context.waker().clone());
        }
        // Drop wakers without the lock, too.
        drop(places);
        drop(before);
        result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        let index = places.index_of(self.number);
        let place = index.and_then(|index| places.by_stillness.remove(index));
        drop(places);
        drop(place);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with_place(context, |stream, context| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with_place(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with_place(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn who_was_still_for_longest_makes_room_for_who_comes() {
        let mut builder = ::tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut limited = Limited::new(listener, 2);
            let address = limited.local_addr().unwrap();
            let mut clients = Vec::new();
            for _ in 0..5 {
                clients.push(TcpStream::connect(address).await.unwrap());
            }
            let mut byte = [0];
            let (mut first, _) = limited.accept().await;
            let (mut second, _) = limited.accept().await;
            clients[0].write_all(b"x").await.unwrap();
            first.read_exact(&mut byte).await.unwrap();
            // A waiting connection is woken.
            let waits = ::tokio::spawn(async move { second.read_exact(&mut [0]).await.map(drop) });
            ::tokio::task::yield_now().await;
            let (third, _) = limited.accept().await;
            let error = waits.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            // A closed connection makes room, too.
            drop(third);
            let (fourth, _) = limited.accept().await;
            clients[0].write_all(b"x").await.unwrap();
            first.read_exact(&mut byte).await.unwrap();
            let (_fifth, _) = limited.accept().await;
            assert!(lock(&limited.places).index_of(fourth.number).is_none());
            first.write_all(b"x").await.unwrap();
            clients[0].read_exact(&mut byte).await.unwrap();
        });
    }
}
