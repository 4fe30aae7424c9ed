//! Letters and routes for the tests of providers.

use std::sync::Arc;
use std::time::Duration;

use postrider::config::{Endpoint, Provider, Service, Source};
use postrider::domain::ids::{DeliveryId, MailboxProvider};
use postrider::message::letter::Letter;
use postrider::provider::deliver::{Delivery, Mail, Providers};
use postrider::route::plan::RoutePlan;

use super::http_peer::HttpPeer;
use super::letters::address;

/// The delivery of every letter.
pub const DELIVERY: DeliveryId = DeliveryId::new(42);

/// A small whole letter.
pub fn letter() -> Letter {
    letter_with("To: Ann <ann@example.org>\r\n")
}

/// The same with other headers beside From and Subject.
pub fn letter_with(headers: &str) -> Letter {
    let text = format!(
        "From: Shop <me@shop.example>\r\nSubject: Hello\r\n{headers}MIME-Version: 1.0\r\n\
         Content-Type: text/plain\r\n\r\nHello Ann\r\n"
    );
    let sender = Some(address("me@shop.example"));
    Letter::seal(sender, address("ann@example.org"), text.into_bytes(), false)
}

/// A scripted server's endpoint.
pub fn endpoint(peer: &HttpPeer) -> Endpoint {
    Endpoint { tls: false, host: "127.0.0.1".into(), port: peer.address.port() }
}

/// A provider that does not wait for long.
pub fn provider(service: Service, endpoint: Endpoint) -> Arc<Provider> {
    Arc::new(Provider {
        service,
        endpoint,
        authority: None,
        max_requests: 50,
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(2),
    })
}

/// One attempt.
pub async fn deliver(providers: &Providers, provider: &Arc<Provider>, letter: &Letter) -> Delivery {
    let plan = RoutePlan {
        route: "provider".into(),
        mailbox_provider: MailboxProvider::other(),
        source: Arc::new(Source::default()),
        hops: Vec::new(),
        provider: Some(Arc::clone(provider)),
    };
    let mail = Mail { delivery: DELIVERY, letter };
    providers.deliver_while(&|| Ok(()), mail, &plan, provider).await
}
