//! Addresses for servers that a test starts: nobody else is given them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that the kernel gives out by itself: one of those may be anybody's again
/// before the server listens.
const FIRST: u32 = 10_000;

/// Each process has so many of its own, and so many processes are told apart by their ids.
const EACH: u32 = 100;
const PROCESSES: u32 = 200;

static GIVEN: AtomicU32 = AtomicU32::new(0);

/// A free port on loopback, each time another one.
pub fn free_address() -> SocketAddr {
    let first = FIRST + std::process::id() % PROCESSES * EACH;
    (0..EACH)
        .map(|_| first + GIVEN.fetch_add(1, Ordering::Relaxed) % EACH)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16)))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port")
}
