//! Receivers that take so many mails a second and refuse the rest: how soon the pace settles
//! below that, how much is refused afterwards, and how soon it follows when they take more.
//! All at once, each with a database and a daemon of its own, with what is shipped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postrider::domain::clock::Clock;

use crate::http_peer::{Act, HttpPeer};
use crate::letters;
use crate::program::Program;
use crate::quota::Quota;
use crate::stand::{Stand, Wanted, free_address, relay};
use crate::strict_peer::{StrictPeer, THROTTLED, TOO_FAST};
use crate::table::{Cell, Table};
use crate::{say, verdict};

/// How far below what is taken the pace may rest, and what may be refused then.
const REST: f64 = 0.85;
const MOST_REFUSED: f64 = 0.02;

/// Time to settle in.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// Longest wait for the pace to follow.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(600);

/// Span over which a rate is taken.
const SPAN: usize = 10;

/// What the receivers take.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Mails that each receiver takes in a second.
    #[arg(long, default_value_t = 20, value_name = "N")]
    takes: u32,
    /// And when it relents.
    #[arg(long, default_value_t = 40, value_name = "N")]
    relents: u32,
    /// Seconds to measure after a minute to settle in.
    #[arg(long, default_value_t = 240, value_name = "N")]
    seconds: u64,
}

/// Who refuses, and how.
#[derive(Debug, Clone, Copy)]
enum Who {
    Exchanger,
    Relay,
    Ses,
    SendGrid,
    Mailgun,
}

impl Who {
    const ALL: [Self; 5] = [Self::Exchanger, Self::Relay, Self::Ses, Self::SendGrid, Self::Mailgun];

    const fn name(self) -> &'static str {
        match self {
            Self::Exchanger => "421 4.7.28",
            Self::Relay => "454, SES by SMTP",
            Self::Ses => "429, SES",
            Self::SendGrid => "429, SendGrid",
            Self::Mailgun => "429, Mailgun",
        }
    }

    const fn database(self) -> &'static str {
        match self {
            Self::Exchanger => "pace_mx",
            Self::Relay => "pace_relay",
            Self::Ses => "pace_ses",
            Self::SendGrid => "pace_sendgrid",
            Self::Mailgun => "pace_mailgun",
        }
    }

    /// The answer of a service's API.
    fn answer(self, takes: bool) -> Act {
        match (self, takes) {
            (Self::SendGrid, true) => Act::json(202, "").with("x-message-id", "14c5d75ce93"),
            (Self::SendGrid, false) => {
                let now = Clock::System.unix_seconds();
                let body = r#"{"errors":[{"field":null,"message":"too many requests"}]}"#;
                let reset = (now + 1).to_string();
                Act::json(429, body).with("x-ratelimit-reset", &reset)
            }
            (Self::Mailgun, true) => Act::json(200, r#"{"id":"<1@mg.example>"}"#),
            (Self::Mailgun, false) => Act::json(429, r#"{"message":"Too many requests"}"#),
            (_, true) => Act::json(200, r#"{"MessageId":"0100-x"}"#),
            (_, false) => Act::json(429, r#"{"message":"Maximum sending rate exceeded."}"#)
                .with("x-amzn-errortype", "ThrottlingException"),
        }
    }

    fn route(self, url: &str, key: &str) -> String {
        let kind = match self {
            Self::SendGrid => "sendgrid\"",
            Self::Mailgun => "mailgun\"",
            _ => "ses\"\nregion = \"eu-west-1\"\naccess_key_id = \"AKIDEXAMPLE0000000\"",
        };
        format!(
            "[[route]]\nname = \"account\"\nkind = \"{kind}\nkey_file = \"{key}\"\n\
             endpoint = \"{url}\"\n"
        )
    }
}

/// A receiver; it ends with this value.
struct Peer {
    route: String,
    quota: Arc<Quota>,
    _smtp: Option<StrictPeer>,
    _http: Option<HttpPeer>,
}

impl Peer {
    async fn start(who: Who, takes: u32, key: &str) -> Self {
        let words = match who {
            Who::Exchanger => TOO_FAST,
            Who::Relay => THROTTLED,
            _ => {
                let quota = Arc::new(Quota::new(takes));
                let of_peer = Arc::clone(&quota);
                let http = HttpPeer::start(move |_, _| who.answer(of_peer.takes_one())).await;
                let route = who.route(&http.url(), key);
                return Self { route, quota, _smtp: None, _http: Some(http) };
            }
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let smtp = StrictPeer::saying(words, any, takes).await;
        let (route, quota) = (relay(smtp.address, 20), Arc::clone(&smtp.quota));
        Self { route, quota, _smtp: Some(smtp), _http: None }
    }
}

/// What came of one receiver.
struct Row {
    who: Who,
    /// Seconds until the pace had settled; none: never.
    settled_after: Option<f64>,
    rate: f64,
    refused: f64,
    /// Seconds until it had followed.
    followed_after: Option<f64>,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let key = stand.folder().join("account-key");
    std::fs::write(&key, "secret")?;
    say(&format!(
        "{} takes {} a second, then {}; {} s each",
        Who::ALL.len(),
        args.takes,
        args.relents,
        args.seconds
    ));
    let all = Who::ALL.map(|who| one(stand, args, who, key.clone()));
    let rows = futures_util::future::try_join_all(all).await?;
    let mut table = Table::new(
        "pace",
        &[
            "refuses with",
            "takes/s",
            "settled after s",
            "then mails/s",
            "of what it takes %",
            "refused %",
            "takes then/s",
            "follows after s",
        ],
    );
    let seconds = |time: Option<f64>| time.map_or_else(|| Cell::from("never"), Cell::whole);
    for row in &rows {
        table.row(vec![
            row.who.name().into(),
            Cell::whole(f64::from(args.takes)),
            seconds(row.settled_after),
            Cell::tenth(row.rate),
            Cell::tenth(100.0 * row.rate / f64::from(args.takes)),
            Cell::hundredth(100.0 * row.refused),
            Cell::whole(f64::from(args.relents)),
            seconds(row.followed_after),
        ]);
    }
    say(&table.to_string());
    for row in &rows {
        let within = row.settled_after.is_some_and(|time| time <= SETTLES_WITHIN.as_secs_f64());
        verdict(
            within
                && row.rate >= REST * f64::from(args.takes)
                && row.refused < MOST_REFUSED
                && row.followed_after.is_some(),
            &format!(
                "{}: settles within a minute, within 15 % below what it takes, less than 2 % \
                 refused then, follows when it takes more",
                row.who.name()
            ),
        );
    }
    Ok(())
}

async fn one(stand: &Stand, args: &Args, who: Who, key: PathBuf) -> anyhow::Result<Row> {
    let name = who.database();
    let database = stand.database(name).await?;
    let scope = database.tenant("shop").await?;
    let span = 60 + args.seconds + FOLLOWS_WITHIN.as_secs();
    let mails = u64::from(args.takes.max(args.relents)) * span;
    letters::send(&database, scope, "shop", mails, |n| format!("r{n}@provider0.example")).await?;
    let peer = Peer::start(who, args.takes, key.to_str().context("a path in UTF-8")?).await;
    let metrics = free_address()?;
    let wanted = Wanted {
        database: &database,
        route: peer.route.clone(),
        api: free_address()?,
        metrics,
        queue: "",
        more: "",
    };
    let mut daemon = Program::daemon(&stand.configure(name, &wanted)?, metrics).await?;
    let mut seen = Seen::default();
    while peer.quota.counts() == (0, 0) {
        daemon.check()?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    while began.elapsed() < SETTLES_WITHIN + Duration::from_secs(args.seconds) {
        seen.second(&peer.quota).await;
    }
    daemon.check()?;
    let takes = f64::from(args.takes);
    let (rate, refused) = seen.since(SETTLES_WITHIN.as_secs() as usize);
    let settled_after = seen.settled(takes);

    peer.quota.relent(args.relents);
    let relented = Instant::now();
    let mut after = Seen::default();
    let mut followed_after = None;
    while followed_after.is_none() && relented.elapsed() < FOLLOWS_WITHIN {
        after.second(&peer.quota).await;
        let lately = after.since(after.counts.len().saturating_sub(SPAN + 1)).0;
        if after.counts.len() > SPAN && lately >= REST * f64::from(args.relents) {
            followed_after = Some((relented.elapsed().as_secs_f64() - SPAN as f64).max(0.0));
        }
    }
    ensure!(peer.quota.counts().0 < mails, "the queue ran empty: ask for fewer --seconds");
    daemon.stop().await?;
    database.pool.close().await;
    stand.drop(name).await?;
    Ok(Row { who, settled_after, rate, refused, followed_after })
}

/// What a receiver took and refused, second by second.
#[derive(Default)]
struct Seen {
    counts: Vec<(u64, u64)>,
}

impl Seen {
    async fn second(&mut self, quota: &Quota) {
        if self.counts.is_empty() {
            self.counts.push(quota.counts());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.counts.push(quota.counts());
    }

    /// Mails a second from `from` on, and the share that was refused.
    fn since(&self, from: usize) -> (f64, f64) {
        self.between(from, self.counts.len().saturating_sub(1))
    }

    fn between(&self, from: usize, to: usize) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.counts.get(from), self.counts.get(to)) else {
            return (0.0, 0.0);
        };
        let (taken, refused) = ((last.0 - first.0) as f64, (last.1 - first.1) as f64);
        let seconds = to.saturating_sub(from).max(1) as f64;
        (taken / seconds, refused / (taken + refused).max(1.0))
    }

    /// The first second from which on the pace kept to its place for half a minute.
    fn settled(&self, takes: f64) -> Option<f64> {
        let ends = self.counts.len().saturating_sub(3 * SPAN + 1);
        let found = (0..ends).find(|from| {
            let (rate, refused) = self.between(*from, from + 3 * SPAN);
            rate >= REST * takes && refused < MOST_REFUSED
        });
        found.map(|second| second as f64)
    }
}
