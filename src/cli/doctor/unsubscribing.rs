//! The link in bulk mail: whether it leads to our API, as receivers of much mail want it (RFC 8058).

use super::finding::Finding;
use crate::config::Settings;
use crate::domain::ids::DeliveryId;
use crate::message::unsubscribe::{TokenKey, link};
use crate::route::https::{Https, HttpsFault};

/// Most bytes of a page.
const MOST: usize = 64 << 10;

/// Looks: opens the link that a mail would carry. That changes nothing, and the delivery whose
/// number is in it need not exist.
pub(super) async fn look(settings: &Settings, https: &Https) -> Finding {
    let base = &settings.api.public_url;
    let Some(rest) = base.strip_prefix("https://") else {
        return Finding::fault(
            "unsubscribing",
            format!("links lead to {base}: receivers want https (RFC 8058 3.1)"),
            "api.public_url: where a proxy with a certificate hands /u/ to the API",
        );
    };
    let Some(keys) = TokenKey::of(&settings.secrets) else {
        return Finding::odd(
            "unsubscribing",
            "without the installation's key no link can be made, and bulk mail carries none",
            "secrets.key_file, or the credential postrider.key",
        );
    };
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, None),
    };
    let whole = link(base, &keys.token(DeliveryId::new(0)));
    let path = whole.strip_prefix("https://").and_then(|rest| rest.strip_prefix(authority));
    let answer = https.get(host, port, path.unwrap_or("/u/"), MOST).await;
    judge(base, answer.map(|answer| (answer.status.as_u16(), is_ours(&answer.body))))
}

/// Whether the page is the API's, and not that of a proxy.
fn is_ours(body: &[u8]) -> bool {
    ["<title>Unsubscribe</title>", "<title>This link does not work</title>"]
        .iter()
        .any(|title| memchr::memmem::find(body, title.as_bytes()).is_some())
}

/// What came of it (pure): a status, and whether the page is ours.
fn judge(base: &str, answer: Result<(u16, bool), HttpsFault>) -> Finding {
    match answer {
        Ok((200, true)) => {
            Finding::fine("unsubscribing", format!("links to {base} lead to our API"))
        }
        Ok((404, true)) => Finding::fault(
            "unsubscribing",
            format!("the API at {base} does not know our links: every click fails"),
            "give API and daemons the same key (secrets.key_file, or the credential postrider.key)",
        ),
        Ok((status, _)) => Finding::fault(
            "unsubscribing",
            format!("{base} answers a link with status {status} and no page of ours"),
            "let the proxy there hand /u/ to the API (api.listen), unchanged",
        ),
        Err(HttpsFault::Certificate(why)) => Finding::fault(
            "unsubscribing",
            format!("the certificate of {base} does not verify: {why}"),
            "mend it: mail programs open no such link",
        ),
        Err(why) => Finding::odd(
            "unsubscribing",
            format!("{base} cannot be reached from here: {why}"),
            "try it from outside; receivers must reach it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn only_a_page_of_ours_under_our_key_is_well() {
        let grade = |answer| judge("https://mail.example.com", answer).grade;
        assert_eq!(grade(Ok((200, true))), Grade::Fine);
        assert_eq!(grade(Ok((404, true))), Grade::Fault);
        assert_eq!(grade(Ok((404, false))), Grade::Fault);
        assert_eq!(grade(Ok((200, false))), Grade::Fault);
        assert_eq!(grade(Err(HttpsFault::Certificate("expired".into()))), Grade::Fault);
        assert_eq!(grade(Err(HttpsFault::Timeout)), Grade::Odd);
    }
}
