//! The body of a request, which remembers whether all of it was handed to the connection.
//!
//! From then on the provider may have taken the mail: what is lost afterwards is in doubt.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Handed over at once; small, so that what waits in the connection's buffers is little.
const PIECE: usize = 16 << 10;

/// A body in pieces.
#[derive(Debug)]
pub(super) struct Outgoing {
    rest: Bytes,
    written: Written,
}

/// Whether the last byte was handed over.
#[derive(Debug, Clone, Default)]
pub(super) struct Written(Arc<AtomicBool>);

impl Written {
    /// Whether the provider may have all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Outgoing {
    /// A body, and what it will tell.
    pub(super) fn new(bytes: Bytes) -> (Self, Written) {
        let written = Written::default();
        (Self { rest: bytes, written: written.clone() }, written)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let most = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(most);
        if self.rest.is_empty() {
            self.written.0.store(true, Ordering::Release);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
