//! The TXT record that says that a domain has a policy, and which (RFC 8461 3.1); pure.

/// The id of the policy, if exactly one record speaks of one, and rightly.
pub(super) fn id(records: &[String]) -> Option<String> {
    let mut ours = records.iter().filter(|record| {
        record.strip_prefix("v=STSv1").is_some_and(|rest| rest.trim_start().starts_with(';'))
    });
    let (record, another) = (ours.next()?, ours.next());
    if another.is_some() {
        return None;
    }
    let ids = record.split(';').filter_map(|field| field.trim().strip_prefix("id="));
    let id = ids.map(str::trim).next()?;
    let legal = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    legal.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(records: &[&str]) -> Option<String> {
        id(&records.iter().map(|&record| record.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_id_is_read_however_it_is_spaced() {
        for record in [
            "v=STSv1; id=20160831085700Z;",
            "v=STSv1;id=20160831085700Z;",
            "v=STSv1; id=20160831085700Z",
            "v=STSv1;        id=20160831085700Z   ",
            "v=STSv1; id=20160831085700Z;;;",
            "v=STSv1 ; later=x; id=20160831085700Z",
        ] {
            assert_eq!(of(&[record]).as_deref(), Some("20160831085700Z"), "{record}");
        }
        assert_eq!(of(&["v=spf1 -all", "v=STSv1; id=a"]).as_deref(), Some("a"));
    }

    #[test]
    fn what_is_not_one_right_record_is_none() {
        for records in [
            &[][..],
            &[""],
            &[" ;   ;  "],
            &["v=STSv1"],
            &["v=STSv1;"],
            &["v=STSv1; id="],
            &["v=STSv1; id=not-legal"],
            &["v=STSv1; id=123456789012345678901234567890123"],
            &["v=STSv2; id=a"],
            &["id=a; v=STSv1"],
            &["v=STSv1; id=a", "v=STSv1; id=a"],
        ] {
            assert_eq!(of(records), None, "{records:?}");
        }
    }
}
