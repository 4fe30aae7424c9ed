//! Promise: when the primary dies under load and its synchronous standby takes over, no
//! acknowledged delivery is lost, none comes twice, and nobody has to help.

use crate::proof;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_loses_nothing_that_was_acknowledged() {
    if let Err(error) = proof::holds("5", 1).await {
        panic!("{error:#}");
    }
}
