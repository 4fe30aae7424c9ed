//! Fetches a policy (RFC 8461 3.3).

use super::policy::{StsPolicy, is_plain_text};
use crate::route::https::{Https, HttpsFault};
use crate::route::tls_result::Failure;

/// Most bytes of a policy; RFC 8461 3.3 suggests 64 KB.
const MOST: usize = 64 << 10;

const PATH: &str = "/.well-known/mta-sts.txt";

/// Why there is no policy, for the log and for the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotFetched {
    pub(super) why: String,
    pub(super) failure: Failure,
}

/// The policy of a domain, as text and as read.
pub(super) async fn policy(https: &Https, domain: &str) -> Result<(String, StsPolicy), NotFetched> {
    let fault = |failure, why: String| NotFetched { why, failure };
    let answer = https.get(&format!("mta-sts.{domain}"), None, PATH, MOST).await;
    let answer = answer.map_err(|error| match error {
        HttpsFault::Certificate(_) => fault(Failure::StsWebPki, error.to_string()),
        HttpsFault::TooLarge(_) => fault(Failure::StsInvalid, error.to_string()),
        _ => fault(Failure::StsFetch, error.to_string()),
    })?;
    // A redirect is a failure as well: whoever may write one may not write policies.
    if answer.status != hyper::StatusCode::OK {
        return Err(fault(
            Failure::StsFetch,
            format!("expected status 200, found {}", answer.status),
        ));
    }
    let content_type = answer.content_type.unwrap_or_default();
    if !is_plain_text(&content_type) {
        let why = format!("expected text/plain, found {content_type:?}");
        return Err(fault(Failure::StsInvalid, why));
    }
    let text = String::from_utf8(answer.body.into());
    let text = text.map_err(|error| fault(Failure::StsInvalid, error.to_string()))?;
    let policy = StsPolicy::read(&text);
    let policy = policy.map_err(|error| fault(Failure::StsInvalid, error.to_string()))?;
    Ok((text, policy))
}
