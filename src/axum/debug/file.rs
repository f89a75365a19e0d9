//! The body of a download: reads a file piece by piece, off the runtime's workers, as fast as the client
//! takes it.

use ::axum::body::{Bytes, HttpBody};
use ::tokio::task::{JoinHandle, spawn_blocking};
use http_body::{Frame, SizeHint};
use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

/// How much of it is in memory at a time.
const PIECE: u64 = 64 << 10;

/// The body of a download.
#[derive(Debug)]
pub(super) struct FileBody {
    state: State,
    /// How much of the file is still to be sent.
    left: u64,
}

#[derive(Debug)]
enum State {
    Idle(File),
    Reading(JoinHandle<(File, io::Result<Vec<u8>>)>),
    Over,
}

impl FileBody {
    /// This many bytes from the file's position on.
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { state: State::Idle(file), left: length }
    }
}

fn read(mut file: File, length: u64) -> (File, io::Result<Vec<u8>>) {
    let mut piece = vec![0; length as usize];
    let read = file.read_exact(&mut piece);
    (file, read.map(|()| piece))
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let length = self.left.min(PIECE);
            match std::mem::replace(&mut self.state, State::Over) {
                State::Idle(file) if length > 0 => {
                    self.state = State::Reading(spawn_blocking(move || read(file, length)));
                }
                State::Idle(_) | State::Over => return Poll::Ready(None),
                State::Reading(mut reading) => {
                    let Poll::Ready(read) = Pin::new(&mut reading).poll(context) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let (file, piece) = read.map_err(io::Error::other)?;
                    let piece = piece?;
                    self.left -= piece.len() as u64;
                    self.state = State::Idle(file);
                    return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
