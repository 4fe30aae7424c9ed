//! A header field that folds at [`WIDTH`] as it is written.

/// Columns of a signature's own lines.
const WIDTH: usize = 76;

/// See the file's header.
pub(super) struct Folded {
    text: String,
    line_start: usize,
}

impl Folded {
    pub(super) fn new(text: String) -> Self {
        Self { text, line_start: 0 }
    }

    /// What was written so far.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    fn fold(&mut self) {
        self.text.push_str("\r\n");
        self.line_start = self.text.len();
        self.text.push(' ');
    }

    fn fits(&self, len: usize) -> bool {
        self.text.len() - self.line_start + len <= WIDTH
    }

    /// A word after a space, on the next line if it does not fit.
    pub(super) fn word(&mut self, word: &str) {
        if self.fits(word.len() + 1) {
            self.text.push(' ');
        } else {
            self.fold();
        }
        self.text.push_str(word);
    }

    /// A tag on a line of its own.
    pub(super) fn begin(&mut self, tag: &str) {
        self.fold();
        self.text.push_str(tag);
    }

    /// A tag on a line of its own, with names between colons.
    pub(super) fn list(&mut self, tag: &str, names: &[&str]) {
        self.begin(tag);
        for (n, name) in names.iter().enumerate() {
            if !self.fits(name.len() + 1) {
                self.fold();
            }
            self.text.push_str(name);
            self.text.push(if n + 1 == names.len() { ';' } else { ':' });
        }
    }

    /// Base64 may be folded anywhere.
    pub(super) fn long(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let room = WIDTH.saturating_sub(self.text.len() - self.line_start);
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.text.push_str(now);
            rest = later;
            if !rest.is_empty() {
                self.fold();
            }
        }
    }
}
