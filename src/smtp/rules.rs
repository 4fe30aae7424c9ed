//! What is known of mailbox providers' replies: data, first match wins.
//!
//! Each rule carries replies that it must match and some that it must not; the
//! tests below hold the table to them, so a rule that is dead or hidden behind
//! another is found. A rule that names a provider's own words stands before the
//! general ones.

use crate::domain::verdict::{Class, Finality, PeerReply, Reach, Stage};

/// A kind of reply.
#[derive(Debug)]
pub struct Rule {
    /// By which a person speaks of it.
    pub name: &'static str,
    stages: &'static [Stage],
    codes: &'static [u16],
    /// Subject and detail of the enhanced status, any of them.
    statuses: &'static [(u16, u16)],
    /// Lower-case pieces of text, any of them.
    texts: &'static [&'static str],
    /// What it means.
    pub class: Class,
    /// Set where it differs from what the code says.
    pub finality: Option<Finality>,
    /// Set where it differs from what the stage says.
    pub reach: Option<Reach>,
    #[cfg(test)]
    matches: &'static [&'static str],
    #[cfg(test)]
    differs: &'static [&'static str],
}

/// The first rule that knows the reply.
pub fn find(stage: Stage, reply: &PeerReply) -> Option<&'static Rule> {
    let text = reply.text.to_ascii_lowercase();
    RULES.iter().find(|rule| rule.knows(stage, reply, &text))
}

impl Rule {
    fn knows(&self, stage: Stage, reply: &PeerReply, text: &str) -> bool {
        (self.stages.is_empty() || self.stages.contains(&stage))
            && (self.codes.is_empty()
                || self.codes.contains(&reply.code)
                // 400 and 500 stand for their whole hundred.
                || self.codes.contains(&(reply.code / 100 * 100)))
            && (self.statuses.is_empty()
                || reply.enhanced.is_some_and(|found| {
                    self.statuses.iter().any(|(subject, detail)| {
                        *subject == found.subject && (*detail == found.detail || *detail == ANY)
                    })
                }))
            && (self.texts.is_empty() || self.texts.iter().any(|piece| text.contains(piece)))
    }
}

/// Any detail of an enhanced status.
const ANY: u16 = u16::MAX;

/// Where a reply speaks of the recipient: our transactions have only one.
const ABOUT_RECIPIENT: &[Stage] = &[Stage::Rcpt, Stage::Data, Stage::Dot];

/// After the session is set up.
const ABOUT_MAIL: &[Stage] = &[Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];

macro_rules! rules {
    ($($name:literal {
        $(stages: $stages:expr;)?
        $(codes: $codes:expr;)?
        $(statuses: $statuses:expr;)?
        $(texts: $texts:expr;)?
        says: $class:ident $(, $finality:ident)? $(=> $reach:ident)?;
        matches: $matches:expr;
        differs: $differs:expr;
    })*) => {
        const RULES: &[Rule] = &[$(Rule {
            name: $name,
            stages: either!($($stages)?),
            codes: either!($($codes)?),
            statuses: either!($($statuses)?),
            texts: either!($($texts)?),
            class: Class::$class,
            finality: maybe!($(Finality::$finality)?),
            reach: maybe!($(Reach::$reach)?),
            #[cfg(test)]
            matches: &$matches,
            #[cfg(test)]
            differs: &$differs,
        }),*];
    };
}

macro_rules! either {
    () => {
        &[]
    };
    ($given:expr) => {
        $given
    };
}

macro_rules! maybe {
    () => {
        None
    };
    ($given:expr) => {
        Some($given)
    };
}

rules! {
    // --- limits and blocks in a provider's own words ------------------------------
    "qq-frequency" {
        texts: &["frequency limited"];
        says: Throttled, Passing => Source;
        matches: ["550 Mail content denied: Ip frequency limited", "550 Connection frequency limited"];
        differs: ["550 Mailbox not found"];
    }
    "gmail-mailbox-rate" {
        texts: &["is receiving mail at a rate", "receiving mail too quickly"];
        says: Throttled, Passing => Recipient;
        matches: ["450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages"];
        differs: ["450 4.2.1 account is in maintenance"];
    }
    "gmail-reputation" {
        codes: &[400];
        texts: &["very low reputation", "nature of the content and/or the links"];
        says: Policy => Source;
        matches: ["421 4.7.0 This message is suspicious due to the very low reputation of the sending domain"];
        differs: ["451 4.7.0 low on memory"];
    }
    "gmail-unusual-rate" {
        codes: &[400];
        statuses: &[(7, 28)];
        says: Throttled => Source;
        matches: ["421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address"];
        differs: ["550 5.7.28 unsolicited mail"];
    }
    "tls-wanted" {
        texts: &["tls required for rcpt domain", "must issue a starttls command first", "starttls is required"];
        says: Configuration, Passing => Host;
        matches: ["421 4.7.0 TLS required for RCPT domain, closing connection", "530 5.7.0 Must issue a STARTTLS command first"];
        differs: ["454 4.7.0 TLS not available"];
    }
    "connection-used-up" {
        codes: &[400, 500];
        texts: &["max message per connection", "maximum number of messages per connection", "too many messages for this session", "too many messages in this connection", "too many messages on this connection"];
        says: Transient, Passing => Session;
        matches: ["421 Max message per connection reached, closing transmission channel", "452 4.3.2 exceeded maximum number of messages per connection"];
        differs: ["421 Too many connections"];
    }
    "too-many-recipients" {
        codes: &[400];
        statuses: &[(5, 3)];
        says: Throttled => Session;
        matches: ["452 4.5.3 Domain policy size per transaction exceeded", "452 4.5.3 Too many recipients"];
        differs: ["550 5.5.3 Too many recipients"];
    }
    "yahoo-volume" {
        texts: &["[tss04]", "[tss05]", "[ipts04]", "[ipts05]", "[ts01]", "[ts02]", "[ts03]", "will be permanently deferred"];
        says: Throttled, Passing => Source;
        matches: ["421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred"];
        differs: ["421 4.7.0 deferred"];
    }
    "yahoo-blocklist" {
        codes: &[553];
        texts: &["[bl1", "[bl2"];
        says: Policy => Source;
        matches: ["553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1"];
        differs: ["553 5.1.3 bad address [blue]"];
    }
    "outlook-ip-rate" {
        codes: &[400];
        statuses: &[(7, 650), (7, 651), (7, 500)];
        says: Throttled => Source;
        matches: ["451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)", "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)"];
        differs: ["550 5.7.500 access denied"];
    }
    "outlook-slow-down" {
        texts: &["rp-001", "rp-002", "rp-003", "ib007", "exceeded the maximum number of connections"];
        says: Throttled, Passing => Source;
        matches: ["421 RP-001 The mail server IP connecting to Outlook.com server has exceeded the rate limit allowed", "421 4.3.2 The maximum number of concurrent server connections, you have exceeded the maximum number of connections"];
        differs: ["421 connection closed"];
    }
    "outlook-block" {
        codes: &[500];
        texts: &["(s3150)", "(s3140)", "sc-001", "sc-002", "part of their network is on our block list"];
        says: Policy => Source;
        matches: ["550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. part of their network is on our block list (S3150).", "550 SC-001 (BAY004) Unfortunately, messages from 192.0.2.1 weren't sent"];
        differs: ["550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)."];
    }
    "outlook-banned" {
        codes: &[500];
        statuses: &[(7, 606), (7, 511), (7, 512), (7, 513)];
        says: Policy => Source;
        matches: ["550 5.7.606 Access denied, banned sending IP [192.0.2.1]", "550 5.7.511 Access denied, banned sender"];
        differs: ["550 5.7.1 denied"];
    }
    "microsoft-unknown-recipient" {
        stages: ABOUT_RECIPIENT;
        codes: &[550];
        texts: &["recipient address rejected: access denied"];
        says: AddressBad => Recipient;
        matches: ["550 5.4.1 Recipient address rejected: Access denied. AS(201806281)"];
        differs: ["550 5.4.1 Relay access denied", "450 4.4.1 Recipient address rejected: Access denied"];
    }
    "microsoft-consumer-unknown" {
        stages: ABOUT_RECIPIENT;
        codes: &[550];
        texts: &["mailbox unavailable (s2017062302)"];
        says: AddressBad => Recipient;
        matches: ["550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)."];
        differs: ["550 5.5.0 Requested action not taken: mailbox unavailable"];
    }
    "apple-deferred" {
        codes: &[400];
        texts: &["[hcm1]", "[bs02]", "[cs01]"];
        says: Throttled => Source;
        matches: ["421 4.7.1 [HCM1] Message deferred", "451 4.7.1 [BS02] Try later"];
        differs: ["421 deferred"];
    }
    "comcast-limit" {
        texts: &["rl0000", "rl000010"];
        says: Throttled, Passing => Source;
        matches: ["421 4.1.0 192.0.2.1 Throttled - try again later. Please see http://postmaster.comcast.net/smtp-error-codes.php#RL000010"];
        differs: ["421 4.1.0 RL1 busy"];
    }
    "aol-limit" {
        texts: &["dyn:t", "rly:b1", "rly:b2", "con:b1"];
        says: Throttled, Passing => Source;
        matches: ["421 4.7.1 (DYN:T1) too much mail", "554 (RLY:B1) refused"];
        differs: ["554 relaying denied"];
    }
    "netease-daily-limit" {
        texts: &["rp:orq", "hl:itc", "rp:trl", "rp:crl"];
        says: Throttled, Passing => Source;
        matches: ["421 RP:TRL 163 smtp", "421 HL:ITC 163 smtp9"];
        differs: ["554 DT:SPM 163 smtp"];
    }
    "ses-sending-rate" {
        codes: &[454];
        texts: &["throttling failure"];
        says: Throttled => Destination;
        matches: ["454 Throttling failure: Maximum sending rate exceeded.", "454 Throttling failure: Daily message quota exceeded."];
        differs: ["454 TLS not available"];
    }
    "too-many-connections" {
        texts: &["too many connections", "trop de connexions", "too many concurrent smtp connections", "too many simultaneous connections", "too many sessions"];
        says: Throttled, Passing => Source;
        matches: ["421 Too many connections from your IP", "421 service refused, Trop de connexions", "421 4.7.0 mx Error: too many connections from 192.0.2.1"];
        differs: ["421 too many errors"];
    }
    "greylisted" {
        codes: &[400];
        texts: &["greylist", "graylist", "grey list", "gray list", "grey-list"];
        says: Transient => Recipient;
        matches: ["451 4.7.1 Greylisting in action, please come back later", "450 Greylisted for 300 seconds"];
        differs: ["550 5.7.1 greylist permanent"];
    }
    "rate-limited" {
        codes: &[400];
        texts: &["rate limit", "rate-limit", "throttl", "too many messages", "too much mail", "sending too fast", "slow down", "exceeded the rate", "too many emails", "too many mails"];
        says: Throttled => Source;
        matches: ["450 4.7.1 Error: too much mail from 192.0.2.1", "451 4.7.1 Rate limit exceeded", "421 Throttled, try again later"];
        differs: ["550 5.7.1 rate limit", "451 temporary failure"];
    }

    // --- who we are ------------------------------------------------------------------
    "listed-source" {
        texts: &["spamhaus", "spamcop", "barracudacentral", "sorbs.net", "dnsbl", "rbl ", "blacklist", "blocklist", "block list", "blocked using", "listed at", "poor reputation", "bad reputation", "banned sending ip"];
        says: Policy => Source;
        matches: ["554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "550 5.1.1 your IP is on our blacklist, user unknown", "450 4.7.1 listed at dnsbl.example.net"];
        differs: ["550 5.1.1 User unknown"];
    }
    "sender-refused" {
        stages: ABOUT_MAIL;
        texts: &["sender verify failed", "sender verification failed", "sender address rejected", "sender rejected", "sender domain", "domain of sender", "invalid sender", "unknown sender", "sender unknown"];
        says: Policy => Message;
        matches: ["550 Sender verify failed", "450 4.1.8 <a@b.c>: Sender address rejected: Domain not found", "550 Domain of sender address does not exist"];
        differs: ["550 5.1.1 Recipient address rejected: User unknown"];
    }
    "sender-status" {
        stages: ABOUT_MAIL;
        codes: &[500];
        statuses: &[(1, 7), (1, 8)];
        says: Policy => Message;
        matches: ["553 5.1.8 no such domain", "553 5.1.7 bad"];
        differs: ["553 5.1.3 bad"];
    }
    "address-status-at-mail" {
        stages: &[Stage::Mail];
        codes: &[500];
        statuses: &[(1, ANY)];
        says: Policy => Message;
        matches: ["550 5.1.1 unknown", "550 5.1.0 no"];
        differs: ["550 5.7.1 unknown"];
    }
    "unauthenticated-mail" {
        stages: ABOUT_MAIL;
        texts: &["dmarc", "spf check", "spf fail", "dkim", "unauthenticated email", "not pass authentication", "sender policy framework"];
        says: Policy => Source;
        matches: ["550 5.7.26 Unauthenticated email from example.com is not accepted due to domain's DMARC policy", "550 SPF check failed"];
        differs: ["550 spfoo@example.com unknown"];
    }

    // --- the mailbox -----------------------------------------------------------------
    "mailbox-full-passing" {
        stages: ABOUT_RECIPIENT;
        codes: &[552];
        texts: &["4.2.2"];
        says: MailboxFull, Passing => Recipient;
        matches: ["552 4.2.2 The email account that you tried to reach is over quota"];
        differs: ["552 5.2.2 over quota"];
    }
    "mailbox-full" {
        stages: ABOUT_RECIPIENT;
        statuses: &[(2, 2)];
        says: MailboxFull => Recipient;
        matches: ["452 4.2.2 over quota", "552 5.2.2 over quota"];
        differs: ["550 5.2.1 disabled"];
    }
    "null-mx" {
        codes: &[500];
        statuses: &[(1, 10)];
        says: DomainBad => Destination;
        matches: ["556 5.1.10 Recipient address has null MX"];
        differs: ["550 5.1.1 unknown"];
    }
    "bad-address" {
        stages: ABOUT_RECIPIENT;
        codes: &[500];
        statuses: &[(1, 1), (1, 2), (1, 3), (1, 6), (2, 1)];
        says: AddressBad => Recipient;
        matches: ["550 5.1.1 The email account that you tried to reach does not exist", "550 5.2.1 The email account that you tried to reach is disabled"];
        differs: ["550 5.7.1 The email account does not exist", "450 4.1.1 User unknown", "550 5.1.8 bad sender"];
    }
    "unroutable-domain" {
        stages: ABOUT_RECIPIENT;
        codes: &[500];
        statuses: &[(4, 4)];
        says: DomainBad => Recipient;
        matches: ["550 5.4.4 Host not found"];
        differs: ["450 4.4.4 Host not found"];
    }

    // --- the mail --------------------------------------------------------------------
    "too-large" {
        stages: ABOUT_MAIL;
        codes: &[500];
        statuses: &[(3, 4), (2, 3)];
        says: Size => Message;
        matches: ["552 5.3.4 Message size exceeds fixed limit", "550 5.2.3 too long"];
        differs: ["452 4.3.4 not now"];
    }
    "policy-status" {
        stages: ABOUT_MAIL;
        statuses: &[(7, ANY)];
        says: Policy;
        matches: ["550 5.7.1 User unknown, mailbox not found", "451 4.7.1 Try again later", "550 5.7.509 Access denied"];
        differs: ["550 5.1.1 x"];
    }
    "content-status" {
        stages: ABOUT_MAIL;
        statuses: &[(6, ANY)];
        says: Content => Message;
        matches: ["554 5.6.0 Message contains invalid header"];
        differs: ["554 5.7.1 content"];
    }
    "overloaded" {
        stages: ABOUT_MAIL;
        codes: &[400];
        statuses: &[(3, ANY), (4, ANY)];
        says: Transient => Host;
        matches: ["452 4.3.1 Insufficient system storage", "421 4.4.2 timeout"];
        differs: ["552 5.3.4 large"];
    }
    "login-wanted" {
        stages: ABOUT_MAIL;
        codes: &[530, 535, 538, 534];
        says: Configuration, Passing => Host;
        matches: ["530 Authentication required"];
        differs: ["550 denied"];
    }

    // --- words alone -------------------------------------------------------------------
    "mailbox-full-text" {
        stages: ABOUT_RECIPIENT;
        texts: &["mailbox full", "mailbox is full", "over quota", "overquota", "quota exceeded", "exceeded its quota", "exceeded storage allocation", "exceeds allowed quota", "not enough storage space"];
        says: MailboxFull => Recipient;
        matches: ["452 mailbox full", "552 User over quota", "550 mailbox is full"];
        differs: ["450 full moon"];
    }
    "spam-text" {
        stages: &[Stage::Mail, Stage::Data, Stage::Dot];
        codes: &[500];
        texts: &["spam", "virus", "malware", "phishing", "message content rejected", "denied by policy", "prohibited content"];
        says: Content => Message;
        matches: ["554 Message rejected as spam", "550 virus found"];
        differs: ["451 spam check busy"];
    }
    "unknown-user-text" {
        stages: ABOUT_RECIPIENT;
        codes: &[550, 551, 553, 554];
        texts: &["user unknown", "unknown user", "no such user", "user not found", "user doesn't exist", "user does not exist", "unknown recipient", "recipient unknown", "no such recipient", "recipient not found", "invalid recipient", "recipient does not exist", "no mailbox here", "no such mailbox", "mailbox not found", "mailbox does not exist", "unknown mailbox", "unknown local part", "unknown address", "address unknown", "no such address", "address does not exist", "account does not exist", "invalid mailbox", "not a valid mailbox", "unrouteable address", "unroutable address", "no such person", "not our customer", "account has been disabled", "account is disabled", "mailbox disabled", "is not a known user", "not known at this"];
        says: AddressBad => Recipient;
        matches: ["550 No such user here", "550 Mailbox not found", "553 sorry, no mailbox here by that name", "550 Unrouteable address", "554 delivery error: This user doesn't have an account, user unknown", "550 Requested action not taken: mailbox does not exist", "550 5.5.0 unknown user"];
        differs: ["450 user unknown", "550 Requested action not taken: mailbox unavailable", "550 5.7.1 user unknown"];
    }
    "size-text" {
        stages: ABOUT_MAIL;
        codes: &[552, 523];
        says: Size => Message;
        matches: ["552 message size exceeds fixed maximum message size", "552 too big"];
        differs: ["550 too big", "552 mailbox full"];
    }
    "relay-denied" {
        stages: ABOUT_RECIPIENT;
        codes: &[500];
        texts: &["relay access denied", "relaying denied", "relay not permitted", "unable to relay", "relaying not allowed", "we do not relay"];
        says: Policy => Recipient;
        matches: ["554 Relay access denied", "550 relaying denied"];
        differs: ["450 relaying denied"];
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::ReplyParser;
    use super::*;
    use std::collections::HashSet;

    fn read(line: &str) -> PeerReply {
        let wire = format!("{line}\r\n");
        let (_, reply) = ReplyParser::default().feed(wire.as_bytes()).expect("legal");
        reply.expect("whole").into_peer_reply()
    }

    fn stage_for(rule: &Rule) -> Stage {
        rule.stages.iter().copied().max().unwrap_or(Stage::Rcpt)
    }

    #[test]
    fn every_rule_matches_its_samples_and_no_rule_hides_another() {
        for rule in RULES {
            assert!(!rule.matches.is_empty() && !rule.differs.is_empty(), "{}", rule.name);
            for line in rule.matches {
                let found = find(stage_for(rule), &read(line)).map(|rule| rule.name);
                assert_eq!(found, Some(rule.name), "{line}");
            }
            for line in rule.differs {
                let found = find(stage_for(rule), &read(line)).map(|rule| rule.name);
                assert_ne!(found, Some(rule.name), "{line}");
            }
        }
    }

    #[test]
    fn every_rule_is_well_formed() {
        let mut names = HashSet::new();
        for rule in RULES {
            assert!(names.insert(rule.name), "{} twice", rule.name);
            for text in rule.texts {
                assert_eq!(*text, text.to_ascii_lowercase(), "{}", rule.name);
            }
            assert!(
                !(rule.codes.is_empty() && rule.statuses.is_empty() && rule.texts.is_empty()),
                "{} matches everything",
                rule.name
            );
            if rule.class == Class::AddressBad {
                assert_eq!(rule.stages, ABOUT_RECIPIENT, "{}", rule.name);
                assert!(rule.codes.iter().all(|code| *code >= 500), "{}", rule.name);
            }
        }
    }

    #[test]
    fn throttles_and_blocks_never_condemn_an_address() {
        for line in [
            "550 Mail content denied: Ip frequency limited",
            "550 5.7.1 messages from [192.0.2.1] weren't sent. block list (S3150). user unknown",
            "553 5.7.1 [BL21] refused",
            "550 5.7.511 banned, mailbox not found",
        ] {
            for stage in ABOUT_MAIL {
                let class = find(*stage, &read(line)).map(|rule| rule.class);
                assert!(matches!(class, Some(Class::Throttled | Class::Policy)), "{line}");
            }
        }
    }
}
