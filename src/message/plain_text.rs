//! The plain text of a message that has only html: made once, from the template.
//!
//! Converting every recipient's html would cost more than rendering and sending
//! it together. So the template itself is converted: each template tag becomes
//! one private character that passes through the conversion like a letter, and is
//! put back afterwards. Links stand beside their words, not in footnotes: a link
//! within a loop must stay within it.
//!
//! When a tag that others depend on does not survive (a loop around something that
//! is no text), there is no plain text, and the mail has html only.

use html2text::render::TextDecorator;

/// Columns: below the 78 that RFC 5322 2.1.1 recommends.
const WIDTH: usize = 76;

/// The tags' characters: Unicode's supplementary private use area A.
const FIRST_MARK: u32 = 0xF_0000;
const MOST_TAGS: usize = 0xFFFD;

/// Deepest nesting of elements that is converted: the converter recurses.
const MAX_DEPTH: usize = 256;

/// The plain text template of an html template; `None` if there is no good one.
pub(crate) fn from_html(html: &str) -> Option<String> {
    let (marked, tags) = hide_tags(html)?;
    let flat = flatten_tables(&marked)?;
    let text = html2text::config::with_decorator(Plain { links: Vec::new() })
        .raw_mode(true)
        .no_link_wrapping()
        .allow_width_overflow()
        .string_from_read(flat.as_bytes(), WIDTH)
        .ok()?;
    let text = show_tags(&text, &tags)?;
    (!text.trim().is_empty()).then_some(text)
}

/// One template tag of the html.
#[derive(Debug, PartialEq, Eq)]
struct Tag<'a> {
    source: &'a str,
    kind: TagKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TagKind {
    /// `{{ … }}`, or a raw block: text.
    Text,
    /// `{% for … %}`, `{% set … %}`: others depend on it.
    Needed,
    /// `{% if … %}` and the like.
    Structure,
    /// `{# … #}`.
    Comment,
}

/// Replaces each tag by one character.
fn hide_tags(html: &str) -> Option<(String, Vec<Tag<'_>>)> {
    let mut marked = String::with_capacity(html.len());
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('{') {
        let len = match &rest.as_bytes()[at..] {
            [b'{', b'{', ..] => tag_len(&rest[at..], "}}")?,
            [b'{', b'%', ..] => block_len(&rest[at..])?,
            [b'{', b'#', ..] => rest[at..].find("#}")? + 2,
            _ => {
                marked.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
                continue;
            }
        };
        marked.push_str(&rest[..at]);
        let source = &rest[at..at + len];
        marked.push(mark(tags.len())?);
        tags.push(Tag { source, kind: kind_of(source) });
        rest = &rest[at + len..];
    }
    marked.push_str(rest);
    // A mark of the tenant's own would be taken for one of ours.
    let ours = marked.chars().filter(|c| index_of(*c).is_some()).count();
    (ours == tags.len()).then_some((marked, tags))
}

/// The length of a tag that ends in `end`, which may also stand within quotes.
fn tag_len(tag: &str, end: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in tag.char_indices().skip(2) {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if tag[at..].starts_with(end) => return Some(at + end.len()),
            _ => {}
        }
    }
    None
}

/// As [`tag_len`]; a raw block is one tag from its start to its end.
fn block_len(block: &str) -> Option<usize> {
    let len = tag_len(block, "%}")?;
    if word_of(&block[..len]) != "raw" {
        return Some(len);
    }
    let mut at = len;
    loop {
        at += block[at..].find("{%")?;
        let len = tag_len(&block[at..], "%}")?;
        if word_of(&block[at..at + len]) == "endraw" {
            return Some(at + len);
        }
        at += 2;
    }
}

fn word_of(block: &str) -> &str {
    let inner = block.trim_start_matches("{%").trim_start_matches(['-', '+']).trim_start();
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    &inner[..end]
}

fn kind_of(tag: &str) -> TagKind {
    if tag.starts_with("{#") {
        return TagKind::Comment;
    }
    if tag.starts_with("{{") {
        return TagKind::Text;
    }
    match word_of(tag) {
        "raw" => TagKind::Text,
        "if" | "elif" | "else" | "endif" => TagKind::Structure,
        _ => TagKind::Needed,
    }
}

fn mark(index: usize) -> Option<char> {
    if index >= MOST_TAGS {
        return None;
    }
    char::from_u32(FIRST_MARK + index as u32)
}

fn index_of(c: char) -> Option<usize> {
    let index = (c as u32).checked_sub(FIRST_MARK)? as usize;
    (index < MOST_TAGS).then_some(index)
}

/// Writes tables as lines of words. Their cells are layout more often than data, and
/// text between rows (a loop's tags) would be moved out of a table by the parser.
fn flatten_tables(html: &str) -> Option<String> {
    let mut flat = String::with_capacity(html.len());
    let mut rest = html;
    let mut depth = 0_usize;
    while let Some(at) = rest.find('<') {
        flat.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let closes = rest.as_bytes().get(1) == Some(&b'/');
        let name_at = if closes { 2 } else { 1 };
        let name_len = rest[name_at..]
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len() - name_at);
        let name = rest[name_at..name_at + name_len].to_ascii_lowercase();
        if name.is_empty() {
            flat.push_str(&rest[..name_at]);
            rest = &rest[name_at..];
            continue;
        }
        if closes {
            depth = depth.saturating_sub(1);
        } else if !VOID.contains(&name.as_str()) {
            depth += 1;
            if depth > MAX_DEPTH {
                return None;
            }
        }
        let replacement = match name.as_str() {
            "table" | "thead" | "tbody" | "tfoot" | "tr" | "caption" => "div",
            "td" | "th" if closes => " </span",
            "td" | "th" | "col" | "colgroup" => "span",
            other => {
                flat.push_str(&rest[..name_at + other.len()]);
                rest = &rest[name_at + other.len()..];
                continue;
            }
        };
        if !replacement.ends_with("</span") {
            flat.push_str(&rest[..name_at]);
        }
        flat.push_str(replacement);
        rest = &rest[name_at + name_len..];
    }
    flat.push_str(rest);
    Some(flat)
}

/// Elements without an end tag.
const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "p", "li", "param",
    "source", "track", "wbr",
];

/// Puts the tags back. A line of nothing but structure must not become an empty line
/// of every mail.
fn show_tags(text: &str, tags: &[Tag<'_>]) -> Option<String> {
    let mut shown = String::with_capacity(text.len() * 2);
    let mut last = None;
    let mut seen = vec![false; tags.len()];
    for line in text.lines() {
        let line = line.trim_end();
        let mut only_structure = !line.is_empty();
        for c in line.chars() {
            let Some((index, tag)) = index_of(c).and_then(|at| Some((at, tags.get(at)?))) else {
                only_structure &= c.is_whitespace();
                if !only_structure || !c.is_whitespace() {
                    shown.push(c);
                }
                continue;
            };
            // A text may be written twice or elsewhere; structure may not.
            if !matches!(tag.kind, TagKind::Text | TagKind::Comment) {
                if last.is_some_and(|last| index <= last) {
                    return None;
                }
                last = Some(index);
            }
            seen[index] = true;
            only_structure &= tag.kind != TagKind::Text;
            if tag.kind != TagKind::Comment {
                shown.push_str(tag.source);
            }
        }
        if !only_structure {
            shown.push('\n');
        }
    }
    let lost = tags.iter().zip(&seen).any(|(tag, seen)| tag.kind == TagKind::Needed && !seen);
    (!lost).then_some(shown)
}

/// Writes a link's address behind its words, and little else.
#[derive(Debug, Clone)]
struct Plain {
    links: Vec<String>,
}

impl TextDecorator for Plain {
    type Annotation = ();

    fn decorate_link_start(&mut self, url: &str) -> (String, ()) {
        self.links.push(url.to_owned());
        (String::new(), ())
    }

    fn decorate_link_end(&mut self) -> String {
        match self.links.pop() {
            Some(url) if !url.is_empty() && !url.starts_with(['#']) => format!(" ({url})"),
            _ => String::new(),
        }
    }

    fn decorate_em_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_em_end(&self) -> String {
        String::new()
    }

    fn decorate_strong_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_strong_end(&self) -> String {
        String::new()
    }

    fn decorate_strikeout_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_strikeout_end(&self) -> String {
        String::new()
    }

    fn decorate_code_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_code_end(&self) -> String {
        String::new()
    }

    fn decorate_preformat_first(&self) {}

    fn decorate_preformat_cont(&self) {}

    fn decorate_image(&mut self, _source: &str, title: &str) -> (String, ()) {
        (title.to_owned(), ())
    }

    fn header_prefix(&self, _level: usize) -> String {
        String::new()
    }

    fn quote_prefix(&self) -> String {
        "> ".to_owned()
    }

    fn unordered_item_prefix(&self) -> String {
        "* ".to_owned()
    }

    fn ordered_item_prefix(&self, number: i64) -> String {
        format!("{number}. ")
    }

    fn make_subblock_decorator(&self) -> Self {
        Self { links: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(html: &str) -> String {
        from_html(html).unwrap_or_else(|| panic!("no text from {html}"))
    }

    #[test]
    fn tags_survive_in_place() {
        for (html, text) in [
            ("<p>Hi {{ name }}, &lt;ok&gt;</p>", "Hi {{ name }}, <ok>\n"),
            ("<p>a</p><p>b</p>", "a\n\nb\n"),
            (
                "<a href=\"https://x.example/{{ id }}?a=1&amp;b={{ '}}' }}\">See</a>",
                "See (https://x.example/{{ id }}?a=1&b={{ '}}' }})\n",
            ),
            ("<img src=x alt=\"{{ alt }}\">", "{{ alt }}\n"),
            ("<style>{{ css }}</style><title>t</title><p>x</p>", "x\n"),
            (
                "<p>{% if a %}yes{% else %}no{% endif %}</p>",
                "{% if a %}yes{% else %}no{% endif %}\n",
            ),
            ("<p>{# note #}x</p>", "x\n"),
            ("<p>{% raw %}{{ x }} %}{% endraw %}</p>", "{% raw %}{{ x }} %}{% endraw %}\n"),
            ("<p>{ not a tag }</p>", "{ not a tag }\n"),
            ("<!--[if mso]>{{ x }}<![endif]--><p>y</p>", "y\n"),
        ] {
            assert_eq!(convert(html), text, "{html}");
        }
    }

    #[test]
    fn loops_stay_around_what_they_repeat() {
        let table = "<table><tbody>\n{% for r in rows %}\n<tr><td>{{ r.n }}</td><td>{{ r.p }}</td></tr>\n\
                     {% endfor %}\n</tbody></table>";
        assert_eq!(convert(table), "{% for r in rows %}{{ r.n }} {{ r.p }}\n{% endfor %}");
        let list = "<ul>\n{% for r in rows %}\n<li><a href=\"{{ r.url }}\">{{ r.n }}</a></li>\n{% endfor %}</ul>";
        let text = convert(list);
        let order: Vec<usize> = ["{% for", "{{ r.n", "({{ r.url }})", "{% endfor"]
            .iter()
            .map(|part| text.find(part).unwrap_or_else(|| panic!("{part} is missing in {text}")))
            .collect();
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn no_text_is_better_than_a_broken_one() {
        for html in [
            "<!-- {% set a = 1 %} --><p>{{ a }}</p>",
            "<p>{{ never ends</p>",
            "<p>{% raw %}</p>",
            "<img src=x>",
            "",
            "<p>\u{F0000}</p>",
        ] {
            assert_eq!(from_html(html), None, "{html}");
        }
        assert_eq!(from_html(&"<div>".repeat(100_000)), None);
    }

    #[test]
    fn long_words_and_lines_do_not_break_a_tag() {
        let html = format!("<p>{}</p>", "{{ some.rather.long.variable }}".repeat(200));
        assert_eq!(convert(&html).matches("{{ some.rather.long.variable }}").count(), 200);
    }
}
