//! Makes a tenant's template safe to run, before the engine sees it.
//!
//! The engine's fuel bounds steps, not bytes: `'a' * 100000000` is one step (and
//! is even worked out while compiling), doubling a text forty times is forty. So
//! everything that can make a value grow is taken from the engine and given to
//! the metered functions of [`super::filter`]:
//!
//! * the operators `~`, `+` and `*` are rewritten to calls of ours, list and map
//!   literals pass a check of their size, the right side of `in` must not be a
//!   text (the engine would write the left side out in full);
//! * statements that collect output in memory (`set` as a block, `filter`,
//!   macros) and functions other than `range` are refused;
//! * nesting and the length of a tag are bounded, because the engine recurses.
//!
//! The rewriting keeps every line break, so the lines of errors stay right.

use minijinja::machinery::ast::{BinOpKind, CallArg, CompareOpKind, Expr, Stmt};
use minijinja::machinery::{Span, Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::filter;

/// A template that must not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) line: Option<usize>,
    pub(super) reason: String,
}

/// Most tokens of one tag: the parser and the compiler recurse on long expressions.
const MAX_TOKENS: usize = 400;

/// Most `elif` of one template: each nests one level deeper.
const MAX_ELIF: usize = 100;

/// Most names that `set` and `with` may keep: each may hold a copy of a text.
const MAX_NAMES: usize = 100;

/// Checks `source` and returns the form that the engine may compile.
pub(super) fn guard(source: &str) -> Result<String, Refused> {
    let tokens = read_tokens(source)?;
    let tree =
        parse(source, "", SyntaxConfig::default()).map_err(|error| refused_by_engine(&error))?;
    let mut walk = Walk { tokens, edits: Vec::new(), names: 0 };
    walk.statement(&tree)?;
    Ok(walk.apply(source))
}

/// The engine's own complaint about a template.
pub(super) fn refused_by_engine(error: &minijinja::Error) -> Refused {
    let reason = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    Refused { line: error.line(), reason }
}

/// What the rewriting needs to know of the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Plus,
    Times,
    Concat,
    In,
    Open,
    Close,
}

#[derive(Debug, Clone, Copy)]
struct MarkAt {
    mark: Mark,
    start: usize,
    end: usize,
}

fn read_tokens(source: &str) -> Result<Vec<MarkAt>, Refused> {
    let mut marks = Vec::new();
    let (mut in_tag, mut elif) = (0, 0);
    for token in tokenize(source, false, SyntaxConfig::default()) {
        let (token, span) = token.map_err(|error| refused_by_engine(&error))?;
        in_tag += 1;
        let mark = match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => {
                in_tag = 0;
                continue;
            }
            Token::Plus => Mark::Plus,
            Token::Mul => Mark::Times,
            Token::Tilde => Mark::Concat,
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => Mark::Open,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => Mark::Close,
            Token::Ident("in") => Mark::In,
            Token::Ident("elif") => {
                elif += 1;
                if elif > MAX_ELIF {
                    return refuse(span, format!("expected at most {MAX_ELIF} elif"));
                }
                continue;
            }
            _ if in_tag > MAX_TOKENS => {
                let reason = format!(
                    "expected at most {MAX_TOKENS} words and signs in one tag; split it with set"
                );
                return refuse(span, reason);
            }
            _ => continue,
        };
        marks.push(MarkAt {
            mark,
            start: span.start_offset as usize,
            end: span.end_offset as usize,
        });
    }
    Ok(marks)
}

fn refuse<T>(span: Span, reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { line: Some(usize::from(span.start_line)), reason: reason.into() })
}

/// One change of the source. At one place, what closes comes before an operator
/// and that before what opens; and inner closings come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Close,
    Operator,
    Open,
}

#[derive(Debug)]
struct Edit {
    at: usize,
    place: Place,
    removed: usize,
    text: &'static str,
}

struct Walk {
    tokens: Vec<MarkAt>,
    edits: Vec<Edit>,
    names: usize,
}

impl Walk {
    fn apply(mut self, source: &str) -> String {
        // Stable: edits of the same place keep the order in which they were noted.
        self.edits.sort_by_key(|edit| (edit.at, edit.place));
        let mut text = String::with_capacity(source.len() + self.edits.len() * 16);
        let mut done = 0;
        for edit in &self.edits {
            text.push_str(&source[done..edit.at]);
            text.push_str(edit.text);
            done = edit.at + edit.removed;
        }
        text.push_str(&source[done..]);
        text
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) -> Result<(), Refused> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), Refused> {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr)?;
                self.statements(&condition.true_body)?;
                self.statements(&condition.false_body)
            }
            Stmt::ForLoop(it) if it.recursive => refuse(it.span(), "loops cannot be recursive"),
            Stmt::ForLoop(it) => {
                target(&it.target)?;
                self.expression(&it.iter)?;
                it.filter_expr.iter().try_for_each(|filter| self.expression(filter))?;
                self.statements(&it.body)?;
                self.statements(&it.else_body)
            }
            Stmt::Set(set) => {
                self.name(&set.target)?;
                self.expression(&set.expr)
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.name(target)?;
                    self.expression(value)?;
                }
                self.statements(&with.body)
            }
            Stmt::SetBlock(it) => refuse(it.span(), "set needs a value: {% set name = value %}"),
            Stmt::AutoEscape(it) => refuse(it.span(), "autoescape is not available; use |safe"),
            Stmt::FilterBlock(it) => refuse(it.span(), "filter blocks are not available"),
            Stmt::Do(it) => refuse(it.span(), "do is not available"),
        }
    }

    fn name(&mut self, expr: &Expr<'_>) -> Result<(), Refused> {
        self.names += 1;
        if self.names > MAX_NAMES {
            return refuse(expr.span(), format!("expected at most {MAX_NAMES} set and with"));
        }
        target(expr)
    }

    fn expressions(&mut self, expressions: &[Expr<'_>]) -> Result<(), Refused> {
        expressions.iter().try_for_each(|expr| self.expression(expr))
    }

    fn expression(&mut self, expr: &Expr<'_>) -> Result<(), Refused> {
        match expr {
            Expr::Var(_) | Expr::Const(_) => Ok(()),
            Expr::UnaryOp(it) => self.expression(&it.expr),
            Expr::GetAttr(it) => self.expression(&it.expr),
            Expr::GetItem(it) => {
                self.expression(&it.expr)?;
                self.expression(&it.subscript_expr)
            }
            Expr::Slice(it) => {
                self.expression(&it.expr)?;
                [&it.start, &it.stop, &it.step]
                    .into_iter()
                    .flatten()
                    .try_for_each(|part| self.expression(part))
            }
            Expr::IfExpr(it) => {
                self.expression(&it.test_expr)?;
                self.expression(&it.true_expr)?;
                it.false_expr.iter().try_for_each(|part| self.expression(part))
            }
            Expr::BinOp(it) => {
                self.expression(&it.left)?;
                self.expression(&it.right)?;
                let mark = match it.op {
                    BinOpKind::Concat => Mark::Concat,
                    BinOpKind::Add => Mark::Plus,
                    BinOpKind::Mul => Mark::Times,
                    BinOpKind::In if !matches!(it.left, Expr::Const(_)) => Mark::In,
                    _ => return Ok(()),
                };
                self.rewrite(mark, it.span())
            }
            Expr::Compare(it) => {
                for part in &it.ops {
                    if matches!(part.op, CompareOpKind::In | CompareOpKind::NotIn) {
                        return refuse(it.span(), "in cannot be part of a chain of comparisons");
                    }
                    self.expression(&part.expr)?;
                }
                self.expression(&it.expr)
            }
            Expr::Filter(it) => {
                if !filter::is_offered(it.name) {
                    return refuse(it.span(), format!("there is no filter {:?}", it.name));
                }
                it.expr.iter().try_for_each(|input| self.expression(input))?;
                self.arguments(&it.args, it.span())
            }
            Expr::Test(it) => {
                if !filter::is_offered_test(it.name) {
                    return refuse(it.span(), format!("there is no test {:?}", it.name));
                }
                self.expression(&it.expr)?;
                self.arguments(&it.args, it.span())
            }
            Expr::Call(it) => {
                let known = match &it.expr {
                    Expr::Var(var) => var.id == "range",
                    Expr::GetAttr(attr) => {
                        matches!(&attr.expr, Expr::Var(var) if var.id == "loop")
                            && matches!(attr.name, "cycle" | "changed")
                    }
                    _ => false,
                };
                if !known {
                    return refuse(
                        it.span(),
                        "only range(), loop.cycle() and loop.changed() can be called",
                    );
                }
                self.arguments(&it.args, it.span())
            }
            Expr::List(it) => {
                self.expressions(&it.items)?;
                self.measure(expr, it.span());
                Ok(())
            }
            Expr::Map(it) => {
                self.expressions(&it.keys)?;
                self.expressions(&it.values)?;
                self.measure(expr, it.span());
                Ok(())
            }
            Expr::Tuple(it) => refuse(it.span(), "write a list: [a, b]"),
        }
    }

    fn arguments(&mut self, args: &[CallArg<'_>], span: Span) -> Result<(), Refused> {
        for arg in args {
            match arg {
                // These fill a list with the same value again and again.
                CallArg::Kwarg("default" | "fill_with" | "start", _) => {
                    return refuse(span, "default, fill_with and start are not available here");
                }
                CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.expression(value)?,
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                    return refuse(span, "* and ** cannot stand before an argument");
                }
            }
        }
        Ok(())
    }

    /// `left ~ right` becomes `(left)|function(right)`.
    fn rewrite(&mut self, mark: Mark, span: Span) -> Result<(), Refused> {
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        let Some(operator) = self.operator(mark, start, end) else {
            return refuse(span, "this expression is too involved; put parts in brackets");
        };
        let edit = |at, place, removed, text| Edit { at, place, removed, text };
        let len = operator.end - operator.start;
        let call = match mark {
            Mark::Plus => filter::PLUS,
            Mark::Times => filter::TIMES,
            Mark::Concat => filter::CONCAT,
            _ => {
                self.edits.push(edit(operator.end, Place::Open, 0, " ("));
                self.edits.push(edit(end, Place::Close, 0, filter::MEMBERS_OF));
                return Ok(());
            }
        };
        self.edits.push(edit(start, Place::Open, 0, "("));
        self.edits.push(edit(operator.start, Place::Operator, len, call));
        self.edits.push(edit(end, Place::Close, 0, ")"));
        Ok(())
    }

    /// The operator of the expression at `start..end`: the last of its kind outside
    /// any bracket, because operators of one rank are read from the left.
    fn operator(&self, mark: Mark, start: usize, end: usize) -> Option<MarkAt> {
        let first = self.tokens.partition_point(|token| token.start < start);
        let mut depth = 0_usize;
        let mut found = None;
        for token in self.tokens[first..].iter().take_while(|token| token.end <= end) {
            match token.mark {
                Mark::Open => depth += 1,
                Mark::Close => depth = depth.checked_sub(1)?,
                _ if depth == 0 && token.mark == mark => found = Some(*token),
                _ => {}
            }
        }
        found
    }

    /// A literal that names variables gets its size checked when it is made.
    fn measure(&mut self, expr: &Expr<'_>, span: Span) {
        if expr.as_const().is_some() {
            return;
        }
        let edit = |at, place, text| Edit { at, place, removed: 0, text };
        self.edits.push(edit(span.start_offset as usize, Place::Open, "("));
        self.edits.push(edit(span.end_offset as usize, Place::Close, filter::MEASURED));
    }
}

/// What a loop or `set` may assign to: names only.
fn target(expr: &Expr<'_>) -> Result<(), Refused> {
    match expr {
        Expr::Var(_) => Ok(()),
        Expr::List(list) => list.items.iter().try_for_each(target),
        Expr::Tuple(tuple) => tuple.items.iter().try_for_each(target),
        other => refuse(other.span(), "expected a name to assign to"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_operators_become_calls() {
        for (source, expected) in [
            ("plain", "plain"),
            ("{{ a }}", "{{ a }}"),
            ("{{ a - b / c }}", "{{ a - b / c }}"),
            ("{{ a ~ b }}", "{{ (a )|pr_concat( b) }}"),
            ("{{ a~b~c }}", "{{ ((a)|pr_concat(b))|pr_concat(c) }}"),
            ("{{ a + b * c }}", "{{ (a )|pr_plus( (b )|pr_times( c)) }}"),
            ("{{ (a + b) * c }}", "{{ (((a )|pr_plus( b)) )|pr_times( c) }}"),
            ("{{ -a * b|int }}", "{{ (-a )|pr_times( b|int) }}"),
            (
                "{{ a * (b ~ (c * d)) }}",
                "{{ (a )|pr_times( ((b )|pr_concat( ((c )|pr_times( d))))) }}",
            ),
            ("{{ x[a ~ b].c ~ 'z' }}", "{{ (x[(a )|pr_concat( b)].c )|pr_concat( 'z') }}"),
            ("{{ [a, 'b']|join }}", "{{ ([a, 'b'])|pr_measured|join }}"),
            ("{{ ['a', 'b']|join }}", "{{ ['a', 'b']|join }}"),
            ("{% if a in b %}{% endif %}", "{% if a in ( b)|pr_members %}{% endif %}"),
            ("{% if 'x' in b %}{% endif %}", "{% if 'x' in b %}{% endif %}"),
            (
                "{% if a not in [b] %}{% endif %}",
                "{% if a not in ( ([b])|pr_measured)|pr_members %}{% endif %}",
            ),
            ("{% for a in b %}{{ a }}{% endfor %}", "{% for a in b %}{{ a }}{% endfor %}"),
            ("{% raw %}{{ a ~ b }}{% endraw %}", "{% raw %}{{ a ~ b }}{% endraw %}"),
            ("{# a ~ b #}{{ '~' ~ a }}", "{# a ~ b #}{{ ('~' )|pr_concat( a) }}"),
        ] {
            let rewritten = guard(source).unwrap_or_else(|e| panic!("{source}: {e:?}"));
            assert_eq!(rewritten, expected, "{source}");
            if rewritten != source {
                assert!(parse(&rewritten, "", SyntaxConfig::default()).is_ok(), "{rewritten}");
            }
        }
    }

    #[test]
    fn what_could_collect_memory_is_refused() {
        let nested = format!("{{{{ {}a{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
        let long = format!("{{{{ {}a }}}}", "a ~ ".repeat(100_000));
        let filters = format!("{{{{ a{} }}}}", "|upper".repeat(100_000));
        let path = format!("{{{{ a{} }}}}", ".b".repeat(100_000));
        let elif = format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(100_000));
        let ifs = format!("{}{}", "{% if a %}".repeat(10_000), "{% endif %}".repeat(10_000));
        let sets = "{% set a = b %}".repeat(MAX_NAMES + 1);
        for source in [
            "{% set a %}x{% endset %}",
            "{% set n.a = 1 %}",
            "{% filter upper %}x{% endfilter %}",
            "{% macro m() %}x{% endmacro %}",
            "{% include 'x' %}",
            "{% import 'x' as y %}",
            "{% extends 'x' %}",
            "{% block x %}{% endblock %}",
            "{% autoescape false %}{{ a }}{% endautoescape %}",
            "{% for a in b recursive %}{{ loop(a) }}{% endfor %}",
            "{{ namespace(a=1) }}",
            "{{ dict(a=1) }}",
            "{{ debug() }}",
            "{{ a.b() }}",
            "{{ a()() }}",
            "{{ range(*a) }}",
            "{{ a|indent(100) }}",
            "{{ a|pprint }}",
            "{{ a|pr_concat(b) }}",
            "{{ a|nosuch }}",
            "{{ a|map('upper', default=a) }}",
            "{{ a|sum(start='') }}",
            "{{ a is nosuch }}",
            "{{ a < b in c }}",
            "{{ (a, b) }}",
            "{{ a",
            "{% if %}",
            &nested,
            &long,
            &filters,
            &path,
            &elif,
            &ifs,
            &sets,
        ] {
            let shown: String = source.chars().take(60).collect();
            let refused = guard(source).expect_err(&shown);
            assert!(refused.line.is_some() && !refused.reason.is_empty(), "{shown}: {refused:?}");
        }
    }

    #[test]
    fn the_line_is_that_of_the_tenants_template() {
        let refused = guard("a\nb\n{{ c|nosuch }}").expect_err("refused");
        assert_eq!(refused.line, Some(3));
        assert!(refused.reason.contains("nosuch"));
    }
}
