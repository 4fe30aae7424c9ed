//! One file per section of the configuration: a sentence on each key, the
//! default beside it.

mod adaptive;
mod api;
mod callbacks;
mod database;
mod dkim;
mod feedback;
mod health;
mod inbound;
mod provider;
mod queue;
mod quiet;
mod reload;
mod replies;
mod reply_rule;
mod route;
mod scale;
mod secrets;
mod smtp;
mod source;
mod stream;
mod suppression;
mod telemetry;
mod throttle;
mod tls;
mod traces;
mod webhook;
mod worker;

pub use adaptive::Adaptive;
pub use api::Api;
pub use callbacks::{Callbacks, MailgunCallbacks, SendGridCallbacks, SesCallbacks};
pub use database::Database;
pub use dkim::{Canonicalization, Dkim, Form};
pub use feedback::Feedback;
pub use health::{Health, HealthLimits, HealthRule};
pub use inbound::{Inbound, InboundTls};
pub use provider::{AwsCredentials, Endpoint, Provider, Service};
pub use queue::Queue;
pub use quiet::{Quiet, QuietHours, QuietZone};
pub use reload::Reload;
pub use replies::Replies;
pub use reply_rule::{CodeMask, ReplyRule, StatusMask};
pub use route::{
    Auth, Dns, Dnssec, MailboxProviderRule, Route, RouteKind, RouteRule, Share, TlsMode,
};
pub use scale::Scale;
pub use secrets::{Duty, InstallationKey, KeyFault, Secrets};
pub use smtp::Smtp;
pub use source::{Pool, Proxy, Ramp, Source, Stage, WarmUp};
pub use stream::{Retry, Stream};
pub use suppression::Suppression;
pub use telemetry::{Alarm, Log, LogFormat, Telemetry};
pub use throttle::{FurtherRate, ThrottleRule, ThrottleScope};
pub use tls::{ClientCertificate, NoProof, Proof, TlsPolicies, TlsReport};
pub use traces::Traces;
pub use webhook::Webhook;
pub use worker::Worker;
