//! Kinds of problem: status, name and title of each.

use axum::http::StatusCode;

/// What kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Malformed,
    Unauthorized,
    Forbidden,
    NotAcceptable,
    NotFound,
    MethodNotAllowed,
    Timeout,
    IdempotencyConflict,
    StateConflict,
    Conflict,
    Held,
    TooLarge,
    MediaType,
    Invalid,
    Limited,
    Internal,
    Unavailable,
    Moving,
    Moved,
}

impl Kind {
    /// Status, name and title.
    pub(super) const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The request cannot be read"),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "A valid API key is needed")
            }
            Self::Forbidden => {
                (StatusCode::FORBIDDEN, "forbidden", "The request does not prove who sends it")
            }
            Self::NotAcceptable => (
                StatusCode::NOT_ACCEPTABLE,
                "not-acceptable",
                "The request was taken before, and is not taken again",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "This method does not apply here",
            ),
            Self::Timeout => {
                (StatusCode::REQUEST_TIMEOUT, "timeout", "The request did not arrive in time")
            }
            Self::IdempotencyConflict => (
                StatusCode::CONFLICT,
                "idempotency-conflict",
                "The Idempotency-Key was used for another request",
            ),
            Self::StateConflict => {
                (StatusCode::CONFLICT, "state-conflict", "The message cannot take this any more")
            }
            Self::Conflict => {
                (StatusCode::CONFLICT, "conflict", "Something else stands against it")
            }
            Self::Held => (StatusCode::CONFLICT, "held", "The operator holds this back"),
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large")
            }
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media-type",
                "The body is not of the expected type",
            ),
            Self::Invalid => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Some fields cannot be accepted")
            }
            Self::Limited => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
            }
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something is wrong on our side")
            }
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The service cannot answer just now",
            ),
            Self::Moving | Self::Moved => (
                StatusCode::SERVICE_UNAVAILABLE,
                "tenant-moving",
                "The tenant is being moved to another database",
            ),
        }
    }
}
