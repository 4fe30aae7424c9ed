//! A report's text (RFC 8460 4.4); pure.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime};
use serde_json::{Value, json};

use super::store::Row;
use crate::config::TlsReport;

/// First and last second of a day, since 1970.
pub(super) fn seconds(day: NaiveDate) -> (i64, i64) {
    let begin = day.and_time(NaiveTime::MIN).and_utc().timestamp();
    (begin, begin + 86_399)
}

/// The report of `by` on a day with the hosts of `domain`.
pub(super) fn json(by: &TlsReport, domain: &str, day: NaiveDate, id: &str, rows: &[Row]) -> Value {
    let mut policies: BTreeMap<(&str, &str, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        policies
            .entry((&row.policy_type, policy_domain(domain, row), &row.policy))
            .or_default()
            .push(row);
    }
    let policies: Vec<Value> = policies
        .into_iter()
        .map(|((kind, about, text), rows)| policy(kind, about, text, &rows))
        .collect();
    json!({
        "organization-name": by.organization,
        "date-range": {
            "start-datetime": format!("{day}T00:00:00Z"),
            "end-datetime": format!("{day}T23:59:59Z"),
        },
        "contact-info": by.contact,
        "report-id": id,
        "policies": policies,
    })
}

/// Whom a policy is about: with DANE the host, else the domain (RFC 8460 1.1).
fn policy_domain<'a>(domain: &'a str, row: &'a Row) -> &'a str {
    if row.policy_type == "tlsa" { &row.host } else { domain }
}

fn policy(kind: &str, about: &str, text: &str, rows: &[&Row]) -> Value {
    let lines: Vec<&str> = text.lines().collect();
    let mut policy = json!({ "policy-type": kind, "policy-domain": about });
    if !lines.is_empty() {
        policy["policy-string"] = json!(lines);
    }
    if kind == "sts" {
        let hosts: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("mx: ")).collect();
        policy["mx-host"] = json!(hosts);
    }
    let sum = |failed: bool| -> i64 {
        rows.iter().filter(|row| row.failure.is_empty() != failed).map(|row| row.sessions).sum()
    };
    let details: Vec<Value> =
        rows.iter().filter(|row| !row.failure.is_empty()).map(|row| detail(row)).collect();
    let mut report = json!({
        "policy": policy,
        "summary": {
            "total-successful-session-count": sum(false),
            "total-failure-session-count": sum(true),
        },
    });
    if !details.is_empty() {
        report["failure-details"] = json!(details);
    }
    report
}

fn detail(row: &Row) -> Value {
    let mut detail = json!({
        "result-type": row.failure,
        "receiving-mx-hostname": row.host,
        "failed-session-count": row.sessions,
    });
    for (key, value) in [("sending-mta-ip", &row.source_ip), ("receiving-ip", &row.host_ip)] {
        if !value.is_empty() {
            detail[key] = json!(value);
        }
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policy_type: &str, policy: &str, failure: &str, sessions: i64) -> Row {
        Row {
            policy_type: policy_type.into(),
            policy: policy.into(),
            host: "mx.example".into(),
            source_ip: String::new(),
            host_ip: "192.0.2.1".into(),
            failure: failure.into(),
            sessions,
        }
    }

    #[test]
    fn a_report_sums_by_policy_and_details_what_failed() {
        let by = TlsReport {
            organization: "Us".into(),
            contact: "tls@us.example".into(),
            from: "tls@us.example".into(),
            tenant: "us".into(),
            stream: "tls-report".into(),
        };
        let day = NaiveDate::from_ymd_opt(2026, 11, 25).expect("a day");
        assert_eq!(seconds(day), (1_795_564_800, 1_795_651_199));
        let sts = "version: STSv1\nmode: testing\nmx: *.example\nmax_age: 86400";
        let rows = [
            row("sts", sts, "", 5),
            row("sts", sts, "certificate-expired", 2),
            row("sts", sts, "certificate-host-mismatch", 1),
            row("tlsa", "3 1 1 00", "", 7),
            row("no-policy-found", "", "starttls-not-supported", 4),
        ];
        let report = json(&by, "them.example", day, "id", &rows);
        let policies = report["policies"].as_array().expect("a list");
        assert_eq!(policies.len(), 3);
        assert_eq!(
            policies[0]["policy"],
            json!({"policy-type": "no-policy-found", "policy-domain": "them.example"})
        );
        assert_eq!(policies[1]["policy"]["mx-host"], json!(["*.example"]));
        assert_eq!(policies[1]["policy"]["policy-domain"], "them.example");
        assert_eq!(
            policies[1]["summary"],
            json!({"total-successful-session-count": 5, "total-failure-session-count": 3})
        );
        assert_eq!(
            policies[1]["failure-details"][0],
            json!({"result-type": "certificate-expired", "receiving-mx-hostname": "mx.example",
                   "receiving-ip": "192.0.2.1", "failed-session-count": 2})
        );
        assert_eq!(policies[2]["policy"]["policy-domain"], "mx.example");
        assert!(policies[2].get("failure-details").is_none());
    }
}
