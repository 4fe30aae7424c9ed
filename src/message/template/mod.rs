//! A message's templates: compiled once, filled for every recipient.
//!
//! Promises: an undefined variable is an error that names it, never an empty
//! place; only the HTML body is escaped, and it always is; time and memory of one
//! recipient are bounded whatever the tenant wrote ([`guard`], [`filter`],
//! [`engine`]). A part without any tag never meets the engine.

mod engine;
mod filter;
mod guard;
mod scope;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use minijinja::Environment;
use minijinja::Value;
use minijinja::value::Serde;

use super::content::{FixedParts, MAX_BODY_TEMPLATE, MessageContent, header_field};
use super::fault::{Faults, FieldError, InvalidContent};
use super::header::{HeaderName, HeaderText, MAX_VALUE};
use super::payload::DeliveryPayload;
use super::plain_text;
pub(crate) use scope::Ours;
use scope::{OURS, Scope};

/// A message whose every field has proved itself.
pub struct Compiled {
    fixed: FixedParts,
    env: Environment<'static>,
    subject: Part,
    html: Option<Part>,
    text: Option<Part>,
    headers: Vec<(HeaderName, Part)>,
    vars: Value,
    /// Whether some template looks up [`OURS`].
    uses_ours: bool,
    /// Names that some template looks up elsewhere, as paths from the top.
    lookups: Vec<Vec<String>>,
}

/// One template.
#[derive(Debug)]
enum Part {
    /// Has no tag: the same for everyone.
    Plain(String),
    /// Known to the environment under the field's name.
    Template(String),
}

/// The texts of one mail.
#[derive(Debug)]
pub(crate) struct Filled<'a> {
    pub(crate) subject: HeaderText,
    pub(crate) html: Option<Cow<'a, str>>,
    pub(crate) text: Option<Cow<'a, str>>,
    pub(crate) headers: Vec<(&'a HeaderName, HeaderText)>,
}

/// RFC 5322 2.1.1: what a subject may be long at most, counted before folding.
pub const MAX_SUBJECT: usize = 998;

/// Most bytes of one body of one mail (2 MiB).
pub const MAX_BODY: usize = 2 << 20;

/// Stands for the plain text that is made from `html`.
const DERIVED_TEXT: &str = "text (made from html)";

impl Compiled {
    /// Reads, checks and compiles everything; tells every fault at once.
    pub fn compile(content: &MessageContent) -> Result<Self, InvalidContent> {
        let mut faults = Faults::default();
        let fixed = content.read_fixed(&mut faults);
        let mut compiler =
            Compiler { env: engine::environment(), lookups: BTreeSet::new(), faults: &mut faults };
        let subject = compiler.part("subject", &content.subject);
        let html = content.html.as_deref().and_then(|html| compiler.part(engine::HTML, html));
        let text = match (&content.text, &content.html) {
            (Some(text), _) => compiler.part("text", text),
            (None, Some(source)) if html.is_some() => compiler.derived_text(source),
            (None, _) => None,
        };
        let headers: Vec<Option<Part>> = content
            .headers
            .iter()
            .map(|(name, template)| compiler.part(&header_field(name), template))
            .collect();
        let (env, lookups) = (compiler.env, compiler.lookups);

        let faults = faults.into_vec();
        match (fixed, subject) {
            (Some(fixed), Some(subject)) if faults.is_empty() => Ok(Self {
                headers: fixed
                    .header_names
                    .iter()
                    .cloned()
                    .zip(headers.into_iter().flatten())
                    .collect(),
                uses_ours: lookups.iter().any(|path| path[0] == OURS),
                lookups: lookups.into_iter().filter(|path| path[0] != OURS).collect(),
                html,
                text,
                vars: Value::from(Serde(&content.vars)),
                fixed,
                env,
                subject,
            }),
            _ => Err(InvalidContent::new(faults)),
        }
    }

    /// Whether this recipient's mail can be made: the subject and the headers are
    /// filled for real, the bodies only when a name that they look up is missing
    /// (it may stand in a branch that is not taken). `bulk`: the mail will carry an
    /// unsubscribe link.
    ///
    /// What depends on the inside of a list is found while rendering only.
    pub fn check(&self, payload: &DeliveryPayload, bulk: bool) -> Result<(), FieldError> {
        let ours = Ours::for_check(bulk);
        let scope = self.scope(payload, &ours);
        self.fill_subject(&scope)?;
        for (name, _) in self.fill_headers(&scope)? {
            if bulk && name.is_unsubscribe() {
                let reason = "bulk mail gets a one-click link of its own";
                return Err(FieldError::new(header_field(name.as_str()), reason));
            }
        }
        if self.uses_ours || self.lookups.iter().any(|path| scope::lacks(&scope, path)) {
            self.fill_body(self.html.as_ref(), &scope)?;
            self.fill_body(self.text.as_ref(), &scope)?;
        }
        Ok(())
    }

    /// The same with both bodies filled for real, whatever they look up.
    pub fn check_whole(&self, payload: &DeliveryPayload, bulk: bool) -> Result<(), FieldError> {
        self.fill(payload, &Ours::for_check(bulk)).map(drop)
    }

    /// The texts of one mail.
    pub(crate) fn fill(
        &self,
        payload: &DeliveryPayload,
        ours: &Ours<'_>,
    ) -> Result<Filled<'_>, FieldError> {
        let scope = self.scope(payload, ours);
        Ok(Filled {
            subject: self.fill_subject(&scope)?,
            headers: self.fill_headers(&scope)?,
            html: self.fill_body(self.html.as_ref(), &scope)?,
            text: self.fill_body(self.text.as_ref(), &scope)?,
        })
    }

    /// What is the same for every recipient.
    pub(crate) fn fixed(&self) -> &FixedParts {
        &self.fixed
    }

    fn scope(&self, payload: &DeliveryPayload, ours: &Ours<'_>) -> Value {
        let ours = self.uses_ours.then(|| ours.to_value());
        Scope::value(payload.vars.clone(), self.vars.clone(), ours)
    }

    fn fill_subject(&self, scope: &Value) -> Result<HeaderText, FieldError> {
        self.fill_line(&self.subject, "subject", MAX_SUBJECT, scope)
    }

    fn fill_headers(&self, scope: &Value) -> Result<Vec<(&HeaderName, HeaderText)>, FieldError> {
        self.headers
            .iter()
            .map(|(name, part)| {
                let text = self.fill_line(part, name.as_str(), MAX_VALUE, scope)?;
                Ok((name, text))
            })
            .collect()
    }

    fn fill_line(
        &self,
        part: &Part,
        name: &str,
        limit: usize,
        scope: &Value,
    ) -> Result<HeaderText, FieldError> {
        let text = part.fill(&self.env, scope, limit)?;
        HeaderText::try_new(&text, limit).map_err(|error| {
            let field = match part {
                Part::Template(field) => field.clone(),
                Part::Plain(_) => name.to_owned(),
            };
            FieldError::new(field, error)
        })
    }

    fn fill_body<'a>(
        &'a self,
        part: Option<&'a Part>,
        scope: &Value,
    ) -> Result<Option<Cow<'a, str>>, FieldError> {
        part.map(|part| part.fill(&self.env, scope, MAX_BODY)).transpose()
    }
}

impl Part {
    fn fill<'a>(
        &'a self,
        env: &Environment<'static>,
        scope: &Value,
        limit: usize,
    ) -> Result<Cow<'a, str>, FieldError> {
        match self {
            Self::Plain(text) => Ok(Cow::Borrowed(text)),
            Self::Template(name) => engine::fill(env, name, scope, limit).map(Cow::Owned),
        }
    }
}

/// Compiles the parts of one message.
struct Compiler<'a> {
    env: Environment<'static>,
    lookups: BTreeSet<Vec<String>>,
    faults: &'a mut Faults,
}

impl Compiler<'_> {
    /// Compiles one part, or notes why it cannot be.
    fn part(&mut self, field: &str, source: &str) -> Option<Part> {
        // Its size is noted as a fault already.
        if source.len() > MAX_BODY_TEMPLATE {
            return None;
        }
        let result = self.compile(field, source);
        self.faults.keep(result)
    }

    /// The plain text for a message that has only html; none if it cannot be had.
    fn derived_text(&mut self, html: &str) -> Option<Part> {
        let text = plain_text::from_html(html)?;
        self.compile(DERIVED_TEXT, &text).ok()
    }

    fn compile(&mut self, field: &str, source: &str) -> Result<Part, FieldError> {
        if !["{{", "{%", "{#"].iter().any(|mark| source.contains(mark)) {
            return Ok(Part::Plain(source.to_owned()));
        }
        let fault = |refused: guard::Refused| FieldError {
            field: field.to_owned(),
            line: refused.line,
            variable: None,
            reason: refused.reason,
        };
        let guarded = guard::guard(source).map_err(fault)?;
        self.env
            .add_template_owned(field.to_owned(), guarded)
            .map_err(|error| fault(guard::refused_by_engine(&error)))?;
        if let Ok(template) = self.env.get_template(field) {
            let names = template.undeclared_variables(true);
            self.lookups
                .extend(names.iter().map(|name| name.split('.').map(str::to_owned).collect()));
        }
        Ok(Part::Template(field.to_owned()))
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled")
            .field("headers", &self.headers.len())
            .field("attachments", &self.fixed.attachments)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "json!({…}) reads best as it stands")]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    fn compile(content: Json) -> Result<Compiled, InvalidContent> {
        let mut all = json!({"from": "a@shop.example", "subject": "", "text": ""});
        for (key, value) in content.as_object().expect("an object") {
            all[key] = value.clone();
        }
        Compiled::compile(&serde_json::from_value(all).expect("content"))
    }

    fn fill(compiled: &Compiled, payload: Json) -> Result<(String, String, String), FieldError> {
        let payload = DeliveryPayload::read(Some(&payload.to_string())).expect("payload");
        let ours = Ours { recipient: "jane@x.example", unsubscribe: Some("https://u.example/1") };
        let filled = compiled.fill(&payload, &ours)?;
        let body = |body: Option<Cow<'_, str>>| body.unwrap_or_default().into_owned();
        Ok((filled.subject.as_str().to_owned(), body(filled.text), body(filled.html)))
    }

    fn text(template: &str, vars: Json) -> Result<String, FieldError> {
        let compiled =
            compile(json!({"text": template})).unwrap_or_else(|e| panic!("{template}: {e}"));
        fill(&compiled, json!({"vars": vars})).map(|(_, text, _)| text)
    }

    #[test]
    fn templates_are_filled() {
        let vars = json!({
            "name": "Jane", "last": "Doe", "qty": 3, "price": 19.9, "none": null, "yes": true,
            "items": [{"n": "Tea", "p": 4.5}, {"n": "Cup", "p": 12}], "tags": ["a", "b"],
            "html": "<b>&", "map": {"k": "v"},
        });
        for (template, expected) in [
            ("Hi {{ name }}", "Hi Jane"),
            ("{{ name ~ ' ' ~ last }}", "Jane Doe"),
            ("{{ name + last }}", "JaneDoe"),
            ("{{ qty * 1.5 }}", "4.5"),
            ("{{ qty * 2 + 1 }}", "7"),
            ("{{ (qty + 1) * 2 - 1 }}", "7"),
            ("{{ -qty * 2 }}", "-6"),
            ("{{ '%.2f'|format(price) }}", "19.90"),
            ("{{ none }}|{{ yes }}", "|True"),
            ("{% for i in items %}{{ loop.index }}:{{ i.n }};{% endfor %}", "1:Tea;2:Cup;"),
            ("{{ items|map(attribute='n')|join(', ') }}", "Tea, Cup"),
            ("{{ items|join('+', attribute='n') }}", "Tea+Cup"),
            ("{{ items|sum(attribute='p') }}", "16.5"),
            ("{{ tags|map('upper')|join }}", "AB"),
            ("{{ [name, last, 1]|join('-') }}", "Jane-Doe-1"),
            ("{{ nick|default('friend') }}", "friend"),
            ("{% if nick is defined %}x{% else %}y{% endif %}", "y"),
            ("{% if 'a' in tags and name in ['Jane'] %}in{% endif %}", "in"),
            ("{% if 'an' in name %}in{% endif %}", "in"),
            ("{% if name not in tags %}out{% endif %}", "out"),
            ("{% set full = name ~ '!' %}{{ full|upper }}", "JANE!"),
            ("{% for n in range(3) %}{{ n }}{% endfor %}", "012"),
            ("{% for k, v in map|items %}{{ k }}={{ v }}{% endfor %}", "k=v"),
            ("{{ html }}{{ html|e }}{{ html|safe }}", "<b>&<b>&<b>&"),
            ("{{ 'x,y'|split(',')|last }}", "y"),
            ("{{ map|tojson }}", r#"{"k": "v"}"#),
            ("{{ 'a b'|urlencode }}", "a%20b"),
            ("{{ name if qty > 2 else last }}", "Jane"),
            ("{% with x = qty %}{{ x }}{% endwith %}{# note #}", "3"),
            (
                "{{ postrider.recipient }} {{ postrider.unsubscribe_url }}",
                "jane@x.example https://u.example/1",
            ),
            ("no {tag} %} here", "no {tag} %} here"),
        ] {
            assert_eq!(text(template, vars.clone()).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn only_html_is_escaped() {
        let compiled = compile(json!({
            "subject": "{{ x }}", "text": "{{ x }}", "html": "<p title=\"{{ x }}\">{{ x }}{{ x ~ '&' }}",
            "vars": {"x": "<\"'&>"},
        }))
        .expect("compiles");
        let (subject, text, html) = fill(&compiled, json!({})).expect("fills");
        assert_eq!((subject.as_str(), text.as_str()), ("<\"'&>", "<\"'&>"));
        let escaped = "&lt;&quot;&#x27;&amp;&gt;";
        assert_eq!(html, format!("<p title=\"{escaped}\">{escaped}{escaped}&amp;"));
    }

    #[test]
    fn a_recipients_variables_win() {
        let compiled = compile(json!({"text": "{{ a }}{{ b }}", "vars": {"a": 1, "b": 2}}));
        let compiled = compiled.expect("compiles");
        let (_, text, _) = fill(&compiled, json!({"vars": {"b": 3}})).expect("fills");
        assert_eq!(text, "13");
    }

    #[test]
    fn an_undefined_variable_is_named() {
        for (template, variable) in [
            ("{{ name }}", "name"),
            ("a\n{{ order.number }}", "order.number"),
            ("{{ order.a.b }}", "order.a"),
            ("{{ name|upper }}", "name"),
            ("{{ 'x' ~ name }}", "name"),
            ("{{ name * 2 }}", "name"),
            ("{{ 2 + name }}", "name"),
            ("{% if name %}{% endif %}", "name"),
            ("{% for x in name %}{% endfor %}", "name"),
            ("{% for x in list %}{{ x.q }}{% endfor %}", "x.q"),
            ("{{ [name]|join }}", "name"),
            ("{{ order['number'] }}", "order['number']"),
            ("{% if 'a' in name %}{% endif %}", "name"),
            ("{% if order in name %}{% endif %}", "name"),
            ("{{ '%s'|format(name) }}", "name"),
        ] {
            let error = text(template, json!({"order": {}, "list": [{}]})).expect_err(template);
            assert_eq!(error.variable.as_deref(), Some(variable), "{template}: {error}");
            assert_eq!(error.field, "text");
            assert!(error.line.is_some(), "{template}: {error}");
        }
    }

    #[test]
    fn all_faults_of_a_message_are_told() {
        let error = compile(json!({
            "from": "nobody", "subject": "{{ a", "text": "{% for %}", "html": "\n{{ a|nosuch }}",
            "headers": {"X-A": "{{ }}", "From": "x"},
        }))
        .expect_err("refused");
        let fields: Vec<&str> = error.faults().iter().map(|f| f.field.as_str()).collect();
        let all = ["from", "headers.From", "subject", "html", "text", "headers.X-A"];
        assert_eq!(fields, all);
        assert_eq!(error.faults().iter().find(|f| f.field == "html").and_then(|f| f.line), Some(2));
    }

    #[test]
    fn a_check_refuses_only_what_would_fail() {
        let compiled = compile(json!({
            "subject": "{{ s|default('') }}",
            "text": "{% if vip %}{{ discount }}{% endif %}{{ order.id }}",
            "headers": {"X-A": "{{ tag }}"},
            "vars": {"vip": false, "tag": "t"},
        }))
        .expect("compiles");
        let check = |vars: Json| {
            let payload = DeliveryPayload::read(Some(&json!({"vars": vars}).to_string()));
            compiled.check(&payload.expect("payload"), false)
        };
        assert_eq!(check(json!({"order": {"id": 1}})), Ok(()));
        assert_eq!(check(json!({"order": {"id": 1}, "vip": true, "discount": 1})), Ok(()));
        let variable = |vars: Json| check(vars).expect_err("refused").variable;
        assert_eq!(variable(json!({"order": {"id": 1}, "vip": true})).as_deref(), Some("discount"));
        assert_eq!(variable(json!({"order": {}})).as_deref(), Some("order.id"));
        assert_eq!(variable(json!({})).as_deref(), Some("order"));
        let broken = check(json!({"order": {"id": 1}, "tag": "a\r\nBcc: b@x.example"}));
        assert_eq!(broken.expect_err("refused").field, "headers.X-A");
        let broken = check(json!({"order": {"id": 1}, "s": "a\u{2028}b"}));
        assert_eq!(broken.expect_err("refused").field, "subject");
    }

    #[test]
    fn the_unsubscribe_link_is_for_bulk_mail() {
        let compiled =
            compile(json!({"text": "{{ postrider.unsubscribe_url }}"})).expect("compiles");
        assert_eq!(compiled.check(&DeliveryPayload::default(), true), Ok(()));
        let error = compiled.check(&DeliveryPayload::default(), false).expect_err("refused");
        assert_eq!(error.variable.as_deref(), Some("postrider.unsubscribe_url"));
    }

    #[test]
    fn text_is_made_from_html_when_there_is_none() {
        let compiled = Compiled::compile(&MessageContent {
            from: "a@shop.example".into(),
            html: Some("<h1>Hi {{ name }}</h1><p>a &amp; b</p>".into()),
            ..MessageContent::default()
        })
        .expect("compiles");
        let (_, text, html) = fill(&compiled, json!({"vars": {"name": "J&J"}})).expect("fills");
        assert_eq!(html, "<h1>Hi J&amp;J</h1><p>a &amp; b</p>");
        assert_eq!(text.trim_end(), "Hi J&J\n\na & b");
    }

    #[test]
    fn a_line_stays_a_line() {
        let compiled = compile(json!({"subject": "{{ s }}"})).expect("compiles");
        assert_eq!(
            fill(&compiled, json!({"vars": {"s": "x".repeat(998)}})).map(|f| f.0.len()),
            Ok(998)
        );
        for s in ["x".repeat(999), "a\nb".into(), "a\rb".into(), "a\0b".into(), "a\u{85}b".into()] {
            let error = fill(&compiled, json!({"vars": {"s": s}})).expect_err("refused");
            assert_eq!(error.field, "subject", "{s:?}");
        }
        let plain = compile(json!({"subject": "a\nb"})).expect("compiles");
        assert!(plain.check(&DeliveryPayload::default(), false).is_err());
    }
}
