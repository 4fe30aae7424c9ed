//! Asks name servers to say whether they validated an answer: sets the AD bit in every question
//! (RFC 6840 5.7), so that it comes back set in answers that DNSSEC proves.
//!
//! Who is believed is decided by [`believed`]; docs/adr/0016 says why we do not validate here.

use std::net::IpAddr;
use std::pin::Pin;

use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsExchange, DnsHandle};
use hickory_resolver::proto::op::DnsRequest;
use hickory_resolver::{ConnectionProvider, PoolContext};

use crate::config::Dnssec;

/// Makes connections to name servers over which every question asks for validation.
#[derive(Clone, Default)]
pub struct Connections(TokioRuntimeProvider);

/// A connection to a name server.
#[derive(Clone)]
pub struct Asking(DnsExchange<TokioRuntimeProvider>);

impl DnsHandle for Asking {
    type Response = <DnsExchange<TokioRuntimeProvider> as DnsHandle>::Response;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, mut request: DnsRequest) -> Self::Response {
        request.metadata.authentic_data = true;
        self.0.send(request)
    }
}

impl ConnectionProvider for Connections {
    type Conn = Asking;
    type FutureConn = Pin<Box<dyn Future<Output = Result<Asking, NetError>> + Send>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        cx: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let connecting = self.0.new_connection(ip, config, cx)?;
        Ok(Box::pin(async move { connecting.await.map(Asking) }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.0
    }
}

/// Whether an AD bit from any of these servers is believed (pure). The answer to a question may
/// come from each of them, so the least trusted one decides.
pub fn believed(dnssec: Dnssec, servers: impl IntoIterator<Item = IpAddr>) -> bool {
    match dnssec {
        Dnssec::Off => false,
        Dnssec::Trusted => true,
        Dnssec::Loopback => servers.into_iter().all(|server| server.to_canonical().is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_believed_unless_told_otherwise() {
        let ips = |list: &[&str]| -> Vec<IpAddr> {
            list.iter().map(|ip| ip.parse().expect("an address")).collect()
        };
        assert!(believed(Dnssec::Loopback, ips(&["127.0.0.53", "::1"])));
        assert!(!believed(Dnssec::Loopback, ips(&["127.0.0.1", "192.0.2.1"])));
        assert!(believed(Dnssec::Trusted, ips(&["192.0.2.1"])));
        assert!(!believed(Dnssec::Off, ips(&["127.0.0.1"])));
    }
}
