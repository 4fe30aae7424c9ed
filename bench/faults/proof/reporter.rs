//! The receiving side's mail server, which sends reports on everything that it took: as a real one
//! does, it tries again until a report is acknowledged. What was acknowledged is its ledger.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::receiver::{Receiver, Taken};

/// Reports under way at once.
const AT_ONCE: usize = 8;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(25);

/// What a report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// There is no such user.
    Unknown,
    /// The mailbox is full.
    Full,
    /// The recipient complained.
    Complaint,
}

impl Says {
    /// What is said of a recipient: always the same.
    pub(crate) fn of(recipient: &str) -> Self {
        match recipient.bytes().fold(7_u32, |sum, b| sum.wrapping_mul(31) + u32::from(b)) % 20 {
            0..14 => Self::Unknown,
            14..17 => Self::Full,
            _ => Self::Complaint,
        }
    }

    /// Why its recipient must be suppressed, if it must.
    pub(crate) const fn suppresses(self) -> Option<&'static str> {
        match self {
            Self::Unknown => Some("address_bad"),
            Self::Complaint => Some("complaint"),
            Self::Full => None,
        }
    }
}

/// Sends reports until it is told to stop.
pub(crate) struct Reporter {
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Ledger {
    /// Acknowledged reports by recipient.
    acknowledged: Mutex<HashMap<String, usize>>,
    /// Mails that are reported on.
    done: AtomicUsize,
}

impl Reporter {
    /// Reports on what `receiver` takes to these listeners in turn.
    pub(crate) fn start(receiver: &Receiver, listeners: Vec<SocketAddr>) -> Self {
        let (ledger, stop) = (Arc::new(Ledger::default()), CancellationToken::new());
        let (shared, stopped, taken) = (Arc::clone(&ledger), stop.clone(), receiver.watch());
        let running = tokio::spawn(async move {
            let tasks = TaskTracker::new();
            let room = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
            let mut seen = 0;
            while !stopped.is_cancelled() {
                for mail in taken(seen) {
                    seen += 1;
                    let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
                    let (ledger, listeners) = (Arc::clone(&shared), listeners.clone());
                    tasks.spawn(async move {
                        ledger.report(&mail, &listeners, seen).await;
                        drop(place);
                    });
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tasks.close();
            tasks.wait().await;
        });
        Self { ledger, stop, running }
    }

    /// Mails that are reported on.
    pub(crate) fn done(&self) -> usize {
        self.ledger.done.load(Ordering::Relaxed)
    }

    /// Ends it; how many reports on each recipient were acknowledged.
    pub(crate) async fn finish(self) -> anyhow::Result<HashMap<String, usize>> {
        self.stop.cancel();
        self.running.await?;
        Ok(self.ledger.acknowledged.lock().clone())
    }
}

impl Ledger {
    async fn report(&self, mail: &Taken, listeners: &[SocketAddr], n: usize) {
        // One in twenty is sent again although it was acknowledged, as after a lost answer.
        let mut more = if n.is_multiple_of(20) { 2 } else { 1 };
        let mut turn = n;
        while more > 0 {
            turn += 1;
            let listener = listeners[turn % listeners.len()];
            match tokio::time::timeout(TIMEOUT, hand_over(listener, mail)).await {
                Ok(Ok(())) => {
                    more -= 1;
                    *self.acknowledged.lock().entry(mail.recipient.clone()).or_default() += 1;
                }
                Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Hands a report over; acknowledged when this returns.
async fn hand_over(listener: SocketAddr, mail: &Taken) -> anyhow::Result<()> {
    let stream = TcpStream::connect(listener).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    expect(&mut stream, "220").await?;
    let commands = [
        "EHLO receiver.localhost".to_owned(),
        "MAIL FROM:<>".to_owned(),
        format!("RCPT TO:<{}>", mail.from),
        "DATA".to_owned(),
        format!("{}\r\n.", words(mail)),
    ];
    for (command, code) in commands.iter().zip(["250", "250", "250", "354", "250"]) {
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        expect(&mut stream, code).await?;
    }
    // It is acknowledged; how the connection ends says nothing.
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(())
}

async fn expect(stream: &mut BufReader<TcpStream>, code: &str) -> anyhow::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        ensure!(line.starts_with(code), "expected {code}, found {line:?}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

fn words(mail: &Taken) -> String {
    let Taken { recipient, from, message_id, .. } = mail;
    let (status, reply) = match Says::of(recipient) {
        Says::Unknown => ("5.1.1", "550 5.1.1 no such user"),
        Says::Full => ("5.2.2", "552 5.2.2 mailbox full"),
        Says::Complaint => {
            return format!(
                "From: fbl@receiver.localhost\nTo: {from}\nSubject: complaint\nMIME-Version: 1.0\n\
                 Content-Type: multipart/report; report-type=feedback-report; boundary=\"b\"\n\n--b\n\nA complaint.\n\n--b\n\
                 Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n\n--b\n\
                 Content-Type: message/rfc822\n\nMessage-ID: {message_id}\n\n--b--"
            )
            .replace('\n', "\r\n");
        }
    };
    format!(
        "From: MAILER-DAEMON@receiver.localhost\nTo: {from}\nSubject: Undelivered\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\n\n--b\n\nSorry.\n\n--b\n\
         Content-Type: message/delivery-status\n\nReporting-MTA: dns; receiver.localhost\n\n\
         Final-Recipient: rfc822; {recipient}\nAction: failed\nStatus: {status}\nDiagnostic-Code: smtp; {reply}\n\n--b\n\
         Content-Type: text/rfc822-headers\n\nMessage-ID: {message_id}\n\n--b--"
    )
    .replace('\n', "\r\n")
}
