//! A reply from a line of text: for samples, and for whoever tries a rule out.

use crate::domain::verdict::{EnhancedStatus, PeerReply};

/// `550 5.1.1 User unknown` as the wire would give it; `None` when it does not begin with a
/// code of three digits from 400 to 599.
pub fn reply(line: &str) -> Option<PeerReply> {
    let line = line.trim();
    let code = line.get(..3)?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let code: u16 = code.parse().ok().filter(|code| (400..600).contains(code))?;
    let rest = line.get(3..)?.trim_start_matches(['-', ' ']);
    if line.get(3..4).is_some_and(|next| next != " " && next != "-") {
        return None;
    }
    let mut text = rest.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut enhanced = None;
    let (first, after) = text.split_once(' ').unwrap_or((&text, ""));
    if let Some(status) = status(first).filter(|status| u16::from(status.class) == code / 100) {
        enhanced = Some(status);
        text = after.to_owned();
    }
    Some(PeerReply { code, enhanced, text })
}

/// `5.1.1`, also as `#5.1.1` or `5.1.1:`.
fn status(word: &str) -> Option<EnhancedStatus> {
    let word = word.trim_start_matches('#').trim_end_matches(':');
    let mut parts = word.split('.').map(|part| {
        let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok()).flatten()
    });
    let (class, subject, detail) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
        return None;
    }
    Some(EnhancedStatus { class: class as u8, subject, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_the_wire_would_be() {
        for (line, shown) in [
            ("550 5.1.1 User  unknown", "550 5.1.1 User unknown"),
            ("550-5.1.1 User unknown", "550 5.1.1 User unknown"),
            ("550 #5.1.0 Address rejected.", "550 5.1.0 Address rejected."),
            ("552 4.2.2 full", "552 4.2.2 full"),
            ("550", "550"),
        ] {
            assert_eq!(reply(line).expect("a reply").to_string(), shown);
        }
        assert_eq!(reply("552 4.2.2 full").expect("a reply").enhanced, None);
        for line in ["", "55", "5505", "250 ok", "hello", "é50 x"] {
            assert_eq!(reply(line), None, "{line}");
        }
    }
}
