//! Where a template's names are looked up: ours, the recipient's, the message's.

use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object};

/// The name under which templates find what we know about the mail.
pub(super) const OURS: &str = "postrider";

/// What templates may ask us: `{{ postrider.unsubscribe_url }}`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ours<'a> {
    /// The envelope's recipient: `postrider.recipient`.
    pub(crate) recipient: &'a str,
    /// The one-click link, in bulk mail: `postrider.unsubscribe_url`.
    pub(crate) unsubscribe: Option<&'a str>,
}

impl Ours<'static> {
    /// What a check has in place of a real recipient.
    pub(super) fn for_check(bulk: bool) -> Self {
        Self {
            recipient: "someone@recipient.example",
            unsubscribe: bulk.then_some("https://unsubscribe.example/"),
        }
    }
}

impl Ours<'_> {
    pub(super) fn to_value(self) -> Value {
        let recipient = ("recipient", Value::from(self.recipient));
        let unsubscribe = self.unsubscribe.map(|url| ("unsubscribe_url", Value::from(url)));
        Value::from_pairs([recipient].into_iter().chain(unsubscribe))
    }
}

/// Three maps that read as one; nothing is copied for a recipient.
#[derive(Debug)]
pub(super) struct Scope {
    own: Value,
    shared: Value,
    ours: Option<Value>,
}

impl Scope {
    /// The root of one render.
    pub(super) fn value(own: Value, shared: Value, ours: Option<Value>) -> Value {
        Value::from_object(Self { own, shared, ours })
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if key == OURS {
            return self.ours.clone();
        }
        [&self.own, &self.shared]
            .into_iter()
            .filter_map(|map| map.get_attr(key).ok())
            .find(|value| !value.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// Whether nothing stands at `path`.
pub(super) fn lacks(scope: &Value, path: &[String]) -> bool {
    let mut at = scope.clone();
    for name in path {
        match at.get_attr(name) {
            Ok(value) if !value.is_undefined() => at = value,
            _ => return true,
        }
    }
    false
}
