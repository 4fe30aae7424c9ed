//! A name server of our own on a port of the loopback: authoritative for the
//! zone `test.`, it counts what it is asked, fails under `servfail.test.` and
//! says nothing under `silent.test.`.
#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "each test uses its part")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, MX, SOA, TXT};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// Runs until dropped.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _server: Server<Handler>,
}

/// What the zone holds.
pub struct Zone {
    records: InMemoryZoneHandler<TokioRuntimeProvider>,
}

impl Zone {
    pub fn new() -> Self {
        let origin = name("test");
        let mut records =
            InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(name("ns.test"), name("admin.test"), 1, 3600, 600, 86400, 30);
        records.upsert_mut(Record::from_rdata(origin, 3600, RData::SOA(soa)), 1);
        Self { records }
    }

    pub fn mx(self, domain: &str, ttl: u32, preference: u16, host: &str) -> Self {
        self.with(domain, ttl, RData::MX(MX::new(preference, name(host))))
    }

    pub fn a(self, host: &str, address: [u8; 4]) -> Self {
        self.with(host, 300, RData::A(A(address.into())))
    }

    pub fn aaaa(self, host: &str, address: &str) -> Self {
        self.with(host, 300, RData::AAAA(AAAA(address.parse().unwrap())))
    }

    pub fn txt(self, owner: &str, text: &str) -> Self {
        // A string of a record holds at most 255 bytes.
        let parts =
            text.as_bytes().chunks(255).map(|part| String::from_utf8_lossy(part).into_owned());
        self.with(owner, 300, RData::TXT(TXT::new(parts.collect())))
    }

    pub fn cname(self, host: &str, target: &str) -> Self {
        self.with(host, 300, RData::CNAME(CNAME(name(target))))
    }

    fn with(mut self, owner: &str, ttl: u32, data: RData) -> Self {
        self.records.upsert_mut(Record::from_rdata(name(owner), ttl, data), 1);
        self
    }

    pub async fn serve(self) -> NameServer {
        let mut catalog = Catalog::new();
        catalog.upsert(name("test").into(), vec![Arc::new(self.records)]);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut server = Server::new(Handler { catalog, asked: asked.clone() });
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        NameServer { address, asked, _server: server }
    }
}

impl NameServer {
    /// Questions so far, as `MX one.test`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// How often this was asked.
    pub fn times(&self, question: &str) -> usize {
        self.asked().iter().filter(|asked| *asked == question).count()
    }
}

/// One port for both protocols.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // Somebody may have that port of the other protocol.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).unwrap()
}

struct Handler {
    catalog: Catalog,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let query = request.request_info().unwrap().query;
        let asked = query.name().to_string().trim_end_matches('.').to_owned();
        self.asked.lock().unwrap().push(format!("{} {asked}", query.query_type()));
        if asked.ends_with("silent.test") {
            let metadata = Metadata::response_from_request(&request.metadata);
            return Header { metadata, counts: HeaderCounts::default() }.into();
        }
        if asked.ends_with("servfail.test") {
            let failure = MessageResponseBuilder::from_message_request(request)
                .error_msg(&request.metadata, ResponseCode::ServFail);
            return response.send_response(failure).await.unwrap();
        }
        self.catalog.handle_request::<R, T>(request, response).await
    }
}
