use proptest::prelude::*;

use super::super::reply::ReplyParser;
use super::*;

fn reply(code: u16) -> Reply {
    let wire = format!("{code} x\r\n");
    ReplyParser::default().feed(wire.as_bytes()).expect("legal").1.expect("whole")
}

/// Runs a transaction against a list of codes; writes down what was done.
fn run(flow: Flow, standing: Standing, codes: &[u16]) -> (String, String) {
    run_in(Form::Data, flow, standing, codes)
}

fn run_in(form: Form, flow: Flow, standing: Standing, codes: &[u16]) -> (String, String) {
    let mut tx = Transaction::new(flow, standing, form);
    let mut codes = codes.iter();
    let mut log = Vec::new();
    loop {
        match tx.next_move() {
            Move::Say(verb) => log.push(format!("{verb:?}")),
            Move::Hear(_) => {
                let code = *codes.next().expect("a code for each reply");
                log.push(code.to_string());
                tx.heard(reply(code));
            }
            Move::SendBody => {
                log.push("body".into());
                tx.dot_sent();
            }
            Move::SendLoneDot => {
                log.push("dot".into());
                tx.dot_sent();
            }
            Move::Finish => break,
        }
    }
    assert!(codes.next().is_none(), "stopped too early: {log:?}");
    let (ending, aftermath) = tx.finish();
    let ending = match ending.expect("every transaction has an ending") {
        Ending::Accepted(_) => "accepted".into(),
        Ending::Refused(stage, reply) => format!("refused {stage} {}", reply.code()),
        Ending::Nonsense(stage, reply) => format!("nonsense {stage} {}", reply.code()),
    };
    let after = match aftermath {
        Aftermath::Usable(Standing::Clean) => "clean",
        Aftermath::Usable(Standing::Open) => "open",
        Aftermath::Usable(Standing::Begun) => "begun",
        Aftermath::Broken => "broken",
    };
    (log.join(" "), format!("{ending}, {after}"))
}

#[test]
fn in_turn() {
    for (codes, log, end) in [
        (&[250, 250, 354, 250][..], "Mail 250 Rcpt 250 Data 354 body 250", "accepted, clean"),
        (&[451], "Mail 451", "refused mail 451, clean"),
        (&[250, 550], "Mail 250 Rcpt 550", "refused rcpt 550, open"),
        (&[250, 251, 451], "Mail 250 Rcpt 251 Data 451", "refused data 451, open"),
        (&[421], "Mail 421", "refused mail 421, broken"),
        (&[250, 421], "Mail 250 Rcpt 421", "refused rcpt 421, broken"),
        (&[250, 250, 250], "Mail 250 Rcpt 250 Data 250", "nonsense data 250, broken"),
        (&[354], "Mail 354", "nonsense mail 354, broken"),
        (&[250, 250, 354, 554], "Mail 250 Rcpt 250 Data 354 body 554", "refused dot 554, clean"),
        (&[250, 250, 354, 421], "Mail 250 Rcpt 250 Data 354 body 421", "refused dot 421, broken"),
        (&[250, 250, 354, 354], "Mail 250 Rcpt 250 Data 354 body 354", "nonsense dot 354, broken"),
    ] {
        let (did, ended) = run(Flow::InTurn, Standing::Clean, codes);
        assert_eq!((did.as_str(), ended.as_str()), (log, end), "{codes:?}");
    }
}

#[test]
fn pipelined() {
    for (codes, log, end) in [
        (&[250, 250, 354, 250][..], "250 250 354 body 250", "accepted, clean"),
        (&[250, 550, 503], "250 550 503", "refused rcpt 550, open"),
        (&[250, 550, 354, 554], "250 550 354 dot 554", "refused rcpt 550, clean"),
        (&[250, 550, 354, 250], "250 550 354 dot 250", "refused rcpt 550, clean"),
        (&[451, 503, 503], "451 503 503", "refused mail 451, clean"),
        (&[451, 503, 354, 554], "451 503 354 dot 554", "refused mail 451, clean"),
        (&[451, 250, 354], "451 250 354", "refused mail 451, broken"),
        (&[250, 250, 451], "250 250 451", "refused data 451, open"),
        (&[250, 421], "250 421", "refused rcpt 421, broken"),
        (&[250, 550, 421], "250 550 421", "refused rcpt 550, broken"),
        (&[250, 550, 354, 421], "250 550 354 dot 421", "refused rcpt 550, broken"),
    ] {
        let (did, ended) = run(Flow::Pipelined, Standing::Clean, codes);
        let did = did.strip_prefix("Mail Rcpt Data ").expect("all said first");
        assert_eq!((did, ended.as_str()), (log, end), "{codes:?}");
    }
}

#[test]
fn an_open_transaction_is_reset_first() {
    let (did, ended) = run(Flow::Pipelined, Standing::Open, &[250, 250, 250, 354, 250]);
    assert_eq!(did, "Reset Mail Rcpt Data 250 250 250 354 body 250");
    assert_eq!(ended, "accepted, clean");
    let (did, ended) = run(Flow::InTurn, Standing::Open, &[500]);
    assert_eq!((did.as_str(), ended.as_str()), ("Reset 500", "nonsense mail 500, broken"));
}

#[test]
fn a_begun_transaction_only_listens() {
    for (codes, log, end) in [
        (&[250, 250, 354, 250][..], "250 250 354 body 250", "accepted, clean"),
        (&[250, 550, 503], "250 550 503", "refused rcpt 550, open"),
        (&[250, 550, 354, 554], "250 550 354 dot 554", "refused rcpt 550, clean"),
        (&[421], "421", "refused mail 421, broken"),
    ] {
        for form in [Form::Data, Form::Chunk] {
            let (did, ended) = run_in(form, Flow::Pipelined, Standing::Begun, codes);
            assert_eq!((did.as_str(), ended.as_str()), (log, end), "{codes:?}");
        }
    }
}

#[test]
fn a_chunk_goes_out_when_the_recipient_is_accepted() {
    for (flow, codes, log, end) in [
        (Flow::Pipelined, &[250, 250, 250][..], "Mail Rcpt 250 250 body 250", "accepted, clean"),
        (Flow::InTurn, &[250, 250, 250], "Mail 250 Rcpt 250 body 250", "accepted, clean"),
        (Flow::Pipelined, &[250, 550], "Mail Rcpt 250 550", "refused rcpt 550, open"),
        (Flow::InTurn, &[250, 550], "Mail 250 Rcpt 550", "refused rcpt 550, open"),
        (Flow::Pipelined, &[451, 503], "Mail Rcpt 451 503", "refused mail 451, clean"),
        (Flow::Pipelined, &[451, 250], "Mail Rcpt 451 250", "refused mail 451, open"),
        (Flow::Pipelined, &[250, 250, 552], "Mail Rcpt 250 250 body 552", "refused dot 552, open"),
        (
            Flow::Pipelined,
            &[250, 250, 421],
            "Mail Rcpt 250 250 body 421",
            "refused dot 421, broken",
        ),
    ] {
        let (did, ended) = run_in(Form::Chunk, flow, Standing::Clean, codes);
        assert_eq!((did.as_str(), ended.as_str()), (log, end), "{codes:?}");
    }
    let (did, _) = run_in(Form::Chunk, Flow::Pipelined, Standing::Open, &[250, 250, 250, 250]);
    assert_eq!(did, "Reset Mail Rcpt 250 250 250 body 250");
}

#[test]
fn the_answer_to_mail_is_known() {
    for standing in [Standing::Clean, Standing::Open] {
        let mut tx = Transaction::new(Flow::InTurn, standing, Form::Data);
        let replies = if standing == Standing::Open { 2 } else { 1 };
        for _ in 0..replies {
            assert!(!tx.has_answer_to_mail());
            assert!(matches!(tx.next_move(), Move::Say(_)));
            assert!(matches!(tx.next_move(), Move::Hear(Stage::Mail)));
            tx.heard(reply(250));
        }
        assert!(tx.has_answer_to_mail());
    }
}

proptest! {
    /// Whatever a peer answers: the body needs 2xx, 2xx, 354 before it, and
    /// only a 2xx behind it makes a receipt.
    #[test]
    fn the_body_is_never_sent_in_vain(
        codes in prop::collection::vec(prop::sample::select(
            vec![220, 250, 251, 354, 421, 450, 503, 550]), 4),
        pipelined in any::<bool>(), begun in any::<bool>(),
    ) {
        let flow = if pipelined || begun { Flow::Pipelined } else { Flow::InTurn };
        let standing = if begun { Standing::Begun } else { Standing::Clean };
        let mut tx = Transaction::new(flow, standing, Form::Data);
        let (mut heard, mut body) = (Vec::new(), false);
        loop {
            match tx.next_move() {
                Move::Say(_) => {}
                Move::Hear(_) => {
                    heard.push(codes[heard.len()]);
                    tx.heard(reply(heard[heard.len() - 1]));
                }
                Move::SendBody => {
                    prop_assert!(heard[0] < 300 && heard[1] < 300 && heard[2] == 354);
                    body = true;
                    tx.dot_sent();
                }
                Move::SendLoneDot => {
                    prop_assert!(heard[1] >= 400);
                    tx.dot_sent();
                }
                Move::Finish => break,
            }
        }
        let accepted = matches!(tx.finish().0, Some(Ending::Accepted(_)));
        prop_assert_eq!(accepted, body && heard[3] < 300);
    }
}
