//! What is read from mails that come back: the standard's own examples in spirit, the ways of
//! common servers, and mails that are no reports. All samples are our own.

use std::fmt::Write;

use postrider::domain::bounce_class::{Class, Hardness};
use postrider::feedback::report::{Action, Finding, Kind, Report};
use postrider::feedback::understand;

fn read(mail: &str) -> Report {
    understand(mail.replace('\n', "\r\n").as_bytes())
}

fn brief(finding: &Finding) -> (Option<&str>, Action, Class, Hardness) {
    (finding.recipient.as_deref(), finding.action, finding.class, finding.hardness)
}

fn dsn(text: &str, status: &str) -> String {
    format!(
        "From: Mail Delivery System <MAILER-DAEMON@mx.example>\nTo: b1@bounces.example\nSubject: Undelivered Mail\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"x/y\"\n\n\
         --x/y\n\n{text}\n\n--x/y\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n{status}\n\
         --x/y\nContent-Type: message/rfc822\n\nReturn-Path: <b1@bounces.example>\nMessage-ID: <dlv_1@shop.example>\nTo: a@b.example\n\nHello\n--x/y--\n"
    )
}

#[test]
fn every_recipient_of_a_report_is_read() {
    let report = read(&dsn(
        "sorry",
        "Final-Recipient: rfc822; a@b.example\nOriginal-Recipient: rfc822;first@b.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 User unknown\n\n\
         Final-Recipient: rfc822; c@b.example\nAction: delayed\nStatus: 4.4.1\n\n\
         Final-Recipient: rfc822; d@b.example\nAction: relayed\nStatus: 2.1.9\n\n\
         Final-Recipient: rfc822; e@b.example\nAction: delivered\nStatus: 2.0.0\n\n\
         Final-Recipient: rfc822; f@b.example\nAction: failed\nStatus: 5.2.2\n\n\
         Final-Recipient: rfc822; g@b.example\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 554 5.7.1 blocked using zen.spamhaus.org\n",
    ));
    assert_eq!(report.kind, Kind::Dsn);
    let found: Vec<_> = report.findings.iter().map(brief).collect();
    assert_eq!(
        found,
        [
            (Some("a@b.example"), Action::Failed, Class::AddressBad, Hardness::Hard),
            (Some("c@b.example"), Action::Delayed, Class::Transient, Hardness::Soft),
            (Some("d@b.example"), Action::Relayed, Class::Delivered, Hardness::Soft),
            (Some("e@b.example"), Action::Delivered, Class::Delivered, Hardness::Soft),
            (Some("f@b.example"), Action::Failed, Class::MailboxFull, Hardness::Soft),
            (Some("g@b.example"), Action::Failed, Class::Policy, Hardness::Soft),
        ]
    );
    assert_eq!(report.findings[0].original_recipient.as_deref(), Some("first@b.example"));
    assert_eq!(report.original.message_id.as_deref(), Some("dlv_1@shop.example"));
    assert_eq!(report.original.envelope_sender.as_deref(), Some("b1@bounces.example"));
}

#[test]
fn the_reply_goes_before_the_status_that_somebody_made_of_it() {
    let one = |status: &str| read(&dsn("sorry", status)).findings[0].class;
    let blocked = "Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.7.1 IP address blacklisted by recipient\n";
    assert_eq!(one(blocked), Class::Policy);
    let moved = "Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 mailbox\n full, try less\n";
    assert_eq!(one(moved), Class::MailboxFull);
}

#[test]
fn help_texts_around_a_report_do_not_mislead() {
    let text = "unknown user: the address does not exist\nmailbox full: over quota\n\n<a@b.example>: host mx.b.example[192.0.2.1] said: 552 message too large (in reply to end of DATA command)";
    let report =
        read(&dsn(text, "Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.0.0\n"));
    assert_eq!(report.findings[0].class, Class::Size);
}

#[test]
fn servers_that_follow_no_standard_are_understood() {
    let from = "From: MAILER-DAEMON@mx.example\nTo: b1@bounces.example\n";
    for (name, mail, expected) in [
        (
            "qmail",
            "Subject: failure notice\n\nHi. This is the qmail-send program at mx.example.\nI'm afraid I wasn't able to deliver your message to the following addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\n<a@b.example>:\n192.0.2.1 does not like recipient.\nRemote host said: 550 no such user\nGiving up on 192.0.2.1.\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <x@y.example>\nTo: z@y.example\n",
            vec![("a@b.example", Class::AddressBad, Hardness::Hard)],
        ),
        (
            "Exim",
            "X-Failed-Recipients: a@b.example,\n  c@b.example\nSubject: Mail delivery failed: returning message to sender\n\nThis message was created automatically by mail delivery software.\n\nA message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n  a@b.example\n    host mx.b.example [192.0.2.1]\n    SMTP error from remote mail server after RCPT TO:<a@b.example>:\n    550 5.2.2 quota exceeded\n  c@b.example\n    all relevant MX records point to non-existent hosts\n\n------ This is a copy of the message, including all the headers. ------\n\nReturn-path: <x@y.example>\n",
            vec![
                ("a@b.example", Class::MailboxFull, Hardness::Soft),
                ("c@b.example", Class::DomainBad, Hardness::Hard),
            ],
        ),
        (
            "Exchange",
            "Subject: Undeliverable: Hello\n\nYour message\n\n  To:      other@y.example\n  Subject: Hello\n\ndid not reach the following recipient(s):\n\na@b.example on Thu, 29 Apr 2010 00:00:00 -0000\n    The recipient name is not recognized\n    MSEXCH:IMS:X:Y:Z 0 (000C05A6) Unknown Recipient\n",
            vec![("a@b.example", Class::AddressBad, Hardness::Hard)],
        ),
        (
            "Notes",
            "Subject: DELIVERY FAILURE: User not listed\n\n------- Failure Reasons  --------\n\nUser not listed in public Name & Address Book\na@b.example\n\n------- Returned Message --------\n\nTo: z@y.example\n",
            vec![("a@b.example", Class::AddressBad, Hardness::Hard)],
        ),
        (
            "m-FILTER",
            "Subject: failure notice\n\nThe mail could not be delivered.\n\n-------server message \n550 5.1.1 unknown user <a@b.example>\n\n-------unsent message\n\nTo: z@y.example\n",
            vec![("a@b.example", Class::AddressBad, Hardness::Hard)],
        ),
        (
            "DragonFly",
            "Subject: Mail delivery failed\n\nThis is the DragonFly Mail Agent at mx.example.\n\nThere was an error delivering your mail to <a@b.example>.\n\n550 5.1.1 <a@b.example>: Recipient address rejected: User unknown\n\nMessage headers follow.\n\nTo: z@y.example\n",
            vec![("a@b.example", Class::AddressBad, Hardness::Hard)],
        ),
        (
            "OpenSMTPD",
            "Subject: Delivery status notification: error\n\n    Hi!\n\n    This is the MAILER-DAEMON, please DO NOT REPLY to this email.\n    An error has occurred while attempting to deliver a message for\n    the following list of recipients:\n\na@b.example: 550 5.1.1 user unknown\n\n    Below is a copy of the original message:\n\nTo: z@y.example\n",
            vec![("a@b.example", Class::AddressBad, Hardness::Hard)],
        ),
        (
            "IMail",
            "Subject: Undeliverable Mail\n\nUser mailbox exceeds allowed size: a@b.example\n\nOriginal message follows.\n\nTo: z@y.example\n",
            vec![("a@b.example", Class::MailboxFull, Hardness::Soft)],
        ),
        (
            "Gmail",
            "X-Failed-Recipients: a@b.example\nSubject: Delivery Status Notification (Failure)\n\nDelivery to the following recipient failed permanently:\n\n     a@b.example\n\nTechnical details of permanent failure: \nGoogle tried to deliver your message, but it was rejected by the recipient domain. The error that the other server returned was: 550 550 5.1.1 no such user (state 14).\n\n----- Original message -----\n\nTo: z@y.example\n",
            vec![("a@b.example", Class::AddressBad, Hardness::Hard)],
        ),
        (
            "Exim, delayed",
            "Subject: Warning: message 1 delayed 24 hours\n\nThis message was created automatically by mail delivery software.\nA message that you sent has not yet been delivered to one or more of its\nrecipients after more than 24 hours on the queue.\n\nThe address to which the message has not yet been delivered is:\n\n  a@b.example\n    Delay reason: Connection timed out\n",
            vec![("a@b.example", Class::Transient, Hardness::Soft)],
        ),
    ] {
        let report = read(&format!("{from}{mail}"));
        assert_eq!(report.kind, Kind::Bounce, "{name}: {report:#?}");
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|f| (f.recipient.as_deref().unwrap_or("-"), f.class, f.hardness))
            .collect();
        assert_eq!(found, expected, "{name}: {report:#?}");
    }
}

#[test]
fn a_failure_without_an_address_is_still_a_failure() {
    let report = read(
        "From: Postmaster <postmaster@b.example>\nReturn-Path: <>\nSubject: Undeliverable\n\nYour mail could not be delivered: the mailbox is full.\n",
    );
    assert_eq!(
        report.findings.iter().map(brief).collect::<Vec<_>>(),
        [(None, Action::Failed, Class::MailboxFull, Hardness::Soft)]
    );
}

#[test]
fn a_complaint_is_read_redacted_or_not() {
    let arf = |fields: &str| {
        format!(
            "From: fbl@provider.example\nSubject: FW: spam\nContent-Type: multipart/report; report-type=feedback-report; boundary=q\n\n--q\n\nThis is an abuse report.\n\
             --q\nContent-Type: message/feedback-report\n\n{fields}\n--q\nContent-Type: message/rfc822\n\nReturn-Path: <b1@bounces.example>\nMessage-ID: <dlv_1@shop.example>\n\nx\n--q--\n"
        )
    };
    let named = read(&arf(
        "Feedback-Type: abuse\nOriginal-Rcpt-To: <A@b.example>\nRemoval-Recipient: a@b.example\n",
    ));
    assert_eq!(named.kind, Kind::Complaint);
    assert_eq!(
        named.findings.iter().map(brief).collect::<Vec<_>>(),
        [(Some("a@b.example"), Action::Complained, Class::Complaint, Hardness::Soft)]
    );
    let hidden = read(&arf(
        "Feedback-Type: abuse\nOriginal-Rcpt-To: <redacted@b.example>\nOriginal-Mail-From: <b2@bounces.example>\n",
    ));
    assert_eq!(hidden.findings[0].recipient, None);
    assert_eq!(hidden.original.envelope_sender.as_deref(), Some("b2@bounces.example"));
    assert!(read(&arf("Feedback-Type: not-spam\n")).findings.is_empty());
    assert!(read(&arf("Feedback-Type: auth-failure\n")).findings.is_empty());
}

#[test]
fn ordinary_mail_and_answers_of_programs_condemn_nobody() {
    for (mail, kind) in [
        (
            "From: Ann <ann@b.example>\nSubject: Automatic reply: Hello\n\nI am out of the office. User unknown to some.\n",
            Kind::AutoReply,
        ),
        (
            "From: ann@b.example\nSubject: Re: Hello\nAuto-Submitted: auto-replied\n\nYour ticket was opened.\n",
            Kind::AutoReply,
        ),
        ("From: ann@b.example\nSubject: Abwesenheit\n\nIch bin nicht da.\n", Kind::AutoReply),
        (
            "From: ann@b.example\nSubject: Re: delivery failed?\n\nI got this: 550 5.1.1 <me@b.example> user unknown. What is it?\n",
            Kind::Ordinary,
        ),
        (
            "From: no-reply@parcels.example\nSubject: Your parcel\n\nIt could not be delivered, we try again tomorrow.\n",
            Kind::Ordinary,
        ),
        (
            "From: news@shop.example\nSubject: Sale\n\nThe address does not exist in this town. Write to sale@shop.example.\n",
            Kind::Ordinary,
        ),
        (
            "From: ann@b.example\nSubject: Fwd: Undelivered Mail\nContent-Type: multipart/mixed; boundary=m\n\n--m\n\nLook.\n--m\nContent-Type: message/rfc822\n\nContent-Type: multipart/report; boundary=n\n\n--n\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\n\n--n--\n--m--\n",
            Kind::Ordinary,
        ),
        ("", Kind::Ordinary),
    ] {
        let report = read(mail);
        assert_eq!(report.kind, kind, "{mail}");
        assert!(report.findings.iter().all(|one| !one.condemns_address()), "{mail}");
    }
}

#[test]
fn hostile_mails_are_read_within_bounds() {
    let nested = {
        let mut mail = String::from("From: MAILER-DAEMON@x.example\n");
        for n in 0..5_000 {
            writeln!(mail, "Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}")
                .expect("write");
        }
        mail
    };
    let same = format!(
        "Content-Type: multipart/mixed; boundary=b\n\n{}",
        "--b\nContent-Type: multipart/mixed; boundary=b\n\n".repeat(60_000)
    );
    let nearly =
        format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--bx\n".repeat(800_000));
    let header = format!("{}\n\nx", "X-A: b\n".repeat(600_000));
    let fold = format!("Subject: x\n{}\n\nx", " y\n".repeat(1_500_000));
    let groups = dsn("x", &"Final-Recipient: rfc822; a@b.example\nAction: failed\nDiagnostic-Code: smtp; 550 user unknown\n\n".repeat(40_000));
    let long = dsn(
        "x",
        &format!(
            "Final-Recipient: rfc822; a@b.example\nAction: failed\nDiagnostic-Code: smtp; 550 {}\n",
            "a@b.c ".repeat(700_000)
        ),
    );
    let ats = format!(
        "From: MAILER-DAEMON@x.example\nSubject: failure notice\n\ncould not be delivered\n{}",
        "@".repeat(4_000_000)
    );
    let mut addresses = String::from(
        "From: MAILER-DAEMON@x.example\nSubject: failure notice\n\ncould not be delivered\n",
    );
    for n in 0..100_000 {
        writeln!(addresses, "<a{n}@b.example>: 550 user unknown").expect("write");
    }
    let encoded = format!(
        "From: MAILER-DAEMON@x.example\nSubject: {}\n\nx",
        "=?utf-8?q?=41?= ".repeat(200_000)
    );
    let html = format!(
        "From: MAILER-DAEMON@x.example\nSubject: failure notice\nContent-Type: text/html\n\n{}",
        "<div><p>&amp;".repeat(300_000)
    );
    for (name, mail) in [
        ("nested", nested),
        ("same", same),
        ("nearly", nearly),
        ("header", header),
        ("fold", fold),
        ("groups", groups),
        ("long", long),
        ("ats", ats),
        ("addresses", addresses),
        ("encoded", encoded),
        ("html", html),
    ] {
        let report = understand(mail.as_bytes());
        assert!(report.findings.len() <= 130, "{name}");
    }
}
