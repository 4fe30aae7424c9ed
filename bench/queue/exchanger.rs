//! A name server in which every domain has an exchanger of its own, all of them on this
//! machine. It counts what it is asked.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, MX};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::Mutex;
use tokio::net::{TcpListener, UdpSocket};

/// How long an answer may be kept, in seconds.
const TTL: u32 = 3_600;

/// Questions by type and name, and how often.
type Asked = Arc<Mutex<HashMap<String, u32>>>;

/// Answers until it is dropped.
pub(crate) struct Exchangers {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    asked: Asked,
    _server: Server<Handler>,
}

impl Exchangers {
    /// Listens on a free port of this machine.
    pub(crate) async fn serve() -> anyhow::Result<Self> {
        let udp = UdpSocket::bind("127.0.0.1:0").await?;
        let address = udp.local_addr()?;
        let tcp = TcpListener::bind(address).await.context("the port of the other protocol")?;
        let asked = Asked::default();
        let mut server = Server::new(Handler(Arc::clone(&asked)));
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        Ok(Self { address, asked, _server: server })
    }

    /// Different questions of a type, and the most often that one was asked.
    pub(crate) fn asked(&self, kind: &str) -> (usize, u32) {
        let asked = self.asked.lock();
        let of_kind = asked.iter().filter(|(question, _)| question.starts_with(kind));
        of_kind.fold((0, 0), |(different, most), (_, times)| (different + 1, most.max(*times)))
    }
}

struct Handler(Asked);

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let failed = || {
            let metadata = Metadata::response_from_request(&request.metadata);
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        };
        let Ok(info) = request.request_info() else { return failed() };
        let (owner, kind) = (Name::from(info.query.name().clone()), info.query.query_type());
        *self.0.lock().entry(format!("{kind} {owner}")).or_default() += 1;
        let data = match kind {
            RecordType::MX => {
                owner.prepend_label("mx").ok().map(|host| RData::MX(MX::new(10, host)))
            }
            RecordType::A => Some(RData::A(A(home(&owner)))),
            _ => None,
        };
        let records: Vec<Record> =
            data.into_iter().map(|data| Record::from_rdata(owner.clone(), TTL, data)).collect();
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        metadata.response_code = ResponseCode::NoError;
        let answer = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            records.iter(),
            [],
            [],
            [],
        );
        response.send_response(answer).await.unwrap_or_else(|_gone| failed())
    }
}

/// An address of the loopback network for each host.
fn home(host: &Name) -> Ipv4Addr {
    let mut hasher = DefaultHasher::new();
    host.hash(&mut hasher);
    let [.., a, b, c] = hasher.finish().to_be_bytes();
    // 127.0.0.0 and 127.255.255.255 are nobody's.
    Ipv4Addr::new(127, a.clamp(1, 254), b, c.clamp(1, 254))
}
