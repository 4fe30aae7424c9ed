//! What the SMTP client counts: `postrider_smtp_*`.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// Handles of all series, looked up once; install the recorder before.
#[derive(Clone)]
pub struct Metrics {
    /// Connections open now.
    pub open: Gauge,
    /// Connections set up to the point where MAIL may be said.
    pub opened: Counter,
    /// Connections that failed on the way there.
    pub failed: Counter,
    /// Mails sent over a connection that had carried one before.
    pub reused: Counter,
    /// Parked connections that turned out to be closed by the peer.
    pub stale: Counter,
    /// Letters whose envelope went out behind another's body.
    pub behind_used: Counter,
    /// Those of them that the peer lost.
    pub behind_lost: Counter,
    /// Sessions under TLS.
    pub tls: Counter,
    /// Sessions that fell back to clear because TLS was broken.
    pub tls_fallback: Counter,
}

impl Metrics {
    /// Describes and looks up all series.
    pub fn register() -> Self {
        describe_gauge!("postrider_smtp_connections_open", "SMTP connections open now.");
        describe_counter!(
            "postrider_smtp_connections_total",
            "SMTP connections tried, by result: opened or failed."
        );
        describe_counter!(
            "postrider_smtp_reuses_total",
            "Uses of a pooled SMTP connection, by result: alive or stale (closed by the peer meanwhile)."
        );
        describe_counter!(
            "postrider_smtp_envelopes_behind_total",
            "Mails whose envelope went out behind another's body, by result: used, or lost by the peer and sent again."
        );
        describe_counter!(
            "postrider_smtp_tls_sessions_total",
            "SMTP sessions where TLS was tried, by result: encrypted, or fallback to clear."
        );
        Self {
            open: gauge!("postrider_smtp_connections_open"),
            opened: counter!("postrider_smtp_connections_total", "result" => "opened"),
            failed: counter!("postrider_smtp_connections_total", "result" => "failed"),
            reused: counter!("postrider_smtp_reuses_total", "result" => "alive"),
            stale: counter!("postrider_smtp_reuses_total", "result" => "stale"),
            behind_used: counter!("postrider_smtp_envelopes_behind_total", "result" => "used"),
            behind_lost: counter!("postrider_smtp_envelopes_behind_total", "result" => "lost"),
            tls: counter!("postrider_smtp_tls_sessions_total", "result" => "encrypted"),
            tls_fallback: counter!("postrider_smtp_tls_sessions_total", "result" => "fallback"),
        }
    }
}

/// Counts one open connection for as long as it lives.
pub struct OpenConnection(Gauge);

impl OpenConnection {
    /// One more.
    pub fn new(open: &Gauge) -> Self {
        open.increment(1.0);
        Self(open.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
