//! SIGHUP: a sound file takes effect within a second, a faulty one changes nothing.

use std::fs;
use std::process::Command;
use std::time::Duration;

use postrider::boot::{Boot, BootArgs};
use postrider::telemetry::pages::Pages;
use tokio_util::sync::CancellationToken;

const WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_hangup_reloads_the_configuration() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("postrider.toml");
    let limit = |key: &str, rate: u32| {
        fs::write(&path, format!("[[throttle]]\nscope = \"tenant\"\n{key} = \"{rate}/s\"\n"))
            .expect("write");
    };
    limit("rate", 50);
    let boot =
        Boot::start(BootArgs { config: Some(path.clone()), service: "postriderd" }).expect("start");
    let stop = CancellationToken::new();
    boot.follow_reloads(&Pages::default(), stop.clone());
    let mut settings = boot.settings();
    assert_eq!(settings.borrow_and_update().throttles[0].rate, Some(50.0));

    limit("rate", 80);
    hang_up();
    tokio::time::timeout(WITHIN, settings.changed()).await.expect("in time").expect("published");
    assert_eq!(settings.borrow_and_update().throttles[0].rate, Some(80.0));

    limit("ratee", 90);
    hang_up();
    let refused = "postrider_config_reloads_total{outcome=\"refused\"} 1";
    let counted = async {
        while !boot.metrics().render().contains(refused) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, counted).await.expect("counted in time");
    assert!(!settings.has_changed().expect("open"));
    assert_eq!(settings.borrow().throttles[0].rate, Some(80.0));
    stop.cancel();
}

/// Hangs up on this process, as an operator would.
fn hang_up() {
    let told = Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status();
    assert!(told.expect("kill").success());
}
