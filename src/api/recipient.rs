//! One recipient of a submission: read, checked, and made into deliveries.
//!
//! A bad recipient is refused alone; the others go on.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::FieldFault;
use crate::message::fault::FieldError;
use crate::message::mailbox::Mailbox;
use crate::message::payload::{DeliveryPayload, MAX_CC, MAX_PAYLOAD};
use crate::message::template::Compiled;
use crate::message::time_zone::TimeZone;
use crate::queue::enqueue::Recipients;

/// Most bytes of what is personal in all deliveries of one call: each copy of a
/// mail in Cc carries the whole again.
const MAX_PAYLOADS: usize = 64 << 20;

/// Mails that are made as a whole, from the first recipient on, until one can be made.
const TRIALS: u32 = 20;

/// A recipient as submitted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipientEntry<'a> {
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow, default)]
    vars: Option<&'a RawValue>,
    #[serde(default)]
    cc: Vec<String>,
    #[serde(borrow, default)]
    time_zone: Option<Cow<'a, str>>,
}

impl RecipientEntry<'_> {
    /// The address as submitted.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// Deliveries that it becomes.
    pub fn deliveries(&self) -> usize {
        1 + self.cc.len()
    }
}

/// Collects the recipients that are accepted.
pub struct Admission<'t> {
    template: &'t Compiled,
    bulk: bool,
    trials: Trials,
    seen: HashSet<String>,
    recipients: Recipients,
    payload_bytes: usize,
}

/// What is personal to a delivery, as stored.
#[derive(Serialize)]
struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vars: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cc: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<&'a str>,
}

impl<'t> Admission<'t> {
    /// Recipients of a message with this template.
    /// `bulk`: their mail carries an unsubscribe link.
    pub fn new(template: &'t Compiled, bulk: bool) -> Self {
        Self {
            template,
            bulk,
            trials: Trials::Left(TRIALS),
            seen: HashSet::new(),
            recipients: Recipients::default(),
            payload_bytes: 0,
        }
    }

    /// Accepts a recipient, as one delivery and one more for each address in Cc.
    pub fn admit(&mut self, entry: &RecipientEntry<'_>) -> Result<(), FieldFault> {
        let to: Mailbox = entry.to.parse().map_err(|error| FieldFault::new("to", error))?;
        let cc = read_cc(&entry.cc)?;
        let address = to.address().as_str();
        let vars = read_vars(entry.vars)?;
        let time_zone = entry.time_zone.as_deref();
        if let Some(name) = time_zone {
            name.parse::<TimeZone>().map_err(|error| FieldFault::new("time_zone", error))?;
        }
        if self.seen.contains(address) {
            return Err(FieldFault::new("to", "duplicate: the same address came before"));
        }
        let mut addresses = vec![address.to_owned()];
        for (n, copy) in cc.iter().enumerate() {
            let copy = copy.address().as_str();
            if addresses.iter().any(|known| known == copy) {
                return Err(FieldFault::new(format!("cc[{n}]"), "duplicate: the same mail twice"));
            }
            addresses.push(copy.to_owned());
        }
        let shown = (to.name().is_some() || !cc.is_empty()).then(|| to.to_string());
        let payload = self.payload(&Payload { vars, to: shown, cc: &entry.cc, time_zone })?;
        let bytes = payload.as_ref().map_or(0, String::len) * addresses.len();
        if self.payload_bytes + bytes > MAX_PAYLOADS {
            return Err(FieldFault::new(
                "vars",
                format!("expected at most {MAX_PAYLOADS} bytes of variables in one call"),
            ));
        }
        self.payload_bytes += bytes;
        self.seen.insert(address.to_owned());
        for address in addresses {
            self.recipients.push(address, payload.clone());
        }
        Ok(())
    }

    /// Deliveries accepted so far.
    pub fn deliveries(&self) -> usize {
        self.recipients.len()
    }

    /// All that were accepted.
    pub fn into_recipients(self) -> Recipients {
        self.recipients
    }

    /// What is stored beside the address, once it is sure that the template takes it.
    fn payload(&mut self, own: &Payload<'_>) -> Result<Option<String>, FieldFault> {
        let Payload { vars, to, cc, time_zone } = own;
        let nothing = vars.is_none() && to.is_none() && cc.is_empty() && time_zone.is_none();
        let json = if nothing {
            None
        } else {
            let json =
                serde_json::to_string(own).map_err(|error| FieldFault::new("vars", error))?;
            if json.len() > MAX_PAYLOAD {
                let found = json.len();
                return Err(FieldFault::new(
                    "vars",
                    format!("expected at most {MAX_PAYLOAD} bytes with to and cc, found {found}"),
                ));
            }
            Some(json)
        };
        let read = DeliveryPayload::read(json.as_deref())
            .map_err(|fault| FieldFault::new(&fault.field, &fault.reason))?;
        self.prove(&read)?;
        Ok(json)
    }

    /// Whether the template takes this recipient. Until one recipient's mail was made
    /// as a whole, each is: a template that runs for ever shows itself at once.
    fn prove(&mut self, payload: &DeliveryPayload) -> Result<(), FieldFault> {
        let left = match &self.trials {
            Trials::Over => 0,
            Trials::Left(left) => *left,
            Trials::Failed(fault) => return Err(fault.clone()),
        };
        self.template.check(payload, self.bulk).map_err(told)?;
        if left == 0 {
            return Ok(());
        }
        let Err(fault) = self.template.check_whole(payload, self.bulk) else {
            self.trials = Trials::Over;
            return Ok(());
        };
        let of_recipient = fault.variable.is_some();
        let fault = told(fault);
        self.trials = match left - 1 {
            // So many recipients lack something that the template may be as it should.
            0 if of_recipient => Trials::Over,
            0 => Trials::Failed(fault.clone()),
            left => Trials::Left(left),
        };
        Err(fault)
    }
}

/// Whether the template has made a whole mail yet.
enum Trials {
    /// It has, or it is not tried any more.
    Over,
    /// Not yet; so many more are tried.
    Left(u32),
    /// It makes none.
    Failed(FieldFault),
}

fn told(fault: FieldError) -> FieldFault {
    let field = fault.variable.map_or(fault.field, |variable| format!("vars.{variable}"));
    FieldFault::new(field, fault.reason)
}

fn read_cc(cc: &[String]) -> Result<Vec<Mailbox>, FieldFault> {
    if cc.len() > MAX_CC {
        let found = cc.len();
        return Err(FieldFault::new(
            "cc",
            format!("expected at most {MAX_CC} addresses, found {found}"),
        ));
    }
    cc.iter()
        .enumerate()
        .map(|(n, text)| text.parse().map_err(|error| FieldFault::new(format!("cc[{n}]"), error)))
        .collect()
}

/// The variables, if there are any: an object without NUL, which no mail may hold.
fn read_vars(vars: Option<&RawValue>) -> Result<Option<&RawValue>, FieldFault> {
    let Some(raw) = vars else { return Ok(None) };
    match raw.get() {
        "{}" => Ok(None),
        json if !json.starts_with('{') => Err(FieldFault::new("vars", "expected an object")),
        json if json.contains("\\u0000") => {
            Err(FieldFault::new("vars", "holds the control character U+0000"))
        }
        _ => Ok(Some(raw)),
    }
}
