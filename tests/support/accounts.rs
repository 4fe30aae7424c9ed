//! A whole installation whose mail goes to routes of Mailgun, each with a scripted server.
#![allow(unreachable_pub, dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashSet;
use std::path::PathBuf;

use sqlx::PgPool;
use tempfile::TempDir;

use crate::support::builders::{recipients, tenant};
use crate::support::http_peer::{Act, HttpPeer};
use crate::support::installation::{Daemon, Installation};

/// Retries that do not wait for long.
pub const RETRY: &str = "[stream.bulk]\nretry = { first = \"1s\", factor = 1.0, cap = \"1s\" }\n";

/// See the file's header.
pub struct Accounts {
    pub installation: Installation,
    pub tenant: i64,
    folder: TempDir,
}

impl Accounts {
    pub async fn new() -> Self {
        let installation = Installation::new(None).await;
        let tenant = tenant(&installation.owner, "acme").await;
        Self { installation, tenant, folder: TempDir::new().expect("a folder") }
    }

    /// Writes the key that all routes use.
    pub fn key(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("key");
        std::fs::write(&path, text).expect("write the key");
        path
    }

    /// A route, with more lines of it.
    pub fn route(&self, name: &str, url: &str, more: &str) -> String {
        let key = self.key("the-key");
        let key = key.display();
        format!(
            "[[route]]\nname = \"{name}\"\nkind = \"mailgun\"\nendpoint = \"{url}\"\nkey_file = \"{key}\"\n{more}\n"
        )
    }

    /// Writes the configuration anew.
    pub fn configure(&self, routes: &[String], rule: &str, more: &str) -> PathBuf {
        let text = format!("{}\n[[rule]]\n{rule}\n{more}", routes.concat());
        self.installation.configure(&text)
    }

    pub async fn daemon(&self, routes: &[String], rule: &str, more: &str) -> Daemon {
        self.installation.daemon(&self.configure(routes, rule, more)).await
    }

    pub async fn submit(&self, n: usize) -> HashSet<String> {
        let to = recipients(n, "example.org");
        self.installation.submit(self.tenant, "bulk", &to).await;
        to.into_iter().collect()
    }

    pub fn owner(&self) -> &PgPool {
        &self.installation.owner
    }
}

/// What Mailgun answers to a mail that it takes.
pub fn queued() -> Act {
    Act::json(200, r#"{"id":"<1@mg.example>","message":"Queued. Thank you."}"#)
}

/// Whom a server was asked to send to, each as often as it was.
pub fn asked(peer: &HttpPeer) -> Vec<String> {
    let to = |body: &[u8]| {
        let text = String::from_utf8_lossy(body).into_owned();
        let rest = text.split("name=\"to\"\r\n\r\n").nth(1).expect("a recipient").to_owned();
        rest.lines().next().expect("a line").to_owned()
    };
    peer.requests().iter().map(|request| to(&request.body)).collect()
}
