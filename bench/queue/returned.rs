//! Mail as it comes back: bounces of several kinds of servers, delays, complaints, answers of
//! programs. Each is about one delivery and a few kilobytes long, as the real ones are.

/// What one mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A DSN: the user is unknown.
    Unknown,
    /// A DSN: the mailbox is full.
    Full,
    /// A DSN: delayed.
    Delayed,
    /// Not a DSN: qmail's words.
    Qmail,
    /// A complaint (ARF).
    Complaint,
    /// Out of office.
    Vacation,
}

impl Kind {
    /// The kind of the mail of this number: 45 % unknown, 15 % full, 10 % each of delays and
    /// qmail's, 15 % complaints, 5 % answers of programs.
    pub(crate) const fn of(n: u64) -> Self {
        match n % 20 {
            0..9 => Self::Unknown,
            9..12 => Self::Full,
            12..14 => Self::Delayed,
            14..16 => Self::Qmail,
            16..19 => Self::Complaint,
            _ => Self::Vacation,
        }
    }

    /// Whether the recipient is suppressed for it.
    pub(crate) const fn suppresses(self) -> bool {
        matches!(self, Self::Unknown | Self::Qmail | Self::Complaint)
    }
}

/// The mail of a kind about the delivery to `recipient`, which came from `back`; as it goes over the
/// wire, with its final dot.
pub(crate) fn mail(kind: Kind, n: u64, recipient: &str, back: &str) -> Vec<u8> {
    let text = match kind {
        Kind::Unknown => dsn(
            n,
            recipient,
            back,
            "failed",
            "5.1.1",
            "550 5.1.1 The email account that you tried to reach does not exist. Please try \
             double-checking the recipient's email address for typos or unnecessary spaces.",
        ),
        Kind::Full => dsn(
            n,
            recipient,
            back,
            "failed",
            "5.2.2",
            "552 5.2.2 The email account that you tried to reach is over quota and inactive.",
        ),
        Kind::Delayed => dsn(
            n,
            recipient,
            back,
            "delayed",
            "4.4.1",
            "connect to mx.receiver.example[198.51.100.7]:25: Connection timed out",
        ),
        Kind::Qmail => format!(
            "{received}Date: Thu, 26 Nov 2026 02:00:00 +0000\nFrom: MAILER-DAEMON@mx.receiver.example\nTo: {back}\n\
             Subject: failure notice\n\nHi. This is the qmail-send program at mx.receiver.example.\n\
             I'm afraid I wasn't able to deliver your message to the following addresses.\n\
             This is a permanent error; I've given up. Sorry it didn't work out.\n\n<{recipient}>:\n\
             198.51.100.9 does not like recipient.\nRemote host said: 550 5.1.1 <{recipient}>: User unknown\n\
             Giving up on 198.51.100.9.\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <{back}>\n{original}",
            received = received(n),
            original = original(n, recipient),
        ),
        Kind::Complaint => format!(
            "{received}From: Feedback <fbl@receiver.example>\nTo: {back}\nSubject: FW: News for you\n\
             Date: Thu, 26 Nov 2026 02:00:00 +0000\nMIME-Version: 1.0\n\
             Content-Type: multipart/report; report-type=feedback-report; boundary=\"fbl{n}\"\n\n--fbl{n}\n\
             Content-Type: text/plain; charset=us-ascii\n\nThis is an email abuse report for an email message \
             received from IP 198.51.100.20\non Thu, 26 Nov 2026 01:59:00 +0000.\n\n--fbl{n}\n\
             Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: Loop/2.1\nVersion: 1\n\
             Original-Mail-From: <{back}>\nArrival-Date: Thu, 26 Nov 2026 01:59:00 +0000\nSource-IP: 198.51.100.20\n\
             Reported-Domain: shop.example\n\n--fbl{n}\nContent-Type: message/rfc822\n\n{original}\n--fbl{n}--\n",
            received = received(n),
            original = original(n, "redacted@receiver.example"),
        ),
        Kind::Vacation => format!(
            "{received}From: <{recipient}>\nTo: {back}\nSubject: Automatic reply: News for you\n\
             Auto-Submitted: auto-replied\nX-Auto-Response-Suppress: All\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=utf-8\n\nI am out of the office until Monday, with limited access to mail.\n",
            received = received(n),
        ),
    };
    let mut wire = Vec::with_capacity(text.len() + text.len() / 40 + 5);
    for line in text.lines() {
        if line.starts_with('.') {
            wire.push(b'.');
        }
        wire.extend_from_slice(line.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn dsn(n: u64, recipient: &str, back: &str, action: &str, status: &str, words: &str) -> String {
    format!(
        "{received}Date: Thu, 26 Nov 2026 02:00:00 +0000 (UTC)\nFrom: MAILER-DAEMON@mx.receiver.example (Mail Delivery System)\n\
         Subject: Undelivered Mail Returned to Sender\nTo: {back}\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"4XyZ{n}/mx.receiver.example\"\n\
         Content-Transfer-Encoding: 8bit\nMessage-Id: <20261126020000.{n}@mx.receiver.example>\n\n\
         This is a MIME-encapsulated message.\n\n--4XyZ{n}/mx.receiver.example\nContent-Description: Notification\n\
         Content-Type: text/plain; charset=utf-8\n\nThis is the mail system at host mx.receiver.example.\n\n\
         I'm sorry to have to inform you that your message could not\nbe delivered to one or more recipients. It's attached below.\n\n\
         For further assistance, please send mail to postmaster.\n\n                   The mail system\n\n\
         <{recipient}>: host mx.inner.example[198.51.100.8] said:\n    {words} (in reply to RCPT TO command)\n\n\
         --4XyZ{n}/mx.receiver.example\nContent-Description: Delivery report\nContent-Type: message/delivery-status\n\n\
         Reporting-MTA: dns; mx.receiver.example\nX-Postfix-Queue-ID: 4XyZ{n}\nX-Postfix-Sender: rfc822; {back}\n\
         Arrival-Date: Thu, 26 Nov 2026 01:59:00 +0000 (UTC)\n\nFinal-Recipient: rfc822; {recipient}\n\
         Original-Recipient: rfc822;{recipient}\nAction: {action}\nStatus: {status}\nRemote-MTA: dns; mx.inner.example\n\
         Diagnostic-Code: smtp; {words}\n\n--4XyZ{n}/mx.receiver.example\nContent-Description: Undelivered Message\n\
         Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nReturn-Path: <{back}>\n{original}\n\
         --4XyZ{n}/mx.receiver.example--\n",
        received = received(n),
        original = original(n, recipient),
    )
}

fn received(n: u64) -> String {
    format!(
        "Return-Path: <>\nReceived: from mx.inner.example (mx.inner.example [198.51.100.8])\n\
         \tby mx.receiver.example (Postfix) with ESMTPS id 4XyZ{n}\n\tfor <list@receiver.example>; Thu, 26 Nov 2026 02:00:00 +0000 (UTC)\n"
    )
}

/// The mail that was sent: headers and 1 KB of text.
fn original(n: u64, recipient: &str) -> String {
    let mut text = format!(
        "Received: from mail.shop.example (mail.shop.example [198.51.100.20])\n\tby mx.receiver.example (Postfix) with ESMTPS id 4XyA{n}\n\
         \tfor <{recipient}>; Thu, 26 Nov 2026 01:59:00 +0000 (UTC)\n\
         DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=shop.example; s=p1; t=1795651140;\n\
         \th=From:To:Subject:Date:Message-ID:List-Unsubscribe:List-Unsubscribe-Post; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\n\
         \tb=dGhpcyBpcyBub3QgYSBzaWduYXR1cmUgYnV0IGFzIGxvbmcgYXMgb25lIHdvdWxkIGJlIGlmIGl0IHdlcmUgb25lIGFuZCBzbyBvbg==\n\
         From: Shop <news@shop.example>\nTo: {recipient}\nSubject: News for you, number {n}\n\
         Date: Thu, 26 Nov 2026 01:59:00 +0000\nMessage-ID: <{n}.news@shop.example>\nMIME-Version: 1.0\n\
         List-Unsubscribe: <https://shop.example/u/abc{n}>, <mailto:u{n}@bounces.shop.example>\n\
         List-Unsubscribe-Post: List-Unsubscribe=One-Click\nContent-Type: text/plain; charset=utf-8\n\n"
    );
    for _ in 0..15 {
        text.push_str("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do.\n");
    }
    text
}
