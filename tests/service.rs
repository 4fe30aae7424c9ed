//! Promises: the service manager hears when the daemon is ready, alive, reloads and stops; a
//! reload ends in a named outcome; a restart of the API on a passed socket refuses nobody.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::command::{KEY, bare, ran};
use crate::support::installation::{Daemon, Installation};
use tempfile::TempDir;
use tokio::net::UnixDatagram;

/// Longest wait for anything here; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    /// What was said, a message each.
    heard: Vec<String>,
    _folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().expect("folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind");
        Self { socket, path, heard: Vec::new(), _folder: folder }
    }

    fn address(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    /// Waits for a message with this line, and gives the whole message.
    async fn hears(&mut self, line: &str) -> String {
        let mut buffer = vec![0; 4_096];
        let heard = async {
            loop {
                let length = self.socket.recv(&mut buffer).await.expect("receive");
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                self.heard.push(message.clone());
                if message.lines().any(|said| said == line) {
                    return message;
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        heard.unwrap_or_else(|_| panic!("never {line}, but {:#?}", self.heard))
    }

    /// How often a line was said until now.
    fn count(&self, line: &str) -> usize {
        self.heard.iter().flat_map(|message| message.lines()).filter(|said| *said == line).count()
    }
}

fn reload(daemon: &Daemon, config: &Path) -> (i32, String) {
    let at = daemon.probes().to_string();
    let mut command = bare(&["reload", "--at", &at, "--config"]);
    let ran = ran(&command.arg(config).output().expect("run"));
    (ran.code, format!("{}{}", ran.out, ran.err))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_hears_ready_alive_reloading_and_stopping() {
    let home = Installation::new(None).await;
    let config = home.configure("");
    let mut manager = Manager::new();
    let variables = [("NOTIFY_SOCKET", manager.address()), ("WATCHDOG_USEC", "300000")];
    let mut daemon = home.launch(&config, &variables);
    let ready = manager.hears("READY=1").await;
    assert!(ready.contains("STATUS=ready"), "{ready}");
    assert!(manager.count("WATCHDOG=1") > 0, "fed while it starts: {:?}", manager.heard);
    assert!(daemon.readiness().await.contains(r#""ready":true"#), "after the first look");
    manager.hears("WATCHDOG=1").await;

    daemon.signal("HUP");
    let reloading = manager.hears("RELOADING=1").await;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    let done = manager.hears("READY=1").await;
    assert!(done.contains("STATUS=ready; last reload: unchanged"), "{done}");

    daemon.signal("TERM");
    manager.hears("STOPPING=1").await;
    daemon.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_ends_in_a_named_outcome() {
    let home = Installation::new(None).await;
    let config = home.configure("");
    let daemon = home.daemon(&config).await;
    assert_eq!(reload(&daemon, &config).0, 0);

    home.configure("[[throttle]]\nscope = \"tenant\"\nrate = \"7/s\"\n");
    let (code, said) = reload(&daemon, &config);
    assert_eq!((code, said.trim()), (0, "applied; changed: throttle"));

    home.configure_worker("concurrency = 77", "[[throttle]]\nscope = \"tenant\"\nrate = \"8/s\"\n");
    let (code, said) = reload(&daemon, &config);
    let expected = "needs_restart; changed: throttle; restart for: worker";
    assert_eq!((code, said.trim()), (4, expected));

    // The tool would refuse this itself; the daemon does, too, when it is asked all the same.
    let broken = home.configure("[[throttle]]\nscope = \"tenant\"\nratee = \"9/s\"\n");
    let (code, said) = reload(&daemon, &broken);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("postrider.toml:") && said.contains("ratee"), "{said}");
    let url = format!("http://{}/reload", daemon.probes());
    let answer = reqwest::Client::new().post(url).send().await.expect("ask");
    assert_eq!(answer.status(), 422);
    let told: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!(told["outcome"], "refused");
    let counted = r#"postrider_config_reloads_total{outcome="refused"}"#;
    assert!(daemon.metric(counted).await >= 1.0);

    let nobody = bare(&["reload", "--at", "127.0.0.1:1"]).output().expect("run");
    assert_eq!(nobody.status.code(), Some(1), "nobody is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_file_is_enough() {
    let home = Installation::new(None).await;
    let text = |rate: &str| format!("[[throttle]]\nscope = \"tenant\"\n{rate}\n");
    let real = home.configure(&text("rate = \"7/s\""));
    let folder = TempDir::new().expect("folder");
    let at = |name: &str| folder.path().join(name);
    // As Kubernetes mounts it: what the path leads to is swapped as a whole.
    let version = |name: &str, rate: &str| {
        home.configure(&text(rate));
        std::fs::create_dir(at(name)).expect("folder");
        std::fs::copy(&real, at(name).join("postrider.toml")).expect("copy");
        std::os::unix::fs::symlink(name, at("next")).expect("link");
        std::fs::rename(at("next"), at("data")).expect("swap");
    };
    version("one", "rate = \"7/s\"");
    let config = at("data").join("postrider.toml");
    let watch =
        [("POSTRIDER__RELOAD__WATCH_FILE", "true"), ("POSTRIDER__RELOAD__INTERVAL", "100ms")];
    let daemon = home.launch(&config, &watch);
    let still = home.launch(&config, &watch[1..]);
    for daemon in [&daemon, &still] {
        daemon.metric_appears("postrider_config_reloads_total").await;
    }
    let series = |outcome: &str| format!("postrider_config_reloads_total{{outcome=\"{outcome}\"}}");
    let counted = async |outcome: &str, times: f64| {
        daemon.metric_reaches(&series(outcome), times).await;
    };
    version("two", "rate = \"8/s\"");
    counted("applied", 1.0).await;
    // A file with a fault changes nothing and says so; put in place by a rename.
    let broken = std::fs::read_to_string(&config).expect("read").replace("rate =", "ratee =");
    std::fs::write(at("broken"), broken).expect("write");
    std::fs::rename(at("broken"), at("two").join("postrider.toml")).expect("replace");
    counted("refused", 1.0).await;
    assert!(daemon.words().contains("did you mean \"rate\""), "{}", daemon.words());
    version("three", "rate = \"9/s\"");
    counted("applied", 2.0).await;
    assert_eq!(daemon.words().matches("file has changed").count(), 3);

    // Where that is turned off, a hang-up is needed.
    still.signal("HUP");
    still.metric_reaches(&series("applied"), 1.0).await;
    assert!(!still.words().contains("file has changed"), "{}", still.words());
}

/// An API that was passed `socket`, as a service manager would.
fn api_on(socket: &TcpListener, config: &Path, manager: &Manager) -> Child {
    let socket: OwnedFd = socket.try_clone().expect("one more").into();
    let run =
        "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" --config \"$1\"";
    Command::new("/bin/sh")
        .args(["-c", run, env!("CARGO_BIN_EXE_postrider-api")])
        .arg(config)
        .env("POSTRIDER_KEY", KEY)
        .env("NOTIFY_SOCKET", manager.address())
        .stdin(socket)
        .stderr(Stdio::null())
        .spawn()
        .expect("start postrider-api")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_api_refuses_nobody() {
    let home = Installation::new(None).await;
    // The address in the configuration is taken: only the passed socket is left.
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let listen = taken.local_addr().expect("address");
    let config = home.configure(&format!("[api]\nlisten = \"{listen}\"\n"));
    let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}/livez", socket.local_addr().expect("address"));
    let ask = || async { reqwest::get(&url).await.expect("an answer").status() };

    let mut manager = Manager::new();
    let mut api = api_on(&socket, &config, &manager);
    manager.hears("READY=1").await;
    assert_eq!(ask().await, 200);
    terminate(&mut api);
    manager.hears("STOPPING=1").await;

    // Nobody accepts now, and nobody is refused.
    let waiting = tokio::spawn(reqwest::get(url.clone()));
    let mut api = api_on(&socket, &config, &manager);
    let answer = tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
    assert_eq!(answer.expect("no panic").expect("answered").status(), 200);
    terminate(&mut api);
}

fn terminate(child: &mut Child) {
    let told = Command::new("kill").arg(child.id().to_string()).status().expect("run kill");
    assert!(told.success());
    assert_eq!(child.wait().expect("reap").code(), Some(0));
}
