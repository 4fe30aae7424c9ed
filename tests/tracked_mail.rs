//! Promise: where a stream is tracked, the links of a real mail lead over the tenant's host, its
//! signatures cover what is sent, and what people do comes to the tenant's endpoint. Elsewhere
//! the html goes out as it was given.

use crate::support::builders;
use crate::support::companion::Companion;
use crate::support::hook::Hook;
use crate::support::installation::{Daemon, Installation};
use crate::support::verifiers::{Record, records_by_dkimpy, records_by_mail_auth};
use mail_parser::MessageParser;
use reqwest::header::{HOST, LOCATION};
use serde_json::{Value, json};

const HTML: &str = "<html>\n<body>\n<p class=x>Hi {{ name }}</p>\n\
    <a  HREF='https://shop.example/tea?a=1&amp;b={{ name }}'>Tea</a>\n\
    <a href=\"https://shop.example/legal\" data-track=\"off\">Legal</a>\n\
    <a href=\"mailto:help@shop.example\">Help</a> <a href='{{ postrider.unsubscribe_url }}'>Leave</a>\n\
    <img src=\"https://shop.example/logo.png\"></body>\n</html>";

const TEXT: &str = "Hi {{ name }}: https://shop.example/tea?a=1&b={{ name }}";

const TRACKED: &str = "[stream.news]\ntrack_opens = true\ntrack_clicks = true\n\n\
    [webhook]\nallow_http = true\nallow_private_addresses = true\npoll_interval = \"50ms\"\n";

struct House {
    home: Installation,
    daemon: Daemon,
    companion: Companion,
    key: postrider::tenant::key::ApiKey,
    records: Vec<Record>,
}

/// A mail as it came.
struct Came {
    raw: Vec<u8>,
    html: String,
    text: String,
    unsubscribe: String,
}

impl House {
    /// With the domains shop.example, which has a host, and acme.example, which has none.
    async fn new() -> Self {
        let home = Installation::new(None).await;
        let tenant = builders::tenant(&home.owner, "acme").await;
        let done = |args: &[&str]| {
            let ran = home.postrider(args);
            assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
            ran.out
        };
        let added = done(&["domain", "add", "--tenant", "acme", "shop.example", "--json"]);
        let added: Value = serde_json::from_str(&added).expect("JSON");
        let records = added["dns"].as_array().expect("records").iter().map(|record| Record {
            name: record["name"].as_str().expect("a name").to_owned(),
            text: record["value"].as_str().expect("a value").to_owned(),
        });
        let records = records.filter(|record| record.name.contains("._domainkey.")).collect();
        done(&["domain", "tracking-host", "--tenant", "acme", "shop.example", "link.shop.example"]);
        // Off at first.
        let config = home.configure(&TRACKED.replace("= true\ntrack_clicks = true", "= false"));
        let daemon = home.daemon(&config).await;
        let companion = Companion::start(&config).await;
        let key = Companion::key(&home.owner, tenant).await;
        Self { home, daemon, companion, key, records }
    }

    async fn send(&self, from: &str, stream: &str, name: &str) -> Came {
        let to = format!("{name}@b.example");
        let mail = json!({"from": from, "subject": "Tea", "stream": stream, "html": HTML, "text": TEXT,
            "recipients": [{"to": to, "vars": {"name": name}}]});
        self.companion.submit(&self.key, &mail, &[]).await;
        self.home.drained(&self.daemon).await;
        let mails = self.home.sink.mails();
        let mail = mails.iter().find(|mail| mail.to == [to.clone()]).expect("it came");
        let raw = mail.raw();
        let parsed = MessageParser::new().parse(&raw).expect("a mail");
        let body = |text: Option<std::borrow::Cow<'_, str>>| {
            text.expect("a body").replace("\r\n", "\n").trim_end().to_owned()
        };
        let (html, text) = (body(parsed.body_html(0)), body(parsed.body_text(0)));
        let ways = mail.header("List-Unsubscribe").expect("bulk mail has one");
        let unsubscribe = ways.split(['<', '>']).nth(1).expect("a link").to_owned();
        Came { raw, html, text, unsubscribe }
    }
}

/// The html as it was given, filled.
fn given(name: &str, came: &Came) -> String {
    let link = came.unsubscribe.replace('/', "&#x2f;");
    HTML.replace("{{ name }}", name).replace("{{ postrider.unsubscribe_url }}", &link)
}

/// Asks the API for an address as a proxy in front of it does.
async fn follow(api: &str, link: &str, head: bool) -> reqwest::Response {
    let rest = link.strip_prefix("https://").expect("https");
    let (host, path) = rest.split_once('/').expect("a path");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.user_agent("Mozilla/5.0 Thunderbird/115.12.0").build().expect("a client");
    let url = format!("{api}/{path}");
    let request = if head { client.head(url) } else { client.get(url) };
    request.header(HOST, host).send().await.expect("an answer")
}

/// The first address in `html` that begins so.
fn address<'h>(html: &'h str, begin: &str) -> &'h str {
    let at = html.find(begin).unwrap_or_else(|| panic!("no {begin} in {html}"));
    html[at..].split(['"', '\'']).next().expect("one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracked_mail_tells_its_tenant_what_becomes_of_it() {
    let house = House::new().await;
    let off = house.send("news@shop.example", "news", "off").await;
    assert_eq!(off.html, given("off", &off), "off by default");

    house.home.configure(TRACKED);
    house.daemon.signal("HUP");
    house.daemon.metric_reaches("postrider_config_reloads_total{outcome=\"applied\"}", 1.0).await;
    let other = house.send("news@acme.example", "news", "hostless").await;
    assert_eq!(other.html, given("hostless", &other), "its domain has no host");
    let plain = house.send("news@shop.example", "plain", "plain").await;
    assert_eq!(plain.html, given("plain", &plain), "another stream");

    let hook = Hook::new().await;
    let wanted = json!({"url": hook.url(), "types": ["opened", "clicked"]});
    let api = house.companion.url();
    let client = reqwest::Client::new();
    let made = client.post(format!("{api}/v1/webhooks")).bearer_auth(house.key.reveal());
    let made = made.json(&wanted).send().await.expect("an answer");
    assert_eq!(made.status(), 201, "{:?}", made.text().await);

    let came = house.send("news@shop.example", "news", "ann").await;
    let (link, picture) = (
        address(&came.html, "https://link.shop.example/c/"),
        address(&came.html, "https://link.shop.example/o/"),
    );
    let as_given = came
        .html
        .replacen(link, "https://shop.example/tea?a=1&amp;b=ann", 1)
        .replace("/legal\"", "/legal\" data-track=\"off\"")
        .replace(
            &format!("<img src=\"{picture}\" width=\"1\" height=\"1\" border=\"0\" alt=\"\">"),
            "",
        );
    assert_eq!(as_given, given("ann", &came), "nothing else changed");
    assert_eq!(came.text, TEXT.replace("{{ name }}", "ann"), "nor the text");
    assert_eq!(house.records.len(), 2);
    assert_eq!(records_by_mail_auth(&[&came.raw], &house.records), [[true, true]]);
    let verdict = &records_by_dkimpy(&[&came.raw], &house.records)[0];
    assert_eq!(verdict.passed, [true, true], "{}", verdict.why);

    assert_eq!(follow(&api, link, true).await.status(), 302);
    let answer = follow(&api, link, false).await;
    let target = "https://shop.example/tea?a=1&b=ann";
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[LOCATION]),
        (302, &target.parse().expect("a value"))
    );
    let answer = follow(&api, &link.replace("link.shop", "link.acme"), false).await;
    assert_eq!((answer.status().as_u16(), answer.headers().get(LOCATION)), (404, None));
    let answer = follow(&api, picture, false).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"image/gif".parse().expect("a value"))
    );

    hook.until("both", |hook| hook.taken().len() >= 2).await;
    let told = hook.taken();
    assert_eq!(told.len(), 2, "{told:?}");
    let clicked = told.iter().find(|event| event["type"] == "clicked").expect("a click");
    assert_eq!(
        (&clicked["data"]["url"], &clicked["data"]["to"]),
        (&json!(target), &json!("ann@b.example"))
    );
    assert_eq!(clicked["data"]["stream"], "news");
    let opened = told.iter().find(|event| event["type"] == "opened").expect("an open");
    assert_eq!(opened["data"]["machine"], false);
    let pulled = client.get(format!("{api}/v1/events?type=opened,clicked"));
    let pulled = pulled.bearer_auth(house.key.reveal()).send().await.expect("an answer");
    let pulled: Value = pulled.json().await.expect("JSON");
    let ids = |events: &[Value]| {
        let mut ids: Vec<String> = events.iter().map(|event| event["id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(pulled["events"].as_array().expect("events")), ids(&told));
    assert!(
        house.daemon.metric("postrider_tracking_letters_total{result=\"tracked\"}").await >= 1.0
    );
    assert_eq!(builders::rows(&house.home.owner, "event where kind in (12, 13)").await, 2);
    assert_eq!(house.daemon.terminate().await, Some(0));
}
