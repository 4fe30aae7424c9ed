//! One mail transaction: MAIL, RCPT, DATA, body, dot (RFC 5321 3.3); pure.
//!
//! Says what to do next and is told what was heard; it does no I/O. With
//! PIPELINING (RFC 2920) it says everything up to DATA before it listens.
//!
//! Promises: the body goes out only after a 354 with the recipient accepted; a
//! 354 after a refusal is answered with a lone dot, so nothing is delivered; the
//! first refusal is the one reported; a 421 ends the session at once.

use super::reply::Reply;
use crate::domain::verdict::Stage;

/// Whether commands may be sent without waiting for each reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// All in one go: the peer offers PIPELINING.
    Pipelined,
    /// One by one.
    InTurn,
}

/// What the transaction before this one left in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Clean,
    /// A MAIL was accepted and its transaction never ended: RSET goes first.
    Open,
}

/// A command of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// RSET
    Reset,
    /// MAIL
    Mail,
    /// RCPT
    Rcpt,
    /// DATA
    Data,
}

impl Verb {
    /// The stage of its reply.
    pub fn stage(self) -> Stage {
        match self {
            Self::Reset | Self::Mail => Stage::Mail,
            Self::Rcpt => Stage::Rcpt,
            Self::Data => Stage::Data,
        }
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Move {
    /// Say this; it may wait in a buffer until something must be heard.
    Say(Verb),
    /// Send what waits and read one reply.
    Hear(Stage),
    /// Send body and dot, then call [`Transaction::dot_sent`].
    SendBody,
    /// Send a lone dot, then call [`Transaction::dot_sent`].
    SendLoneDot,
    /// It is over; call [`Transaction::finish`].
    Finish,
}

/// How the transaction ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer took the mail.
    Accepted(Reply),
    /// The peer refused.
    Refused(Stage, Reply),
    /// The peer answered what makes no sense at that stage; after the dot this is doubt.
    Nonsense(Stage, Reply),
}

/// What the transaction leaves in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// The session can go on.
    Usable(Standing),
    /// The session is over.
    Broken,
}

/// The state of one transaction.
#[derive(Debug)]
pub struct Transaction {
    flow: Flow,
    verbs: &'static [Verb],
    said: usize,
    heard: usize,
    mail_accepted: bool,
    recipient_accepted: bool,
    phase: Phase,
    ending: Option<Ending>,
    aftermath: Aftermath,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Envelope,
    Go,
    AwaitingDot,
    Over,
}

impl Transaction {
    /// A transaction about to begin.
    pub fn new(flow: Flow, standing: Standing) -> Self {
        const CLEAN: &[Verb] = &[Verb::Mail, Verb::Rcpt, Verb::Data];
        const AFTER_RESET: &[Verb] = &[Verb::Reset, Verb::Mail, Verb::Rcpt, Verb::Data];
        Self {
            flow,
            verbs: if standing == Standing::Clean { CLEAN } else { AFTER_RESET },
            said: 0,
            heard: 0,
            mail_accepted: false,
            recipient_accepted: false,
            phase: Phase::Envelope,
            ending: None,
            aftermath: Aftermath::Usable(Standing::Clean),
        }
    }

    /// What to do next.
    pub fn next_move(&mut self) -> Move {
        match self.phase {
            Phase::Envelope => {
                let may_say = self.flow == Flow::Pipelined || self.said == self.heard;
                if may_say && self.said < self.verbs.len() {
                    let verb = self.verbs[self.said];
                    self.said += 1;
                    Move::Say(verb)
                } else {
                    Move::Hear(self.verbs[self.heard].stage())
                }
            }
            Phase::Go if self.ending.is_none() => Move::SendBody,
            Phase::Go => Move::SendLoneDot,
            Phase::AwaitingDot => Move::Hear(Stage::Dot),
            Phase::Over => Move::Finish,
        }
    }

    /// Whether the peer has answered this transaction's MAIL. Before that, nothing
    /// of the mail was accepted.
    pub fn has_answer_to_mail(&self) -> bool {
        self.heard > self.verbs.len() - 3
    }

    /// Takes the reply that [`Move::Hear`] asked for.
    pub fn heard(&mut self, reply: Reply) {
        if self.phase == Phase::AwaitingDot {
            return self.heard_dot(reply);
        }
        let verb = self.verbs[self.heard];
        self.heard += 1;
        if reply.code() == 421 {
            return self.end_session(Ending::Refused(verb.stage(), reply));
        }
        match verb {
            Verb::Reset if !reply.is_positive() => {
                return self.end_session(Ending::Nonsense(Stage::Mail, reply));
            }
            Verb::Reset => {}
            Verb::Mail | Verb::Rcpt if reply.is_refusal() => self.note_refusal(verb, reply),
            Verb::Mail | Verb::Rcpt if !reply.is_positive() => {
                return self.end_session(Ending::Nonsense(verb.stage(), reply));
            }
            Verb::Mail => self.mail_accepted = true,
            Verb::Rcpt => self.recipient_accepted = true,
            Verb::Data => return self.heard_data(reply),
        }
        if self.ending.is_some() && self.said == self.heard {
            // In turn: nothing else is on its way, so DATA is never said.
            self.end_before_data();
        }
    }

    /// Body and dot, or the lone dot, are on their way.
    pub fn dot_sent(&mut self) {
        self.phase = Phase::AwaitingDot;
    }

    /// The refusal that is certain already, when the session is lost on the way.
    /// `None` while the fate of the mail is still open.
    pub fn known_refusal(self) -> Option<Ending> {
        self.ending
    }

    /// How it ended, once [`Move::Finish`] was given.
    pub fn finish(self) -> (Option<Ending>, Aftermath) {
        (self.ending, self.aftermath)
    }

    fn heard_data(&mut self, reply: Reply) {
        match reply.code() {
            354 if self.ending.is_none() => self.phase = Phase::Go,
            // MAIL refused, RCPT accepted, 354: whoever a dot would go to now, it
            // would be an empty mail. Leaving without a dot is the only safe way.
            354 if self.recipient_accepted => {
                self.phase = Phase::Over;
                self.aftermath = Aftermath::Broken;
            }
            354 => self.phase = Phase::Go,
            code if code >= 400 => {
                self.note_refusal(Verb::Data, reply);
                self.end_before_data();
            }
            _ => self.end_session(Ending::Nonsense(Stage::Data, reply)),
        }
    }

    fn heard_dot(&mut self, reply: Reply) {
        self.phase = Phase::Over;
        if reply.code() == 421 {
            self.aftermath = Aftermath::Broken;
        }
        if self.ending.is_some() {
            // The answer to a lone dot changes nothing.
            return;
        }
        self.ending = Some(if reply.is_positive() {
            Ending::Accepted(reply)
        } else if reply.is_refusal() {
            Ending::Refused(Stage::Dot, reply)
        } else {
            self.aftermath = Aftermath::Broken;
            Ending::Nonsense(Stage::Dot, reply)
        });
    }

    fn note_refusal(&mut self, verb: Verb, reply: Reply) {
        if self.ending.is_none() {
            self.ending = Some(Ending::Refused(verb.stage(), reply));
        }
    }

    fn end_before_data(&mut self) {
        self.phase = Phase::Over;
        let standing = if self.mail_accepted { Standing::Open } else { Standing::Clean };
        self.aftermath = Aftermath::Usable(standing);
    }

    fn end_session(&mut self, ending: Ending) {
        self.phase = Phase::Over;
        self.aftermath = Aftermath::Broken;
        if self.ending.is_none() {
            self.ending = Some(ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::ReplyParser;
    use super::*;
    use proptest::prelude::*;

    fn reply(code: u16) -> Reply {
        let wire = format!("{code} x\r\n");
        ReplyParser::default().feed(wire.as_bytes()).expect("legal").1.expect("whole")
    }

    /// Runs a transaction against a list of codes; writes down what was done.
    fn run(flow: Flow, standing: Standing, codes: &[u16]) -> (String, String) {
        let mut tx = Transaction::new(flow, standing);
        let mut codes = codes.iter();
        let mut log = Vec::new();
        loop {
            match tx.next_move() {
                Move::Say(verb) => log.push(format!("{verb:?}")),
                Move::Hear(_) => {
                    let code = *codes.next().expect("a code for each reply");
                    log.push(code.to_string());
                    tx.heard(reply(code));
                }
                Move::SendBody => {
                    log.push("body".into());
                    tx.dot_sent();
                }
                Move::SendLoneDot => {
                    log.push("dot".into());
                    tx.dot_sent();
                }
                Move::Finish => break,
            }
        }
        assert!(codes.next().is_none(), "stopped too early: {log:?}");
        let (ending, aftermath) = tx.finish();
        let ending = match ending.expect("every transaction has an ending") {
            Ending::Accepted(_) => "accepted".into(),
            Ending::Refused(stage, reply) => format!("refused {stage} {}", reply.code()),
            Ending::Nonsense(stage, reply) => format!("nonsense {stage} {}", reply.code()),
        };
        let after = match aftermath {
            Aftermath::Usable(Standing::Clean) => "clean",
            Aftermath::Usable(Standing::Open) => "open",
            Aftermath::Broken => "broken",
        };
        (log.join(" "), format!("{ending}, {after}"))
    }

    #[test]
    fn in_turn() {
        for (codes, log, end) in [
            (&[250, 250, 354, 250][..], "Mail 250 Rcpt 250 Data 354 body 250", "accepted, clean"),
            (&[451], "Mail 451", "refused mail 451, clean"),
            (&[250, 550], "Mail 250 Rcpt 550", "refused rcpt 550, open"),
            (&[250, 251, 451], "Mail 250 Rcpt 251 Data 451", "refused data 451, open"),
            (&[421], "Mail 421", "refused mail 421, broken"),
            (&[250, 421], "Mail 250 Rcpt 421", "refused rcpt 421, broken"),
            (&[250, 250, 250], "Mail 250 Rcpt 250 Data 250", "nonsense data 250, broken"),
            (&[354], "Mail 354", "nonsense mail 354, broken"),
            (
                &[250, 250, 354, 554],
                "Mail 250 Rcpt 250 Data 354 body 554",
                "refused dot 554, clean",
            ),
            (
                &[250, 250, 354, 421],
                "Mail 250 Rcpt 250 Data 354 body 421",
                "refused dot 421, broken",
            ),
            (
                &[250, 250, 354, 354],
                "Mail 250 Rcpt 250 Data 354 body 354",
                "nonsense dot 354, broken",
            ),
        ] {
            let (did, ended) = run(Flow::InTurn, Standing::Clean, codes);
            assert_eq!((did.as_str(), ended.as_str()), (log, end), "{codes:?}");
        }
    }

    #[test]
    fn pipelined() {
        for (codes, log, end) in [
            (&[250, 250, 354, 250][..], "250 250 354 body 250", "accepted, clean"),
            (&[250, 550, 503], "250 550 503", "refused rcpt 550, open"),
            (&[250, 550, 354, 554], "250 550 354 dot 554", "refused rcpt 550, clean"),
            (&[250, 550, 354, 250], "250 550 354 dot 250", "refused rcpt 550, clean"),
            (&[451, 503, 503], "451 503 503", "refused mail 451, clean"),
            (&[451, 503, 354, 554], "451 503 354 dot 554", "refused mail 451, clean"),
            (&[451, 250, 354], "451 250 354", "refused mail 451, broken"),
            (&[250, 250, 451], "250 250 451", "refused data 451, open"),
            (&[250, 421], "250 421", "refused rcpt 421, broken"),
            (&[250, 550, 421], "250 550 421", "refused rcpt 550, broken"),
            (&[250, 550, 354, 421], "250 550 354 dot 421", "refused rcpt 550, broken"),
        ] {
            let (did, ended) = run(Flow::Pipelined, Standing::Clean, codes);
            let did = did.strip_prefix("Mail Rcpt Data ").expect("all said first");
            assert_eq!((did, ended.as_str()), (log, end), "{codes:?}");
        }
    }

    #[test]
    fn an_open_transaction_is_reset_first() {
        let (did, ended) = run(Flow::Pipelined, Standing::Open, &[250, 250, 250, 354, 250]);
        assert_eq!(did, "Reset Mail Rcpt Data 250 250 250 354 body 250");
        assert_eq!(ended, "accepted, clean");
        let (did, ended) = run(Flow::InTurn, Standing::Open, &[500]);
        assert_eq!((did.as_str(), ended.as_str()), ("Reset 500", "nonsense mail 500, broken"));
    }

    #[test]
    fn the_answer_to_mail_is_known() {
        for standing in [Standing::Clean, Standing::Open] {
            let mut tx = Transaction::new(Flow::InTurn, standing);
            let replies = if standing == Standing::Open { 2 } else { 1 };
            for _ in 0..replies {
                assert!(!tx.has_answer_to_mail());
                assert!(matches!(tx.next_move(), Move::Say(_)));
                assert!(matches!(tx.next_move(), Move::Hear(Stage::Mail)));
                tx.heard(reply(250));
            }
            assert!(tx.has_answer_to_mail());
        }
    }

    proptest! {
        /// Whatever a peer answers: the body needs 2xx, 2xx, 354 before it, and
        /// only a 2xx behind it makes a receipt.
        #[test]
        fn the_body_is_never_sent_in_vain(
            codes in prop::collection::vec(prop::sample::select(
                vec![220, 250, 251, 354, 421, 450, 503, 550]), 4),
            pipelined in any::<bool>(),
        ) {
            let flow = if pipelined { Flow::Pipelined } else { Flow::InTurn };
            let mut tx = Transaction::new(flow, Standing::Clean);
            let (mut heard, mut body) = (Vec::new(), false);
            loop {
                match tx.next_move() {
                    Move::Say(_) => {}
                    Move::Hear(_) => {
                        heard.push(codes[heard.len()]);
                        tx.heard(reply(heard[heard.len() - 1]));
                    }
                    Move::SendBody => {
                        prop_assert!(heard[0] < 300 && heard[1] < 300 && heard[2] == 354);
                        body = true;
                        tx.dot_sent();
                    }
                    Move::SendLoneDot => {
                        prop_assert!(heard[1] >= 400);
                        tx.dot_sent();
                    }
                    Move::Finish => break,
                }
            }
            let accepted = matches!(tx.finish().0, Some(Ending::Accepted(_)));
            prop_assert_eq!(accepted, body && heard[3] < 300);
        }
    }
}
