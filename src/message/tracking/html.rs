//! The html of one mail with its links led over the tenant's host, and a picture in it.
//!
//! lol_html reads the page as a browser does and says where each link stands; what changes is
//! cut out and put in by bytes, so all the rest stays as it was, well-formed or not. A page that
//! cannot be read without doubt is left as it is.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::LazyLock;

use lol_html::html_content::{Attribute, Element, EndTag};
use lol_html::{
    ElementContentHandlers, HandlerResult, HtmlRewriter, MemorySettings, Selector, Settings,
};

use super::Tracking;
use super::target::Target;
use crate::domain::ids::DeliveryId;

/// A mail that is tracked.
pub(in crate::message) struct Mail<'a> {
    pub(in crate::message) delivery: DeliveryId,
    /// Its own unsubscribing link, which is left alone.
    pub(in crate::message) unsubscribe: Option<&'a str>,
    pub(in crate::message) tracking: &'a Tracking,
}

/// Where a link ends and text begins cannot be told for sure, or would take too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the html cannot be read without doubt")]
pub struct Unreadable;

/// Longest address that a link is given, in bytes: some programs cut longer ones off.
const MAX_LINK: usize = 2_000;

/// Most links of a mail that are led over the host; further ones stay as they are.
const MAX_LINKS: usize = 1_000;

/// Most memory for reading one page: several times the largest one.
const MEMORY: usize = 16 << 20;

/// The mark of a link that is left alone.
const MARK: &str = "data-track";

static LINKS: LazyLock<Option<Selector>> = LazyLock::new(|| "a[href], area[href]".parse().ok());

static BODY: LazyLock<Option<Selector>> = LazyLock::new(|| "body".parse().ok());

/// The page as it is sent.
pub(in crate::message) fn rewrite(html: &str, mail: &Mail<'_>) -> Result<String, Unreadable> {
    let mut reading = Reading { html, mail, edits: Vec::new(), links: 0 };
    let body_end = Rc::new(Cell::new(None));
    let memory = MemorySettings::new().with_max_allowed_memory_usage(MEMORY);
    let mut settings = Settings::new().with_memory_settings(memory);
    if mail.tracking.clicks {
        let links = LINKS.as_ref().ok_or(Unreadable)?;
        let handler = |link: &mut Element<'_, '_>| -> HandlerResult {
            reading.link(link);
            Ok(())
        };
        let handlers = ElementContentHandlers::default().element(handler);
        settings = settings.append_element_content_handler((Cow::Borrowed(links), handlers));
    }
    if mail.tracking.opens {
        let body = BODY.as_ref().ok_or(Unreadable)?;
        let noted = Rc::clone(&body_end);
        let handler = move |body: &mut Element<'_, '_>| -> HandlerResult {
            let noted = Rc::clone(&noted);
            body.on_end_tag(Box::new(move |tag: &mut EndTag<'_>| {
                noted.set(Some(tag.source_location().bytes().start));
                Ok(())
            }))
        };
        let handlers = ElementContentHandlers::default().element(handler);
        settings = settings.append_element_content_handler((Cow::Borrowed(body), handlers));
    }
    let mut reader = HtmlRewriter::new(settings, |_: &[u8]| {});
    reader.write(html.as_bytes()).map_err(|_| Unreadable)?;
    reader.end().map_err(|_| Unreadable)?;

    let mut edits = reading.edits;
    if mail.tracking.opens
        && let Some(at) = body_end.get().or_else(|| end_of(html))
    {
        let link = mail.tracking.key.open_link(&mail.tracking.host, mail.delivery);
        let picture =
            format!("<img src=\"{link}\" width=\"1\" height=\"1\" border=\"0\" alt=\"\">");
        edits.push((at..at, picture));
    }
    splice(html, edits).ok_or(Unreadable)
}

/// Behind the last byte, unless the page breaks off inside a tag or a comment.
fn end_of(html: &str) -> Option<usize> {
    (html.rfind('<') <= html.rfind('>')).then_some(html.len())
}

/// What is to be changed, as far as the page was read.
struct Reading<'a> {
    html: &'a str,
    mail: &'a Mail<'a>,
    edits: Vec<(Range<usize>, String)>,
    links: usize,
}

impl Reading<'_> {
    fn link(&mut self, link: &Element<'_, '_>) {
        let named = |name: &str| link.attributes().iter().find(|one| one.name() == name);
        if let Some(mark) = named(MARK)
            && mark.value().trim().eq_ignore_ascii_case("off")
        {
            self.edits.extend(self.place_of(mark).map(|place| (place, String::new())));
            return;
        }
        if self.links < MAX_LINKS
            && let Some(edit) = named("href").and_then(|href| self.led(href))
        {
            self.links += 1;
            self.edits.push(edit);
        }
    }

    /// Where an address stands, and what stands there from now on.
    fn led(&self, href: &Attribute<'_>) -> Option<(Range<usize>, String)> {
        let place = href.value_source_location()?.bytes();
        let raw = self.html.get(place.clone()).filter(|raw| *raw == href.value())?;
        let target = Target::of_attribute(raw)?;
        if self.mail.unsubscribe.and_then(Target::read).as_ref() == Some(&target) {
            return None;
        }
        let Tracking { key, host, .. } = self.mail.tracking;
        let link = key.click_link(host, self.mail.delivery, &target);
        (link.len() <= MAX_LINK).then_some((place, link))
    }

    /// An attribute with its quotes, and the space before it where another one follows.
    fn place_of(&self, attribute: &Attribute<'_>) -> Option<Range<usize>> {
        let bytes = self.html.as_bytes();
        let (name, value) =
            (attribute.name_source_location()?.bytes(), attribute.value_source_location()?.bytes());
        let (mut start, mut end) = (name.start, value.end);
        if let Some(quote @ (b'"' | b'\'')) = bytes.get(end)
            && bytes.get(value.start.checked_sub(1)?) == Some(quote)
        {
            end += 1;
        }
        let ends_apart = bytes.get(end).is_some_and(|b| b.is_ascii_whitespace() || *b == b'>');
        while ends_apart && bytes.get(start.checked_sub(1)?).is_some_and(u8::is_ascii_whitespace) {
            start -= 1;
        }
        Some(start..end)
    }
}

/// The text with these stretches replaced. `None` if they are not in order or not in it.
fn splice(text: &str, edits: Vec<(Range<usize>, String)>) -> Option<String> {
    let mut out =
        String::with_capacity(text.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut at = 0;
    for (place, new) in edits {
        out.push_str(text.get(at..place.start)?);
        out.push_str(&new);
        at = place.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
