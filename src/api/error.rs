//! The one shape of every error: a problem document (RFC 9457).
//!
//! What the caller did wrong is told by field; what went wrong here is told to
//! the log only. A thing that is another tenant's is answered as if it were not
//! there.

mod kind;

use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use self::kind::Kind;
use crate::callback::Refusal;
use crate::queue::enqueue::EnqueueError;

/// Longest text of a reason in characters: some repeat what was found.
const MAX_REASON: usize = 300;

/// When to come back after a failure of ours.
const RETRY: Duration = Duration::from_secs(1);

/// When a provider should repeat a callback.
const RETRY_CALLBACK: Duration = Duration::from_secs(30);

/// When to come back while a tenant is being moved: seconds for a small one.
const RETRY_MOVED: Duration = Duration::from_secs(5);

/// Why a request was not fulfilled.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldFault>,
    retry_after: Option<Duration>,
    stored: Option<Stored>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldFault {
    /// Path in the request: `recipients[3].to`.
    pub field: String,
    /// What was expected and what was found.
    pub reason: String,
}

/// What an upload that failed half-way had stored by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// Lines from the first on that were dealt with.
    pub lines: u64,
    /// Recipients queued.
    pub accepted: u64,
    /// Recipients who must not be written to.
    pub suppressed: u64,
}

impl Problem {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after: None, stored: None }
    }

    /// 400: not HTTP or JSON as agreed.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, detail)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(
            Kind::Unauthorized,
            "send a valid key: Authorization: Bearer pr_…; make one with: postrider key create",
        )
    }

    /// 404, also for what belongs to another tenant.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}"))
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(Kind::MethodNotAllowed, "see the Allow header for the methods that do")
    }

    /// 408.
    pub fn timeout() -> Self {
        Self::new(Kind::Timeout, "the body stopped arriving")
    }

    /// 409: something of the tenant's stands against it.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    /// 409: an operator holds it back.
    pub fn held(detail: impl Into<String>) -> Self {
        Self::new(Kind::Held, detail)
    }

    /// 413.
    pub fn too_large(limit: u64) -> Self {
        Self::new(Kind::TooLarge, format!("expected a body of at most {limit} bytes"))
    }

    /// 415.
    pub fn media_type(expected: &str) -> Self {
        Self::new(Kind::MediaType, format!("expected Content-Type: {expected}"))
    }

    /// 422 for several fields.
    pub fn invalid(errors: Vec<FieldFault>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.field, only.reason),
            many => format!("{} fields cannot be accepted", many.len()),
        };
        Self { errors, ..Self::new(Kind::Invalid, detail) }
    }

    /// 422 for one field.
    pub fn field(field: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::invalid(vec![FieldFault::new(field, reason)])
    }

    /// 400 for a header or a query parameter.
    pub fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        let fault = FieldFault::new(name, reason);
        let detail = format!("{}: {}", fault.field, fault.reason);
        Self { errors: vec![fault], ..Self::malformed(detail) }
    }

    /// 429.
    pub fn limited(retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(Kind::Limited, "slow down; Retry-After says for how long")
        }
    }

    /// 503.
    pub fn unavailable() -> Self {
        Self {
            retry_after: Some(RETRY),
            ..Self::new(
                Kind::Unavailable,
                "nothing was lost that was accepted before; repeat the request with its \
                 Idempotency-Key",
            )
        }
    }

    /// 503 while the tenant moves to another cell, or has just moved.
    fn on_the_move(kind: Kind, retry: Duration) -> Self {
        let detail = "nothing of this request was stored; repeat it as Retry-After says, with its \
                      Idempotency-Key";
        Self { retry_after: Some(retry), ..Self::new(kind, detail) }
    }

    /// Why a provider's callback is not taken. A provider repeats what is answered 503 or 403
    /// (until an operator has put its key right), and does not repeat what is answered 406.
    pub fn callback(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::Unsigned | Refusal::Forged | Refusal::Stale | Refusal::UnknownTopic => {
                Kind::Forbidden
            }
            Refusal::Replayed => Kind::NotAcceptable,
            Refusal::Malformed => Kind::Malformed,
            Refusal::TooMany | Refusal::TooLarge => Kind::TooLarge,
            Refusal::Busy | Refusal::NoKey | Refusal::Database => Kind::Unavailable,
        };
        let retry_after = (kind == Kind::Unavailable).then_some(RETRY_CALLBACK);
        Self { retry_after, ..Self::new(kind, refusal.to_string()) }
    }

    /// Whether a body was larger than its limit.
    pub fn is_too_large(&self) -> bool {
        self.kind == Kind::TooLarge
    }

    /// Whether it may be otherwise soon.
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// Whether the tenant lives in another cell than it was looked for.
    pub fn is_moved(&self) -> bool {
        self.kind == Kind::Moved
    }

    /// 500.
    pub fn internal() -> Self {
        Self::new(Kind::Internal, "it has been logged under this answer's X-Request-Id")
    }

    /// Tells how far an upload had come.
    #[must_use]
    pub fn with_stored(mut self, stored: Stored) -> Self {
        self.stored = Some(stored);
        self
    }

    /// Whether a retry of the same request may be answered otherwise by what the
    /// request says itself.
    pub fn is_invalid(&self) -> bool {
        self.kind == Kind::Invalid
    }
}

impl FieldFault {
    /// A fault of `field`; overlong reasons are cut.
    pub fn new(field: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self { field: field.into(), reason: short(&reason.to_string()) }
    }
}

/// A reason short enough to be sent back.
pub(super) fn short(reason: &str) -> String {
    match reason.char_indices().nth(MAX_REASON) {
        None => reason.to_owned(),
        Some((end, _)) => format!("{}…", &reason[..end]),
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if has_moved(&error) {
            Self::on_the_move(Kind::Moved, RETRY)
        } else if state_of(&error).as_deref() == Some("PRMOV") {
            Self::on_the_move(Kind::Moving, RETRY_MOVED)
        } else if is_away(&error) {
            tracing::warn!(%error, "the database cannot be used");
            Self::unavailable()
        } else {
            tracing::error!(%error, "a statement failed");
            Self::internal()
        }
    }
}

impl From<EnqueueError> for Problem {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::TenantInactive => Self::unauthorized(),
            EnqueueError::ForeignDomain => Self::field("from", error),
            EnqueueError::Conflict => Self::new(Kind::IdempotencyConflict, error.to_string()),
            EnqueueError::Missing => Self::not_found("message"),
            EnqueueError::Cancelled | EnqueueError::Expired => {
                Self::new(Kind::StateConflict, error.to_string())
            }
            EnqueueError::Storage(error) => error.into(),
        }
    }
}

/// Whether the schema says that the tenant lives in another cell now.
pub(super) fn has_moved(error: &sqlx::Error) -> bool {
    state_of(error).as_deref() == Some("PRGON")
}

fn state_of(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the same statement may succeed later: the connection, the server's
/// resources (53: disk or connections used up), its start or stop (57), or a
/// repeated deadlock (40).
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// The document as sent.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldFault],
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<Stored>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.parts();
        let document = Document {
            r#type: format!("urn:postrider:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            stored: self.stored,
        };
        let mut response = (status, axum::Json(&document)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.kind == Kind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, never too few.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let fault = FieldFault::new("x", "é".repeat(10_000));
        assert_eq!(fault.reason.chars().count(), MAX_REASON + 1);
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
        for (millis, told) in [(1, "1"), (1_000, "1"), (1_001, "2")] {
            let response = Problem::limited(Duration::from_millis(millis)).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[RETRY_AFTER], told);
        }
    }

    #[test]
    fn an_absent_database_is_503_and_a_fault_of_ours_500() {
        let away = Problem::from(sqlx::Error::PoolTimedOut).into_response();
        assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(away.headers().contains_key(RETRY_AFTER));
        let broken = Problem::from(sqlx::Error::RowNotFound).into_response();
        assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
