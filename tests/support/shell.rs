//! Commands as documents write them: in shell blocks, in indented lines, and between backticks.
#![allow(unreachable_pub, dead_code, clippy::disallowed_methods, reason = "a test's support")]

use std::fs;
use std::path::{Path, PathBuf};

/// A command in a document.
#[derive(Debug, Clone)]
pub struct Written {
    /// `docs/operating.md:22`
    pub at: String,
    /// Its words, the program first.
    pub words: Vec<String>,
    /// Whether it can be copied as it stands; what is between backticks is often only a name.
    pub whole: bool,
    /// The command whose output it reads.
    pub reads: Option<Vec<String>>,
}

impl Written {
    /// As it is shown.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// Every command of README.md and docs/.
pub fn commands() -> Vec<Written> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![project.join("README.md")];
    pages(&project.join("docs"), &mut files);
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("read");
        let name = file.strip_prefix(project).expect("below the project").display().to_string();
        of_page(&name, &text, &mut found);
    }
    found
}

fn pages(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("list").flatten() {
        let path = entry.path();
        if path.is_dir() {
            pages(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
}

fn of_page(name: &str, text: &str, found: &mut Vec<Written>) {
    // The kind of block that a line is in, and a shell block's text with its first line's number.
    let mut block: Option<&str> = None;
    let (mut shell, mut from) = (String::new(), 0);
    for (n, line) in text.lines().enumerate() {
        let at = format!("{name}:{}", n + 1);
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            if block == Some("sh") {
                for (line, pipeline) in split(&shell) {
                    add(&format!("{name}:{}", from + line), pipeline, true, found);
                }
                shell.clear();
            }
            block = if block.is_some() { None } else { Some(kind) };
            from = n + 2;
        } else if block == Some("sh") {
            shell.push_str(line);
            shell.push('\n');
        } else if block.is_none() {
            let indented = line.strip_prefix("    ").unwrap_or_default();
            if indented.starts_with("make ") || indented.starts_with("postrider ") {
                for (_, pipeline) in split(indented) {
                    add(&at, pipeline, true, found);
                }
            }
            for span in line.split('`').skip(1).step_by(2) {
                if span.starts_with("make ") || span.starts_with("postrider ") {
                    for (_, pipeline) in split(span) {
                        add(&at, pipeline, false, found);
                    }
                }
            }
        }
    }
    assert!(block.is_none(), "{name}: a block does not end");
}

fn add(at: &str, pipeline: Vec<Vec<String>>, whole: bool, found: &mut Vec<Written>) {
    let mut reads = None;
    for words in pipeline {
        found.push(Written { at: at.to_owned(), words: words.clone(), whole, reads: reads.take() });
        reads = Some(words);
    }
}

/// Pipelines of a script, each with the number of the line that it begins on, from 0. Knows what
/// documents need: quotes, comments, continued lines, `|`, `;` and `&&`.
fn split(script: &str) -> Vec<(usize, Vec<Vec<String>>)> {
    let (mut pipelines, mut pipeline, mut words) = (Vec::new(), Vec::new(), Vec::new());
    let (mut word, mut quote, mut line, mut begun) = (None::<String>, None, 0, 0);
    let mut chars = script.chars().chain(['\n']).peekable();
    while let Some(c) = chars.next() {
        let first_of_line = line;
        line += usize::from(c == '\n');
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, '\\') => match chars.next() {
                Some('\n') => {
                    line += 1;
                    words.extend(word.take());
                }
                Some(c) => word.get_or_insert_default().push(c),
                None => {}
            },
            (None, '#') if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, '\n' | ';' | '&' | '|' | '>') => {
                words.extend(word.take());
                if !words.is_empty() {
                    pipeline.push(std::mem::take(&mut words));
                }
                if c != '|' && !pipeline.is_empty() {
                    pipelines.push((begun, std::mem::take(&mut pipeline)));
                }
            }
            (None, c) => {
                if word.is_none() && words.is_empty() && pipeline.is_empty() {
                    begun = first_of_line;
                }
                word.get_or_insert_default().push(c);
            }
        }
    }
    assert!(quote.is_none(), "a quote does not end: {script}");
    pipelines
}

#[test]
fn scripts_are_split_as_a_shell_does() {
    let script = "# a comment\ncurl -s 'a b' | jq \".x\"; echo $?\n\
                  postrider why x \\\n  --json   # and so on\nmake dist && make image\n";
    let found: Vec<String> = split(script)
        .iter()
        .map(|(line, pipeline)| {
            let commands: Vec<String> = pipeline.iter().map(|words| words.join(",")).collect();
            format!("{line}:{}", commands.join("|"))
        })
        .collect();
    assert_eq!(
        found,
        [
            "1:curl,-s,a b|jq,.x",
            "1:echo,$?",
            "2:postrider,why,x,--json",
            "4:make,dist",
            "4:make,image"
        ]
    );
}
