//! Promise: a mail leaves with a return path of its own; what comes back to it through a daemon's
//! listener ends in the history and the suppression list, shown by `postrider report`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::builders;
use crate::support::installation::Installation;
use crate::support::ports::free_address;

/// Hands a mail over by SMTP; the reply to the final dot.
fn deliver(to: SocketAddr, recipient: &str, mail: &str) -> String {
    let stream = TcpStream::connect(to).expect("connect");
    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
    let mut writer = stream;
    let mut reply = move || {
        let mut line = String::new();
        loop {
            line.clear();
            reader.read_line(&mut line).expect("read");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.clone();
            }
        }
    };
    reply();
    for command in ["EHLO mx.b.example", "MAIL FROM:<>", &format!("RCPT TO:<{recipient}>"), "DATA"]
    {
        writer.write_all(format!("{command}\r\n").as_bytes()).expect("write");
        let said = reply();
        assert!(said.starts_with(['2', '3']), "{command}: {said}");
    }
    writer.write_all(format!("{}\r\n.\r\n", mail.replace('\n', "\r\n")).as_bytes()).expect("write");
    reply()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_finds_its_way_back() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let listen = free_address();
    let config = home.configure(&format!(
        "[feedback]\nreturn_path_domain = \"bounces.example.org\"\n\n[inbound]\nsmtp_listen = \"{listen}\"\n"
    ));
    let daemon = home.daemon(&config).await;
    home.submit(tenant, "bulk", &["gone@b.example".to_owned()]).await;
    home.drained(&daemon).await;
    let mails = home.sink.mails();
    let back = mails[0].from.clone();
    assert!(back.starts_with('b') && back.ends_with("@bounces.example.org"), "{back}");
    let ways = mails[0].header("List-Unsubscribe").expect("bulk mail has one");
    assert!(ways.contains("mailto:u") && ways.contains("http"), "{ways}");

    let report = format!(
        "From: MAILER-DAEMON@mx.b.example\nTo: {back}\nSubject: failure notice\n\nHi. This is the qmail-send program at mx.b.example.\n\
         I'm afraid I wasn't able to deliver your message to the following addresses.\n\n<gone@b.example>:\n550 5.1.1 User unknown\n"
    );
    assert!(deliver(listen, &back, &report).starts_with("250"));
    let series = "postrider_reports_total{kind=\"bounce\",outcome=\"applied\"}";
    daemon.metric_reaches(series, 1.0).await;
    assert_eq!(
        builders::rows(&home.owner, "suppression where address = 'gone@b.example'").await,
        1
    );

    let listed: serde_json::Value =
        serde_json::from_str(&home.postrider(&["report", "list", "--json"]).out).expect("JSON");
    assert_eq!(listed[0]["outcome"], "applied", "{listed}");
    let number = listed[0]["report_id"].to_string();
    let shown = home.postrider(&["report", "show", &number]);
    assert!(shown.out.contains("qmail-send") && shown.out.contains("address_bad"), "{}", shown.out);

    // A return path of the sending domain's own, for the next mail.
    sqlx::query("update postrider.sending_domain set return_path = 'r.acme.example'")
        .execute(&home.owner)
        .await
        .expect("set");
    assert_eq!(daemon.terminate().await, Some(0));
    let daemon = home.daemon(&config).await;
    home.submit(tenant, "bulk", &["other@b.example".to_owned()]).await;
    home.drained(&daemon).await;
    let mails = home.sink.mails();
    let second = mails.iter().find(|mail| mail.to == ["other@b.example"]).expect("the second mail");
    assert!(second.from.ends_with("@r.acme.example"), "{}", second.from);
    assert_eq!(daemon.terminate().await, Some(0));
}
