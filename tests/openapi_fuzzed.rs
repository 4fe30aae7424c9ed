//! Promise: the API keeps what its document says, whatever is sent: schemathesis reads the document
//! that the running API serves, makes requests of it that fit and others that do not, and holds
//! every answer against it: no 5xx, no status, media type, header or shape that is not described.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::support::builders;
use crate::support::companion::Companion;
use crate::support::installation::Installation;
use postrider::domain::ids::DeliveryId;
use serde_json::{Value, json};
use tokio::process::Command;

/// Longest time for all of it; it takes a quarter of that.
const DEADLINE: Duration = Duration::from_secs(120);

/// What every answer is held against.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

/// What schemathesis is told beside the document.
const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/schemathesis.py");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_is_answered_as_the_document_says() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "shop").await;
    // Nobody resolves a name: what is sent may name an endpoint anywhere.
    let config = home.configure(
        "[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"100ms\"\n\
         [webhook]\nallow_http = true\nallow_private_addresses = true\ntimeout = \"1s\"\n\
         [api]\ncalls_per_second = 1000000\ncalls_burst = 1000000\n",
    );
    let api = Companion::start(&config).await;
    let key = Companion::key(&home.owner, tenant).await;
    let message = json!({"from": "me@shop.example", "subject": "Hi", "text": "Hello",
        "stream": "bulk", "recipients": [{"to": "ann@example.org"}]});
    let submitted = api.submit(&key, &message, &[]).await;
    let hook = json!({"url": "http://127.0.0.1:9/hook"});
    let hook = reqwest::Client::new()
        .post(format!("{}/v1/webhooks", api.url()))
        .bearer_auth(key.reveal())
        .json(&hook);
    let hook: Value = hook.send().await.expect("ask").json().await.expect("JSON");
    let delivery: i64 = sqlx::query_scalar("select job_id from postrider.job")
        .fetch_one(&home.owner)
        .await
        .expect("the delivery");

    let folder = tempfile::tempdir().expect("a folder");
    let run = Command::new(program())
        .args(["run", &format!("{}/v1/openapi.json", api.url())])
        .args(["--header", &format!("Authorization: Bearer {}", key.reveal())])
        .args([
            "--checks",
            CHECKS,
            "--mode",
            "all",
            "--phases",
            "examples,coverage,fuzzing,stateful",
        ])
        .args(["--max-examples", "25", "--generation-deterministic"])
        // Each request has the key: what happens without it is asked elsewhere.
        .args(["--generation-with-security-parameters", "false"])
        .args(["--request-timeout", "20", "--no-color"])
        .args(["--continue-on-failure", "--warnings", "off", "--workers", "2"])
        .current_dir(folder.path())
        .env("SCHEMATHESIS_HOOKS", HOOKS)
        .env("POSTRIDER_MESSAGE", text(&submitted["id"]))
        .env("POSTRIDER_DELIVERY", DeliveryId::new(delivery).to_string())
        .env("POSTRIDER_WEBHOOK", text(&hook["id"]))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(DEADLINE, run).await;
    let run = run.unwrap_or_else(|_| panic!("not over within {DEADLINE:?}:\n{}", api.words()));
    let run = run.expect("run schemathesis");
    let said = String::from_utf8_lossy(&run.stdout);
    let sent: i64 = sqlx::query_scalar("select count(*) from postrider.message")
        .fetch_one(&home.owner)
        .await
        .expect("count");
    assert!(
        run.status.success(),
        "{}\n{said}\n{}\n{}",
        run.status,
        String::from_utf8_lossy(&run.stderr),
        api.words()
    );
    println!("{said}");
    assert!(sent > 3, "only {sent} messages that fit were made:\n{said}");
}

fn text(id: &Value) -> &str {
    id.as_str().expect("an id")
}

/// From scripts/setup.sh.
#[allow(clippy::disallowed_methods, reason = "cargo says by a variable where it builds")]
fn program() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "cargo says by a variable where it builds")]
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    let installed = target.join("tools/schemathesis/bin/schemathesis");
    assert!(
        installed.exists(),
        "expected schemathesis in {}, found none: run make setup (it needs python3-venv and PyPI)",
        installed.display()
    );
    installed
}
