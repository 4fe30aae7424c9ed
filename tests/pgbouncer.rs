//! Promises behind PgBouncer in transaction mode: everything works, nothing is lost or
//! doubled, and a pooler that dies and comes back costs nothing but time.

use crate::proof;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_works_in_transaction_mode() {
    if let Err(error) = proof::holds("9b", 1).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_dies_and_comes_back_costs_time_only() {
    if let Err(error) = proof::holds("8b", 1).await {
        panic!("{error:#}");
    }
}
