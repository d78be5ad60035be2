//! Comments and pages stay in plain English: the patterns that made this tree hard to read are counted, crate
//! by crate.
//!
//! A crate may have a fraction of a percent of them, as other kernels do. One that has more is listed in
//! [`CEILINGS`] with its counts; a count may fall, and then its ceiling falls with it.

mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tree::{files, root};

/// The greatest number of hits of one pattern per 1,000 words of comments. Comparable trees have 0.00 to
/// 0.12.
const MOST_PER_THOUSAND_WORDS: f64 = 0.2;
/// The greatest share of doc blocks, in percent, that begin with a question word. Comparable trees have 0 to
/// 1.
const MOST_QUESTIONS_PERCENT: f64 = 3.0;
/// The greatest width of a line with a comment, in characters.
const WIDTH: usize = 110;

/// Folders with more hits of a pattern than the general limits allow, with their counts.
const CEILINGS: &[(&str, Pattern, usize)] = &[];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Pattern {
    /// An agent that is a pronoun where a component has a name.
    PronounAgent,
    /// A clause with "what" in place of a noun.
    NominalClause,
    /// A relative clause without its noun.
    BareRelative,
    /// A sentence that begins with "Answers" where the field says "Returns". The plural noun is no hit.
    Answers,
    /// A quantity without a number or a noun.
    VagueQuantity,
    /// An obsolete word.
    OldWord,
    /// A doc block that begins with a question word.
    Question,
}

impl Pattern {
    const COUNTED_BY_WORDS: [Self; 6] = [
        Self::PronounAgent,
        Self::NominalClause,
        Self::BareRelative,
        Self::Answers,
        Self::VagueQuantity,
        Self::OldWord,
    ];

    /// Phrases in lower case but for [`Self::Answers`], as words with single spaces between them.
    fn phrases(self) -> &'static [&'static str] {
        match self {
            Self::PronounAgent => &[
                "whoever",
                "whomever",
                "whom",
                "somebody",
                "nobody",
                "anybody",
                "everybody",
                "someone",
                "anyone",
                "everyone",
            ],
            Self::NominalClause => &[
                "what is",
                "what has",
                "what it",
                "what was",
                "what were",
                "what are",
                "what they",
                "what there",
                "what had",
                "what comes",
                "what came",
            ],
            Self::BareRelative => &["for who", "who has", "who wants", "who had", "who waits", "who asks"],
            Self::Answers => &["Answers"],
            Self::VagueQuantity => &["so many", "so much", "so long"],
            Self::OldWord => &["anew", "meanwhile", "likewise", "of late"],
            Self::Question => &["what", "who", "whom", "whose", "how", "whether", "where", "which"],
        }
    }
}

/// Counts of one crate, or of the pages.
#[derive(Default, Debug)]
struct Prose {
    words: usize,
    blocks: usize,
    hits: BTreeMap<Pattern, Vec<String>>,
    /// Lines with malformed comments.
    faults: Vec<String>,
}

impl Prose {
    fn note(&mut self, pattern: Pattern, place: &str, text: &str) {
        self.hits.entry(pattern).or_default().push(format!("{place}: {}", text.trim()));
    }

    /// Counts the patterns in one line of prose.
    fn line(&mut self, place: &str, text: &str) {
        let written = words(text);
        self.words += written.len();
        let [as_written, flat] =
            [written.join(" "), written.join(" ").to_lowercase()].map(|line| format!(" {line} "));
        for pattern in Pattern::COUNTED_BY_WORDS {
            let flat = if pattern == Pattern::Answers { &as_written } else { &flat };
            for phrase in pattern.phrases() {
                for _ in flat.match_indices(&format!(" {phrase} ")) {
                    self.note(pattern, place, text);
                }
            }
        }
    }

    fn source(&mut self, name: &str, text: &str) {
        let mut follows_doc = false;
        for (index, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", index + 1);
            let Some((is_doc, comment)) = comment(line) else {
                follows_doc = false;
                continue;
            };
            if line.chars().count() > WIDTH && !comment.contains("http") {
                self.faults.push(format!("{place}: a comment wider than {WIDTH} characters"));
            }
            if is_doc {
                if has_swallowed(comment) {
                    self.faults
                        .push(format!("{place}: a heading or a list runs into its paragraph: {comment}"));
                }
                if !follows_doc {
                    self.blocks += 1;
                    let first = words(comment).into_iter().next().unwrap_or_default().to_lowercase();
                    if Pattern::Question.phrases().contains(&&*first) {
                        self.note(Pattern::Question, &place, comment);
                    }
                }
            }
            follows_doc = is_doc;
            self.line(&place, comment);
        }
    }

    /// The patterns with more hits than `ceiling` or the general limits allow.
    fn excesses(&self, ceiling: impl Fn(Pattern) -> Option<usize>) -> Vec<String> {
        let mut excesses = Vec::new();
        for (&pattern, hits) in &self.hits {
            let general = match pattern {
                Pattern::Question => self.blocks as f64 * MOST_QUESTIONS_PERCENT / 100.0,
                _ => self.words as f64 * MOST_PER_THOUSAND_WORDS / 1000.0,
            };
            let most = ceiling(pattern).unwrap_or(general as usize);
            if hits.len() > most {
                excesses.push(format!(
                    "{pattern:?}: {}, at most {most}:\n    {}",
                    hits.len(),
                    hits.join("\n    ")
                ));
            }
        }
        excesses
    }
}

/// The words of a line, without the contents of backticks.
fn words(text: &str) -> Vec<String> {
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" x ");
    prose
        .split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The comment on a line, and whether it is documentation.
fn comment(line: &str) -> Option<(bool, &str)> {
    let line = line.trim_start();
    for marker in ["//!", "///"] {
        if let Some(text) = line.strip_prefix(marker) {
            return Some((true, text));
        }
    }
    if let Some(text) = line.strip_prefix("//") {
        return Some((false, text));
    }
    // A comment after code; not inside a string or an address.
    let (code, text) = line.split_once(" // ")?;
    (code.matches('"').count() % 2 == 0).then_some((false, text))
}

/// Returns true if a heading or list item has swallowed the text after it.
fn has_swallowed(comment: &str) -> bool {
    let text = comment.trim_start();
    let is_long_heading = text.starts_with("# ") && text.split(' ').count() > 8;
    let has_item_inside = ["1.", "2.", "3.", "4.", "5."]
        .iter()
        .any(|item| text.find(&format!(": {item} ")).or_else(|| text.find(&format!(". {item} "))).is_some());
    is_long_heading || has_item_inside
}

/// The folder of the package that a source file belongs to, relative to the root.
fn package(path: &Path) -> String {
    let folder = path.ancestors().skip(1).find(|folder| folder.join("Cargo.toml").exists());
    let folder = folder.expect("each source file belongs to a package");
    folder.strip_prefix(root()).expect("it lies in the workspace").display().to_string()
}

#[test]
fn comments_and_pages_are_plain_english() {
    let mut sources = Vec::new();
    files(root(), "rs", &mut sources);
    let mut all: BTreeMap<String, Prose> = BTreeMap::new();
    for source in &sources {
        let name = source.strip_prefix(root()).expect("it lies in the workspace").display().to_string();
        // This file spells out the patterns.
        if name == "xtask/tests/prose.rs" {
            continue;
        }
        let text = fs::read_to_string(source).expect("a source file can be read");
        all.entry(package(source)).or_default().source(&name, &text);
    }
    let mut pages = Vec::new();
    files(root(), "md", &mut pages);
    for page in &pages {
        let name = page.strip_prefix(root()).expect("it lies in the workspace").display().to_string();
        let text = fs::read_to_string(page).expect("a page can be read");
        let mut is_code = false;
        for (index, line) in text.lines().enumerate() {
            if line.starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                all.entry("docs".to_owned()).or_default().line(&format!("{name}:{}", index + 1), line);
            }
        }
    }
    let total: usize = all.values().map(|prose| prose.words).sum();
    assert!(total > 50_000, "only {total} words were read");

    let mut broken = Vec::new();
    for (folder, prose) in &all {
        let recorded = |pattern| {
            CEILINGS
                .iter()
                .find(|(name, known, _)| name == folder && *known == pattern)
                .map(|(_, _, most)| *most)
        };
        broken.extend(prose.excesses(recorded).into_iter().map(|excess| format!("{folder}: {excess}")));
        broken.extend(prose.faults.iter().cloned());
        for (name, pattern, most) in CEILINGS {
            let count = prose.hits.get(pattern).map_or(0, Vec::len);
            if name == folder && count < *most {
                broken.push(format!("{folder}: {pattern:?} fell to {count}: lower its ceiling of {most}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn each_pattern_is_found_and_counted() {
    let text = "//! What a thing does.\n\n/// Whoever has it knows what is there.\n// Answers so many anew.\nlet x = 1; // for who wants\n";
    let mut prose = Prose::default();
    prose.source("a.rs", text);
    let count = |pattern| prose.hits.get(&pattern).map_or(0, Vec::len);
    for pattern in Pattern::COUNTED_BY_WORDS {
        let expected = if pattern == Pattern::BareRelative { 2 } else { 1 };
        assert_eq!(count(pattern), expected, "{pattern:?}");
    }
    assert_eq!((count(Pattern::Question), prose.blocks), (1, 2));
    assert_eq!(prose.excesses(|_| None).len(), 7);
    assert_eq!(prose.excesses(|_| Some(2)), [] as [String; 0]);
}

#[test]
fn code_and_strings_are_no_prose() {
    let mut prose = Prose::default();
    prose.source("a.rs", "/// Returns `what is`.\nlet a = \"what is // nobody\";\nlet whoever = b;\n");
    assert_eq!(prose.hits.len(), 0, "{prose:?}");
    assert_eq!(prose.words, 2);
}

#[test]
fn broken_forms_are_found() {
    for (text, is_broken) in [
        ("/// # Errors", false),
        ("//! # Marks A proxy writes the status word, which a tick then changes.", true),
        ("//! first, in the same stop: 2. Let the world go on. 3. Quiesce.", true),
        ("/// 1. Stop the world.", false),
        (&*format!("// {}", "wide ".repeat(30)), true),
    ] {
        let mut prose = Prose::default();
        prose.source("a.rs", text);
        assert_eq!(!prose.faults.is_empty(), is_broken, "{text}");
    }
}
