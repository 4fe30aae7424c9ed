//! AWS Signature Version 4: the headers that sign one request (no I/O).
//!
//! For requests without a query string whose path needs no escaping, as those of the SES API.
//! Checked against the vectors that AWS publishes (its general reference, "Signature Version 4
//! test suite", and the worked example in its IAM guide).

use std::fmt::Write;
use std::time::SystemTime;

use aws_lc_rs::{digest, hmac};
use chrono::{DateTime, Utc};

use crate::config::secret::Secret;

/// Whose key signs.
#[derive(Debug, Clone)]
pub struct Key {
    /// Access key id: no secret.
    pub id: String,
    /// Secret key.
    pub secret: Secret,
    /// Token of a temporary key; it is sent and signed with the request.
    pub token: Option<Secret>,
}

/// What a signature is good for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// `eu-west-1`, …
    pub region: &'a str,
    /// `ses`, …
    pub service: &'a str,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// As sent.
    pub path: &'a str,
    /// Names in lower case and values, with `host` among them; not the date, the token or the
    /// authorization, which are added.
    pub headers: &'a [(&'a str, &'a str)],
    /// All of it.
    pub body: &'a [u8],
}

/// The headers to add.
#[derive(Debug, Clone)]
pub struct Signed {
    /// `x-amz-date`
    pub date: String,
    /// `authorization`: no secret, but good for a few minutes.
    pub authorization: String,
}

/// Signs a request at a time; AWS takes it within five minutes of that.
pub fn sign(key: &Key, scope: Scope<'_>, request: &Request<'_>, at: SystemTime) -> Signed {
    let at = DateTime::<Utc>::from(at);
    let (date, day) = (at.format("%Y%m%dT%H%M%SZ").to_string(), at.format("%Y%m%d").to_string());
    let mut headers: Vec<(&str, &str)> = request.headers.to_vec();
    headers.push(("x-amz-date", &date));
    if let Some(token) = &key.token {
        headers.push(("x-amz-security-token", token.expose()));
    }
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");

    let mut canonical = format!("{}\n{}\n\n", request.method, request.path);
    for (name, value) in &headers {
        // Writing to a String cannot fail.
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{}", hashed(request.body));

    let Scope { region, service } = scope;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hashed(canonical.as_bytes()));
    let first = zeroize::Zeroizing::new(format!("AWS4{}", key.secret.expose()));
    let signing = [day.as_str(), region, service, "aws4_request"]
        .into_iter()
        .fold(hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes()), |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        });
    let signature = hex(hmac::sign(&signing, text.as_bytes()).as_ref());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        key.id
    );
    Signed { date, authorization }
}

fn hashed(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// 2015-08-30 12:36:00 UTC, the time of every vector.
    const AT: u64 = 1_440_938_160;

    fn signature(scope: Scope<'_>, request: &Request<'_>) -> String {
        let key = Key {
            id: "AKIDEXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            token: None,
        };
        let signed = sign(&key, scope, request, UNIX_EPOCH + Duration::from_secs(AT));
        assert_eq!(signed.date, "20150830T123600Z");
        signed.authorization
    }

    /// Method, target, headers, body and the signature.
    type Vector<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], &'a str);

    #[test]
    fn the_vectors_of_aws_are_met() {
        let scope = Scope { region: "us-east-1", service: "service" };
        let host = ("host", "example.amazonaws.com");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let vectors: [Vector<'_>; 4] = [
            // get-vanilla
            (
                "GET",
                "host;x-amz-date",
                &[host],
                b"",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            // post-vanilla
            (
                "POST",
                "host;x-amz-date",
                &[host],
                b"",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            // post-header-key-sort
            (
                "POST",
                "host;my-header1;x-amz-date",
                &[host, ("my-header1", "value1")],
                b"",
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
            // post-x-www-form-urlencoded
            (
                "POST",
                "content-type;host;x-amz-date",
                &[form, host],
                b"Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ];
        for (method, names, headers, body, expected) in vectors {
            let request = Request { method, path: "/", headers, body };
            assert_eq!(
                signature(scope, &request),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, Signature={expected}"
                )
            );
        }
    }

    #[test]
    fn a_token_is_signed_with_the_rest() {
        let key = Key {
            id: "ASIAEXAMPLE".into(),
            secret: Secret::new("secret"),
            token: Some(Secret::new("token")),
        };
        let scope = Scope { region: "eu-west-1", service: "ses" };
        let request = Request { method: "POST", path: "/", headers: &[("host", "h")], body: b"{}" };
        let signed = sign(&key, scope, &request, UNIX_EPOCH);
        assert!(signed.authorization.contains("host;x-amz-date;x-amz-security-token"));
        let other = Key { token: Some(Secret::new("other")), ..key };
        let again = sign(&other, scope, &request, UNIX_EPOCH);
        assert_ne!(signed.authorization, again.authorization);
        assert!(!format!("{other:?}").contains("other"), "secrets print themselves nowhere");
    }
}
