//! [`Place`] and [`Cursor`]: how far a reader has come in the log (pure).
//!
//! A place is a pair of transaction and event. A tenant that moves to another cell takes its
//! events along with [`SHIFT`] subtracted from each transaction's number, so they stay in
//! order and before everything that the new cell writes. A cursor says after how many moves
//! it was given out, so one from before a move still means the same place.

use std::fmt;
use std::str::FromStr;

/// What a move subtracts from the number of a transaction: more than a database counts to.
pub const SHIFT: i64 = 1 << 48;

/// After one event of a tenant and before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The transaction that wrote it.
    pub xid: i64,
    /// The event's number.
    pub event: i64,
}

impl Place {
    /// Before all events.
    pub const START: Self = Self { xid: i64::MIN, event: 0 };
}

/// A place as given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The tenant's moves until then.
    moves: i32,
    place: Place,
}

/// Not a cursor that was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCursor;

impl fmt::Display for InvalidCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected next_cursor of a page before")
    }
}

impl std::error::Error for InvalidCursor {}

impl Cursor {
    /// The cursor of a place, given out after so many moves.
    pub const fn new(moves: i32, place: Place) -> Self {
        Self { moves, place }
    }

    /// What it means after `moves` moves.
    pub fn place(self, moves: i32) -> Result<Place, InvalidCursor> {
        let since = i64::from(moves) - i64::from(self.moves);
        if since < 0 {
            return Err(InvalidCursor);
        }
        let xid = self.place.xid.saturating_sub(since.saturating_mul(SHIFT));
        Ok(Place { xid, event: self.place.event })
    }
}

/// Opaque to tenants: three numbers in hexadecimal.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.moves, self.place.xid as u64, self.place.event)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.split('-');
        let mut number = || {
            let part = parts.next().filter(|part| !part.starts_with('+')).ok_or(InvalidCursor)?;
            u64::from_str_radix(part, 16).map_err(|_| InvalidCursor)
        };
        let (moves, xid, event) = (number()?, number()?, number()?);
        let moves = i32::try_from(moves).map_err(|_| InvalidCursor)?;
        let event = i64::try_from(event).map_err(|_| InvalidCursor)?;
        match parts.next() {
            None => Ok(Self { moves, place: Place { xid: xid as i64, event } }),
            Some(_) => Err(InvalidCursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_cursor_reads_back(moves in 0..9_i32, xid: i64, event in 0..i64::MAX) {
            let cursor = Cursor::new(moves, Place { xid, event });
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Cursor>();
        }
    }

    #[test]
    fn a_cursor_goes_along_when_its_tenant_moves() {
        let place = Place { xid: 5_000, event: 7 };
        let cursor = Cursor::new(1, place);
        assert_eq!(cursor.place(1), Ok(place));
        assert_eq!(cursor.place(3), Ok(Place { xid: 5_000 - 2 * SHIFT, event: 7 }));
        assert_eq!(cursor.place(0), Err(InvalidCursor), "given out by nobody");
        let start = Cursor::new(0, Place::START);
        assert_eq!(start.place(9), Ok(Place::START));
    }
}
