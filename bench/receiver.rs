//! A receiver of traces that takes everything and counts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;

/// A running receiver; it ends with the process.
pub(crate) struct Receiver {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Receiver {
    /// Listens on loopback.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&bytes);
        let take = move |body: Bytes| {
            counted.fetch_add(body.len() as u64, Ordering::Relaxed);
            async {}
        };
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, bytes })
    }

    /// What `traces.endpoint` is to be.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
