//! Promises behind PgBouncer in transaction mode: everything works, nothing is lost or
//! doubled, and a pooler that dies and comes back costs nothing but time. Ignored unless asked
//! for, because Debian 12 has no PgBouncer that hands prepared statements on:
//!
//!     cargo test --features failpoints --test pgbouncer -- --ignored

#[allow(dead_code, reason = "two cases of many are run here")]
#[path = "../bench/faults/proof/mod.rs"]
mod proof;

#[ignore = "needs PgBouncer 1.21 or newer"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_works_in_transaction_mode() {
    if let Err(error) = proof::holds("9b", 1).await {
        panic!("{error:#}");
    }
}

#[ignore = "needs PgBouncer 1.21 or newer"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_dies_and_comes_back_costs_time_only() {
    if let Err(error) = proof::holds("8b", 1).await {
        panic!("{error:#}");
    }
}
