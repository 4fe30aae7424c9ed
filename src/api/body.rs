//! Reading request bodies: typed, bounded, and within a budget for all of them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Problem, short};

/// Longest silence in the middle of a body.
const IDLE: Duration = Duration::from_secs(30);

/// Bodies up to this size need no budget: the number of connections bounds them.
const FREE: u64 = 64 << 10;

/// Memory for all larger bodies together.
const BUDGET: u64 = 128 << 20;

/// Longest wait for a share of the budget.
const PATIENCE: Duration = Duration::from_secs(5);

/// Memory that bodies may take.
#[derive(Debug, Clone)]
pub struct Budget {
    kibibytes: Arc<Semaphore>,
}

impl Budget {
    /// A budget that holds at least one body of `largest` bytes.
    pub fn new(largest: u64) -> Self {
        Self::of(BUDGET.max(largest))
    }

    /// A budget of so many bytes.
    pub fn of(bytes: u64) -> Self {
        Self { kibibytes: Arc::new(Semaphore::new(bytes.div_ceil(1024) as usize)) }
    }

    /// A share for `bytes`, held until it is dropped; 503 when there is none for long.
    pub async fn share(&self, bytes: u64) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        if bytes <= FREE {
            return Ok(None);
        }
        let share = Arc::clone(&self.kibibytes).acquire_many_owned(bytes.div_ceil(1024) as u32);
        match tokio::time::timeout(PATIENCE, share).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable()),
        }
    }
}

/// 415 unless the body is said to be one of `expected`.
pub fn require_type(headers: &HeaderMap, expected: &[&str]) -> Result<(), Problem> {
    let found = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if expected.iter().any(|expected| found.eq_ignore_ascii_case(expected)) {
        Ok(())
    } else {
        Err(Problem::media_type(expected.first().copied().unwrap_or_default()))
    }
}

/// The whole body, `limit` bytes at most, and the share of the budget it takes.
pub async fn read(
    budget: &Budget,
    headers: &HeaderMap,
    body: Body,
    limit: u64,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(Problem::too_large(limit));
    }
    let share = budget.share(declared.unwrap_or(limit)).await?;
    let mut frames = body.into_data_stream();
    let first = next_frame(&mut frames).await?.unwrap_or_default();
    let mut whole = BytesMut::new();
    while let Some(frame) = next_frame(&mut frames).await? {
        if whole.is_empty() {
            whole.reserve(declared.map_or(first.len() + frame.len(), |length| length as usize));
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&frame);
        if whole.len() as u64 > limit {
            return Err(Problem::too_large(limit));
        }
    }
    // Small bodies come in one piece and are not copied.
    let whole = if whole.is_empty() { first } else { whole.freeze() };
    if whole.len() as u64 > limit {
        return Err(Problem::too_large(limit));
    }
    Ok((whole, share))
}

/// The next piece of a body; `None` at its end. 408 after too long a silence.
pub async fn next_frame(frames: &mut BodyDataStream) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(IDLE, frames.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
        Ok(Some(Err(error))) => Err(Problem::malformed(format!("the body broke off: {error}"))),
        Err(_) => Err(Problem::timeout()),
    }
}

/// A JSON object, and not the list that serde would also take for a struct.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads a JSON object: 400 with line and column for what is no JSON, 422 with the field's
/// path for what is not the JSON we expect.
pub fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    use serde_json::error::Category;

    let error = match serde_json::from_slice::<Object<T>>(bytes) {
        Ok(Object(value)) => return Ok(value),
        Err(error) => error,
    };
    match error.classify() {
        Category::Data => {
            // Once more, slowly, to learn where.
            let mut json = serde_json::Deserializer::from_slice(bytes);
            let path = serde_path_to_error::deserialize::<_, Object<T>>(&mut json)
                .map_or_else(|error| error.path().to_string(), |_| String::new());
            Err(Problem::field(field_of(&path, &error.to_string()), &error))
        }
        _ => Err(Problem::malformed(format!("expected JSON: {}", short(&error.to_string())))),
    }
}

/// The field's path, with the name that serde only tells in its message.
fn field_of(path: &str, message: &str) -> String {
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next());
    match (path, named) {
        ("." | "", None) => "body".to_owned(),
        ("." | "", Some(name)) => name.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(name)) if path.ends_with(name) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Vec<Object<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "to")]
        _to: String,
    }

    #[test]
    fn a_fault_is_told_by_the_path_of_its_field() {
        for (json, field) in [
            (r#"{"inner":[{"to":"a"},{"to":5}]}"#, "inner[1].to"),
            (r#"{"inner":[{"to":"a","too":1}]}"#, "inner[0].too"),
            (r#"{"inner":[{}]}"#, "inner[0].to"),
            (r#"{"other":1}"#, "other"),
            (r"{}", "inner"),
            (r#"{"inner":[],"inner":[]}"#, "inner"),
            (r#"{"inner":[["a"]]}"#, "inner[0]"),
            (r#"[[{"to":"a"}]]"#, "body"),
            ("[]", "body"),
        ] {
            let problem = parse_json::<Outer>(json.as_bytes()).expect_err(json);
            let text = format!("{problem:?}");
            assert!(problem.is_invalid(), "{json}: {text}");
            assert!(text.contains(&format!("field: {field:?}")), "{json}: {text}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_by_line_and_column() {
        for json in ["", "{", "{\"inner\":\n[}", "nul", "{\"inner\":[]} x", "\u{feff}{}"] {
            let problem = parse_json::<Outer>(json.as_bytes()).expect_err(json);
            assert!(format!("{problem:?}").contains("line "), "{json}: {problem:?}");
            assert_eq!(problem.into_response().status(), StatusCode::BAD_REQUEST, "{json}");
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_however_it_comes() {
        let budget = Budget::new(10);
        let pieces = |sizes: &[usize]| {
            let pieces: Vec<Result<Bytes, std::io::Error>> =
                sizes.iter().map(|n| Ok(Bytes::from(vec![b'x'; *n]))).collect();
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        for (sizes, fits) in
            [(&[][..], true), (&[10], true), (&[4, 6], true), (&[11], false), (&[4, 4, 4], false)]
        {
            let read = read(&budget, &HeaderMap::new(), pieces(sizes), 10).await;
            assert_eq!(read.is_ok(), fits, "{sizes:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, 11.into());
        assert!(read(&budget, &headers, Body::empty(), 10).await.is_err(), "not even begun");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_is_given_up() {
        let body =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let problem =
            read(&Budget::new(10), &HeaderMap::new(), body, 10).await.expect_err("timed out");
        assert_eq!(problem.into_response().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
