//! Routes to providers in the configuration: what is sound, and what is said of the rest.

use std::fs;

use postrider::config::load::load;
use postrider::config::{AwsCredentials, ConfigError, Endpoint, RouteKind, Service, Settings};

fn read(text: &str) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("key"), "the-key\n").expect("write");
    fs::write(folder.path().join("broken"), "two\nlines\n").expect("write");
    let path = folder.path().join("p.toml");
    fs::write(&path, format!("[[source]]\nname = \"a\"\nehlo = \"mail.shop.test\"\n{text}"))
        .expect("write");
    load(Some(&path), std::iter::empty())
}

fn route(keys: &str) -> String {
    format!("[[route]]\nname = \"p\"\n{keys}\n")
}

#[test]
fn each_kind_is_read_with_its_usual_endpoint() {
    let kind = |text: &str| match read(&route(text)).expect("sound").routes.remove(0).kind {
        RouteKind::Provider(provider) => provider,
        other => panic!("{other:?}"),
    };
    let ses = kind(
        "kind = \"ses\"\nregion = \"eu-west-1\"\naccess_key_id = \"AKIDEXAMPLE0000000\"\nkey_file = \"key\"",
    );
    assert_eq!(ses.endpoint, Endpoint::https("email.eu-west-1.amazonaws.com"));
    let Service::Ses { credentials: AwsCredentials::Key { secret, .. }, .. } = &ses.service else {
        panic!("{ses:?}")
    };
    assert_eq!(secret.expose(), "the-key");
    assert!(!format!("{ses:?}").contains("the-key"), "secrets print themselves nowhere");
    let role = kind("kind = \"ses\"\nregion = \"us-east-1\"\ninstance_role = true");
    let Service::Ses { credentials: AwsCredentials::InstanceRole { metadata }, .. } = &role.service
    else {
        panic!("{role:?}")
    };
    assert_eq!(metadata.to_string(), "http://169.254.169.254");
    let sendgrid = kind("kind = \"sendgrid\"\nkey_file = \"key\"\nregion = \"eu\"");
    assert_eq!(sendgrid.endpoint, Endpoint::https("api.eu.sendgrid.com"));
    let mailgun =
        kind("kind = \"mailgun\"\nkey_file = \"key\"\nendpoint = \"https://10.0.0.1:8443\"");
    assert_eq!(mailgun.endpoint.to_string(), "https://10.0.0.1:8443");
}

#[test]
fn a_rule_may_divide_its_mail() {
    let relays = ["one", "two"].map(|name| {
        format!("[[route]]\nname = \"{name}\"\nkind = \"relay\"\nhost = \"127.0.0.1\"\nfallback = \"{}\"\n",
            if name == "one" { "two" } else { "one" })
    });
    let text = format!(
        "{}[[rule]]\nsplit = [{{ route = \"one\", weight = 3 }}, {{ route = \"two\" }}]\n",
        relays.concat()
    );
    let settings = read(&text).expect("sound");
    let split: Vec<_> =
        settings.rules[0].split.iter().map(|share| (&*share.route, share.weight)).collect();
    assert_eq!(split, [("one", 3), ("two", 1)]);
    assert_eq!(settings.routes[0].fallback.as_deref(), Some("two"));
}

#[test]
fn what_is_wrong_is_said_with_its_key_and_why() {
    let key = "key_file = \"key\"\n";
    let ses = "kind = \"ses\"\nregion = \"eu-west-1\"\n";
    let id = "access_key_id = \"AKIDEXAMPLE0000000\"\n";
    let sendgrid = format!("kind = \"sendgrid\"\n{key}");
    for (text, expected) in [
        (format!("kind = \"ses\"\n{id}{key}"), "route[0].region: missing"),
        (format!("{ses}{key}"), "route[0].access_key_id: missing"),
        (format!("{ses}{id}"), "route[0].key_file: missing"),
        (format!("{ses}{id}key_file = \"nowhere\""), "route[0].key_file: cannot read nowhere"),
        (format!("{ses}{id}key = \"in the file\""), "route[0].key: secrets do not belong"),
        (format!("{ses}{id}key_file = \"broken\""), "route[0].key_file: expected one line"),
        (
            format!("{ses}instance_role = true\n{key}"),
            "route[0].key_file: has no meaning with instance_role",
        ),
        (
            format!("{ses}{id}{key}metadata_endpoint = \"http://127.0.0.1\""),
            "route[0].metadata_endpoint",
        ),
        (
            format!("{sendgrid}endpoint = \"http://api.example.net\""),
            "route[0].endpoint: the account's key",
        ),
        (
            format!("{sendgrid}endpoint = \"api.example.net\""),
            "route[0].endpoint: expected a server",
        ),
        (format!("{sendgrid}region = \"mars\""), "route[0].region: expected one of global, eu"),
        (format!("{sendgrid}port = 25"), "route[0].port: has no meaning for a provider"),
        (format!("{sendgrid}sources = [\"a\"]"), "route[0].sources: has no meaning for a provider"),
        (format!("{sendgrid}domain = \"x.example\""), "route[0].domain: unknown key"),
        (
            format!("{sendgrid}fallback = \"p\""),
            "route[0].fallback: a route cannot take over from itself",
        ),
        (
            format!("{sendgrid}fallback = \"q\""),
            "route[0].fallback: expected the name of a [[route]], found \"q\"",
        ),
        (format!("{sendgrid}ca_file = \"key\""), "route[0].ca_file: key: expected a certificate"),
        (
            "kind = \"mx\"\nkey_file = \"key\"".into(),
            "route[0].key_file: has a meaning only with kind",
        ),
        (
            "kind = \"mx\"\nfallback = \"p\"".into(),
            "route[0].fallback: a route to the recipients' exchangers",
        ),
    ] {
        let error = read(&route(&text)).expect_err(&text).to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
    }
    for (rule, expected) in [
        ("split = []", "rule[0].split: expected at least one"),
        (
            "split = [{ route = \"x\" }, { route = \"p\" }]",
            "rule[0].split[0].route: expected the name",
        ),
        (
            "split = [{ route = \"p\" }, { route = \"p\" }]",
            "rule[0].split[1].route: \"p\" has a share already",
        ),
        (
            "split = [{ route = \"p\", weight = 0 }]",
            "rule[0].split[0].weight: expected a whole number",
        ),
        ("route = \"p\"\nsplit = [{ route = \"p\" }]", "rule[0].route: expected route or split"),
        ("tenant = \"x\"", "rule[0].route: missing"),
    ] {
        let text = format!("{}[[rule]]\n{rule}\n", route(&sendgrid));
        let error = read(&text).expect_err(rule).to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
    }
}
