//! Letters that wait for a connection to a host, in the order of asking (no I/O).
//!
//! Whoever is about to send a body may take the first of them along: its MAIL, RCPT and
//! DATA go out behind the body (RFC 2920 3.1), and the connection is handed over when the
//! body's reply is there. Only the first, whoever it is for: nobody is overtaken.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::message::letter::Letter;

/// The line before one host. `K` is what two letters must agree in to share a connection,
/// `C` is what is handed over.
pub(super) struct Line<K, C> {
    waiting: VecDeque<Waiting<K, C>>,
    tickets: u64,
}

struct Waiting<K, C> {
    ticket: Ticket,
    key: K,
    letter: Letter,
    hand: oneshot::Sender<C>,
}

/// A place in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// A letter that was taken along. Dropping the hand tells it that nothing comes of it.
pub(super) struct TakenAlong<C> {
    pub(super) letter: Letter,
    pub(super) hand: oneshot::Sender<C>,
}

impl<K: PartialEq, C> Line<K, C> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), tickets: 0 }
    }

    /// Stands at the end.
    pub(super) fn join(&mut self, key: K, letter: Letter) -> (Ticket, oneshot::Receiver<C>) {
        let (hand, handed) = oneshot::channel();
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.push_back(Waiting { ticket, key, letter, hand });
        (ticket, handed)
    }

    /// Leaves the line. False if it was taken along before.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let at = self.waiting.iter().position(|waiting| waiting.ticket == ticket);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// Takes the first along if it agrees in `key` and fits.
    pub(super) fn take_first(
        &mut self,
        key: &K,
        fits: impl FnOnce(&Letter) -> bool,
    ) -> Option<TakenAlong<C>> {
        let first = self.waiting.front()?;
        if first.key != *key || !fits(&first.letter) {
            return None;
        }
        let Waiting { letter, hand, .. } = self.waiting.pop_front()?;
        Some(TakenAlong { letter, hand })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::address::Address;

    fn letter(to: &str) -> Letter {
        Letter::seal(None, Address::try_new(to).expect("an address"), b"x\r\n".to_vec(), false)
    }

    #[test]
    fn only_the_first_is_taken_and_only_if_it_fits() {
        let mut line: Line<&str, u8> = Line::new();
        assert!(line.take_first(&"a", |_| true).is_none());
        let (_, mut first) = line.join("a", letter("1@x.yz"));
        let (second, _) = line.join("b", letter("2@x.yz"));
        let (_, mut third) = line.join("a", letter("3@x.yz"));
        assert!(line.take_first(&"a", |_| false).is_none());
        let taken = line.take_first(&"a", |_| true).expect("the first");
        assert_eq!(taken.letter.recipient().as_str(), "1@x.yz");
        taken.hand.send(7).expect("somebody waits");
        assert_eq!(first.try_recv(), Ok(7));
        assert!(line.take_first(&"a", |_| true).is_none(), "another's turn");
        assert!(line.leave(second) && !line.leave(second));
        drop(line.take_first(&"a", |_| true).expect("the third"));
        assert!(third.try_recv().is_err(), "it is told that nothing comes");
    }
}
