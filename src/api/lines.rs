//! The lines of a streamed body, in constant memory.
//!
//! A line that is too long is skipped, not kept. Everything that was read, also
//! what was skipped, enters a digest, so that the same part of a repeated upload
//! can be told from another.

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::{Body, BodyDataStream};
use bytes::{Buf, Bytes, BytesMut};

use super::body::next_frame;
use super::error::Problem;
use crate::queue::enqueue::Digest;

/// Longest line in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// Reads lines.
pub struct Lines {
    frames: BodyDataStream,
    frame: Bytes,
    begun: BytesMut,
    skipping: bool,
    ended: bool,
    digest: Context,
}

/// One line, without its line break.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// As sent.
    Whole(Bytes),
    /// Longer than [`MAX_LINE`].
    TooLong,
}

impl Lines {
    /// The lines of a body.
    pub fn new(body: Body) -> Self {
        Self {
            frames: body.into_data_stream(),
            frame: Bytes::new(),
            begun: BytesMut::new(),
            skipping: false,
            ended: false,
            digest: Context::new(&SHA256),
        }
    }

    /// The next line; `None` at the proper end of the body. A body that breaks off
    /// is an error, and the line it broke off in is not told.
    pub async fn next(&mut self) -> Result<Option<Line>, Problem> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.frame) {
                let rest = self.frame.split_to(end);
                self.frame.advance(1);
                self.digest.update(&rest);
                self.digest.update(b"\n");
                return Ok(Some(self.finish(rest)));
            }
            let rest = std::mem::take(&mut self.frame);
            self.digest.update(&rest);
            self.keep(&rest);
            if self.ended {
                let last = self.skipping || !self.begun.is_empty();
                return Ok(last.then(|| self.finish(Bytes::new())));
            }
            match next_frame(&mut self.frames).await? {
                Some(frame) => self.frame = frame,
                None => self.ended = true,
            }
        }
    }

    /// The digest of all that was read since the last call.
    pub fn take_digest(&mut self) -> Digest {
        let context = std::mem::replace(&mut self.digest, Context::new(&SHA256));
        let mut out = Digest::default();
        out.copy_from_slice(context.finish().as_ref());
        out
    }

    fn keep(&mut self, rest: &[u8]) {
        if self.skipping || self.begun.len() + rest.len() > MAX_LINE {
            self.skipping = true;
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(rest);
        }
    }

    fn finish(&mut self, rest: Bytes) -> Line {
        let line = if self.begun.is_empty() && !self.skipping && rest.len() <= MAX_LINE {
            // The usual case: the line lies in one frame and is not copied.
            rest
        } else {
            self.keep(&rest);
            if std::mem::take(&mut self.skipping) {
                return Line::TooLong;
            }
            self.begun.split().freeze()
        };
        match line.strip_suffix(b"\r") {
            Some(text) => Line::Whole(line.slice(..text.len())),
            None => Line::Whole(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(pieces: Vec<Vec<u8>>) -> Body {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        Body::from_stream(futures_util::stream::iter(pieces))
    }

    async fn all(pieces: Vec<Vec<u8>>) -> (Vec<Line>, Digest) {
        let mut lines = Lines::new(body(pieces));
        let mut out = Vec::new();
        while let Some(line) = lines.next().await.expect("whole") {
            out.push(line);
        }
        let digest = lines.take_digest();
        (out, digest)
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn lines_end_in_lf_or_crlf_and_the_last_may_lack_it() {
        let (lines, _) = all(vec![b"a\r\nb\n\nc".to_vec()]).await;
        assert_eq!(lines, [whole("a"), whole("b"), whole(""), whole("c")]);
        let (lines, _) = all(vec![]).await;
        assert!(lines.is_empty());
    }

    #[tokio::test]
    async fn a_line_too_long_is_skipped_and_the_next_is_read() {
        for pieces in [1, 1_000, usize::MAX] {
            let mut text = vec![b'x'; MAX_LINE + 1];
            text.extend_from_slice(b"\nshort\n");
            let pieces = text.chunks(pieces.min(text.len())).map(<[u8]>::to_vec).collect();
            let (lines, _) = all(pieces).await;
            assert_eq!(lines, [Line::TooLong, whole("short")]);
        }
        let (lines, _) = all(vec![vec![b'x'; MAX_LINE]]).await;
        assert!(matches!(&lines[..], [Line::Whole(line)] if line.len() == MAX_LINE));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_has_no_last_line() {
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            vec![Ok(Bytes::from_static(b"a\nb")), Err(std::io::ErrorKind::BrokenPipe.into())];
        let mut lines = Lines::new(Body::from_stream(futures_util::stream::iter(pieces)));
        assert_eq!(lines.next().await.expect("a line"), Some(whole("a")));
        assert!(lines.next().await.is_err());
    }

    proptest! {
        #[test]
        fn how_the_body_is_cut_does_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x')], 0..60),
            cut in 1_usize..20,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            let once = runtime.block_on(all(vec![text.clone()]));
            let cut = runtime.block_on(all(text.chunks(cut).map(<[u8]>::to_vec).collect()));
            prop_assert_eq!(once, cut);
        }
    }
}
