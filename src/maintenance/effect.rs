//! What a report calls for (pure).

use serde_json::json;

use super::callback;
use crate::callback::Origin;
use crate::domain::bounce_class::{Class, Hardness};
use crate::domain::ids::DeliveryId;
use crate::feedback;
use crate::feedback::report::{Action, Finding, Kind, Original, Report};
use crate::inbound::door::Door;
use crate::inbound::store::{Done, Taken};

/// What is to be done about one delivery.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Effect {
    pub(super) report: i64,
    pub(super) delivery: DeliveryId,
    pub(super) code: Option<i16>,
    /// For the history (JSON).
    pub(super) detail: String,
    /// Whom the report names; none: whoever the delivery was for.
    pub(super) recipient: Option<String>,
    pub(super) original: Option<String>,
    /// Why the recipient is not written to any more.
    pub(super) suppress: Option<&'static str>,
    /// Class of a failure of the mailbox that counts towards that.
    pub(super) soft: Option<&'static str>,
    /// Who says so, for the list of suppressions.
    pub(super) source: &'static str,
    /// The provider that tells; none: it came by mail.
    pub(super) origin: Option<Origin>,
    /// Somebody on the receiving side had the mail.
    pub(super) proves_acceptance: bool,
}

/// A report that was read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) report: i64,
    pub(super) effects: Vec<Effect>,
    pub(super) classes: Vec<(Class, Hardness)>,
    /// Ids of a provider by which its delivery may be known, the likeliest first.
    pub(super) provider_ids: Vec<String>,
    /// Its delivery may be known a little later: the provider can be faster than our own note.
    pub(super) may_come_later: bool,
    pub(super) kind: &'static str,
    pub(super) findings: String,
    /// What it is when nothing is to be done about it.
    pub(super) idle: &'static str,
}

/// Findings of one report that are kept and acted on.
const MAX_FINDINGS: usize = 50;

/// How sure it is which delivery is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// By an address that only we can make.
    Signed,
    /// By a number that anyone could write.
    Said,
}

/// Reads a report. `door` knows the addresses of ours.
pub(super) fn read(taken: &Taken, door: Option<&Door>) -> Read {
    if taken.purpose == "callback" {
        return callback::read(taken);
    }
    let report = feedback::understand(&taken.raw);
    let unsubscribes = taken.purpose == "unsubscribe";
    let about = match taken.job_id {
        Some(job) => Some((DeliveryId::new(job), Proof::Signed)),
        None => find(&report.original, door),
    };
    let acts = match report.kind {
        Kind::Dsn | Kind::Bounce => taken.purpose == "return",
        Kind::Complaint => !unsubscribes,
        Kind::AutoReply | Kind::Ordinary => unsubscribes,
    };
    let mut effects = Vec::new();
    if let Some((delivery, proof)) = about.filter(|_| acts) {
        if unsubscribes {
            effects.push(unsubscribed(taken.report_id, delivery));
        } else {
            let findings = report.findings.iter().take(MAX_FINDINGS).enumerate();
            effects
                .extend(findings.map(|(n, one)| effect(taken.report_id, delivery, proof, n, one)));
        }
    }
    let kept: Vec<_> = report.findings.iter().take(MAX_FINDINGS).map(facts).collect();
    Read {
        report: taken.report_id,
        effects,
        classes: report
            .findings
            .iter()
            .take(MAX_FINDINGS)
            .map(|one| (one.class, one.hardness))
            .collect(),
        provider_ids: Vec::new(),
        may_come_later: false,
        kind: report.kind.as_str(),
        findings: json!({"findings": kept, "message_id": report.original.message_id}).to_string(),
        idle: if acts && !is_silent(&report) { "unmatched" } else { "ignored" },
    }
}

impl Read {
    /// A report that cannot be read.
    pub(super) fn failed(report: i64) -> Self {
        Self {
            report,
            effects: Vec::new(),
            classes: Vec::new(),
            provider_ids: Vec::new(),
            may_come_later: false,
            kind: Kind::Ordinary.as_str(),
            findings: "{}".into(),
            idle: "failed",
        }
    }

    /// The delivery that it is about.
    pub(super) fn delivery(&self) -> Option<DeliveryId> {
        self.effects.first().map(|one| one.delivery)
    }

    /// The effects, about this delivery.
    pub(super) fn settle_on(&mut self, delivery: DeliveryId) {
        for effect in &mut self.effects {
            effect.delivery = delivery;
        }
    }

    /// How it was dealt with. `suppressed`: for each effect that found its delivery, whether it
    /// suppressed.
    pub(super) fn done(&self, suppressed: &[bool]) -> Done {
        let outcome = match suppressed {
            [] => self.idle,
            some if some.contains(&true) => "applied",
            _ => "evidence",
        };
        Done { report_id: self.report, kind: self.kind, outcome, findings: self.findings.clone() }
    }
}

/// A complaint that says that the mail was no spam.
fn is_silent(report: &Report) -> bool {
    report.findings.is_empty()
}

/// The delivery of the mail that a report encloses.
fn find(original: &Original, door: Option<&Door>) -> Option<(DeliveryId, Proof)> {
    let sender = original.envelope_sender.as_deref();
    if let Some(delivery) = door.zip(sender).and_then(|(door, sender)| door.delivery_of(sender)) {
        return Some((delivery, Proof::Signed));
    }
    let id = original.message_id.as_deref()?.split('@').next()?;
    Some((id.parse().ok()?, Proof::Said))
}

fn effect(report: i64, delivery: DeliveryId, proof: Proof, n: usize, finding: &Finding) -> Effect {
    let suppress = reason(finding);
    let mut detail = facts(finding);
    if let Some(detail) = detail.as_object_mut() {
        detail.insert("report".into(), json!(report.to_string()));
        detail.insert("finding".into(), json!(n));
        detail.insert("proven".into(), json!(proof == Proof::Signed));
        detail.insert("by".into(), json!("report"));
    }
    Effect {
        report,
        delivery,
        code: finding.code.and_then(|code| i16::try_from(code).ok()),
        detail: detail.to_string(),
        recipient: finding.recipient.clone(),
        original: finding.original_recipient.clone(),
        suppress: suppress.filter(|_| proof == Proof::Signed),
        soft: soft(finding).filter(|_| suppress.is_none() && proof == Proof::Signed),
        source: "report",
        origin: None,
        proves_acceptance: proof == Proof::Signed,
    }
}

/// Why a finding takes its recipient off all further mail, if it does.
pub(super) fn reason(finding: &Finding) -> Option<&'static str> {
    if finding.condemns_address() {
        Some("address_bad")
    } else if finding.class == Class::Complaint {
        Some("complaint")
    } else {
        None
    }
}

/// Class of a failure of the mailbox that counts towards a suppression.
pub(super) fn soft(finding: &Finding) -> Option<&'static str> {
    Some(finding.class)
        .filter(|class| finding.action == Action::Failed && class.is_soft_of_mailbox())
        .map(Class::as_str)
}

fn unsubscribed(report: i64, delivery: DeliveryId) -> Effect {
    Effect {
        report,
        delivery,
        code: None,
        detail: json!({"report": report.to_string(), "finding": 0, "action": "unsubscribed", "proven": true, "by": "report"})
            .to_string(),
        recipient: None,
        original: None,
        suppress: Some("unsubscribed"),
        soft: None,
        source: "recipient",
        origin: None,
        proves_acceptance: true,
    }
}

/// A finding for the history and the store. Control characters of the outside stay outside.
pub(super) fn facts(finding: &Finding) -> serde_json::Value {
    let plain = |text: &str| text.replace(char::is_control, " ");
    json!({
        "recipient": finding.recipient.as_deref().map(plain),
        "original": finding.original_recipient.as_deref().map(plain),
        "action": finding.action.as_str(),
        "class": finding.class.as_str(),
        "hardness": finding.hardness.as_str(),
        "rule": finding.rule,
        "enhanced": finding.status.map(|status| status.to_string()),
        "stage": finding.stage.map(crate::domain::verdict::Stage::as_str),
        "reply": plain(&finding.text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNCE: &str = "From: MAILER-DAEMON@b.example\r\nSubject: failure notice\r\n\r\nHi. This is the qmail-send program.\r\n\
        I wasn't able to deliver your message to the following addresses.\r\n\r\n<a@b.example>:\r\n550 5.1.1 User unknown\r\n";

    fn taken(purpose: &str, job: Option<i64>, raw: &str) -> Taken {
        Taken {
            report_id: 7,
            purpose: purpose.into(),
            job_id: job,
            sender: String::new(),
            raw: raw.as_bytes().to_vec(),
            tries: 1,
            event_key: None,
        }
    }

    #[test]
    fn a_bounce_to_a_return_path_suppresses_and_one_elsewhere_does_not() {
        let here = read(&taken("return", Some(9), BOUNCE), None);
        assert_eq!(here.effects.len(), 1);
        assert_eq!(here.effects[0].suppress, Some("address_bad"));
        assert_eq!(here.effects[0].recipient.as_deref(), Some("a@b.example"));
        for purpose in ["complaint", "unsubscribe"] {
            assert!(read(&taken(purpose, Some(9), BOUNCE), None).effects.is_empty(), "{purpose}");
        }
    }

    #[test]
    fn answers_of_programs_and_people_do_nothing_at_a_return_path() {
        for mail in [
            "Subject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\nuser unknown\r\n",
            "Subject: hi\r\n\r\n550 user unknown\r\n",
        ] {
            let done = read(&taken("return", Some(9), mail), None);
            assert!(done.effects.is_empty());
            assert_eq!(done.done(&[]).outcome, "ignored");
            assert_eq!(
                read(&taken("unsubscribe", Some(9), mail), None).effects[0].suppress,
                Some("unsubscribed")
            );
        }
    }

    #[test]
    fn a_complaint_that_only_names_a_message_is_evidence() {
        let mail = format!(
            "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\r\n\
             --b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <{}@shop.example>\r\n\r\n--b--\r\n",
            DeliveryId::new(9)
        );
        let done = read(&taken("complaint", None, &mail), None);
        assert_eq!(done.effects.len(), 1);
        assert_eq!(
            (done.effects[0].delivery, done.effects[0].suppress),
            (DeliveryId::new(9), None)
        );
        assert_eq!(
            read(&taken("return", Some(9), &mail), None).effects[0].suppress,
            Some("complaint")
        );
    }
}
