//! What other services export is read; a bad line is told and the next one is read.

use proptest::prelude::*;

use super::*;

fn read(format: Format, text: &[u8], cut: usize) -> Result<Vec<Line>, HeaderFault> {
    let mut decoder = Decoder::new(format);
    let mut lines = Vec::new();
    for part in text.chunks(cut.max(1)) {
        decoder.feed(part, &mut lines)?;
    }
    decoder.finish(&mut lines)?;
    Ok(lines)
}

fn addresses(lines: &[Line]) -> Vec<(u64, String)> {
    lines
        .iter()
        .map(|line| match &line.found {
            Ok(found) => (line.number, found.address.clone()),
            Err(fault) => (line.number, format!("! {}: {}", fault.field, fault.reason)),
        })
        .collect()
}

#[test]
fn exports_of_other_services_are_read_as_they_are() {
    for (text, expected) in [
        ("\u{feff}email,created\r\nann@x.example,1700000000\r\n", "ann@x.example"),
        (
            "status,reason,email,created\n5.1.1,\"550, no \"\"such\"\" user\",ann@x.example,17\n",
            "ann@x.example",
        ),
        (
            "address,code,error,created_at\nann@x.example,550,\"no\nuser\",\"Fri, 21 Oct 2011\"",
            "ann@x.example",
        ),
        ("\"Email Address\",Reason\nann@x.example,BOUNCE", "ann@x.example"),
        ("Recipient\n\n ann@x.example \n\n", "ann@x.example"),
    ] {
        for cut in [1, 7, 10_000] {
            let lines = read(Format::Csv, text.as_bytes(), cut).expect("a header");
            assert_eq!(lines.len(), 1, "{text}: {lines:?}");
            assert_eq!(lines[0].found.as_ref().expect("a line").address, expected, "{text}");
        }
    }
    let line =
        br#"{"address": "ann@x.example", "tags": ["*"], "expires_at": "2027-01-01T00:00:00Z"}"#;
    let lines = read(Format::Ndjson, line, 5).expect("lines");
    let found = lines[0].found.as_ref().expect("a line");
    assert_eq!(found.address, "ann@x.example");
    assert_eq!(
        found.expires_at.map(|at| at.to_rfc3339()).as_deref(),
        Some("2027-01-01T00:00:00+00:00")
    );
}

#[test]
fn a_header_without_an_address_is_a_fault_of_the_whole() {
    for text in ["ann@x.example\nbob@x.example\n", "name,mail\n", "", "\n\n"] {
        let error = read(Format::Csv, text.as_bytes(), 100).expect_err("no header");
        assert!(error.to_string().contains("email, address or recipient"), "{error}");
    }
}

#[test]
fn a_bad_line_has_its_number_and_the_next_is_read() {
    let long = "x".repeat(MAX_LINE);
    let text = format!(
        "email,stream,expires_at\na@x.example,,\n,,\nb@x.example,news,soon\n\"open,{long}\nafter@x.example,,\n\"two\nlines\",,\nc@x.example,,\n"
    );
    for cut in [3, 1_000, 100_000] {
        let lines = read(Format::Csv, text.as_bytes(), cut).expect("a header");
        let told = addresses(&lines);
        assert_eq!(told[0], (2, "a@x.example".into()));
        assert_eq!(told[1], (3, "! email: is empty".into()));
        assert!(
            told[2].0 == 4 && told[2].1.starts_with("! expires_at: expected a time"),
            "{told:?}"
        );
        assert!(told[3].0 == 5 && told[3].1.contains("a quotation mark may be open"), "{told:?}");
        assert_eq!(told[4], (6, "after@x.example".into()));
        assert_eq!(told[5], (7, "two\nlines".into()));
        assert_eq!(told[6], (9, "c@x.example".into()));
        assert_eq!(told.len(), 7, "{told:?}");
    }
    let text = format!(
        "{{\"email\":\"a@x.example\"}}\nno\n\n{{\"email\":\"{long}\"}}\n[]\n{{\"email\":1}}\n{{}}\n{{\"email\":\"b@x.example\"}}"
    );
    for cut in [3, 1_000, 100_000] {
        let told = addresses(&read(Format::Ndjson, text.as_bytes(), cut).expect("lines"));
        let numbers: Vec<u64> = told.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 4, 5, 6, 7, 8], "{told:?}");
        assert_eq!(told[6].1, "b@x.example");
        assert!(told[1..6].iter().all(|(_, text)| text.starts_with("! ")), "{told:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_told_where_they_matter() {
    let lines = read(Format::Csv, b"email,x\n\xff@x.example,\nann@x.example,\xff\n", 100)
        .expect("a header");
    assert!(lines[0].found.is_err());
    assert_eq!(lines[1].found.as_ref().expect("an address").address, "ann@x.example");
}

proptest! {
    #[test]
    fn how_the_bytes_are_cut_does_not_matter(
        text in "(email\n)?[a@,\"\r\n{}:]{0,60}", cut in 1_usize..20,
    ) {
        for format in [Format::Csv, Format::Ndjson] {
            let once = read(format, text.as_bytes(), usize::MAX);
            prop_assert_eq!(read(format, text.as_bytes(), cut), once);
        }
    }
}
