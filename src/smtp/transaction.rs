//! One mail transaction: MAIL, RCPT, DATA, body, dot (RFC 5321 3.3), or MAIL, RCPT and the
//! body in one chunk (RFC 3030); pure.
//!
//! Says what to do next and is told what was heard; it does no I/O. With
//! PIPELINING (RFC 2920) it says everything up to the body before it listens; the
//! transaction before it may have said all that already, behind its own body.
//!
//! Promises: the body goes out only with the recipient accepted, and after a 354 if it
//! goes by DATA; a 354 after a refusal is answered with a lone dot, so nothing is
//! delivered; the first refusal is the one reported; a 421 ends the session at once.

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
    /// MAIL, RCPT and DATA of this transaction are on their way: it only listens.
    Begun,
}

/// How the body goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// By DATA, ended by a dot.
    Data,
    /// In one chunk, counted: BDAT LAST. Nothing of it needs to be looked at or copied.
    Chunk,
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
    /// Send the body and its end, then call [`Transaction::dot_sent`].
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
    form: Form,
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
    /// A transaction about to begin. One that has begun goes by DATA.
    pub fn new(flow: Flow, standing: Standing, form: Form) -> Self {
        use Verb::{Data, Mail, Rcpt, Reset};
        let form = if standing == Standing::Begun { Form::Data } else { form };
        let verbs: &[Verb] = match (standing, form) {
            (Standing::Clean | Standing::Begun, Form::Data) => &[Mail, Rcpt, Data],
            (Standing::Open, Form::Data) => &[Reset, Mail, Rcpt, Data],
            (Standing::Clean | Standing::Begun, Form::Chunk) => &[Mail, Rcpt],
            (Standing::Open, Form::Chunk) => &[Reset, Mail, Rcpt],
        };
        Self {
            flow,
            form,
            verbs,
            said: if standing == Standing::Begun { verbs.len() } else { 0 },
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
        self.verbs[..self.heard].contains(&Verb::Mail)
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
            // Nothing else is on its way, so no body is asked for.
            self.end_before_data();
        } else if self.form == Form::Chunk && self.heard == self.verbs.len() {
            self.phase = Phase::Go;
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
            if self.form == Form::Chunk && reply.code() != 421 {
                // What a refused chunk leaves behind is not told (RFC 3030 2).
                self.aftermath = Aftermath::Usable(Standing::Open);
            }
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
        let is_open = self.mail_accepted || self.recipient_accepted;
        let standing = if is_open { Standing::Open } else { Standing::Clean };
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
mod tests;
