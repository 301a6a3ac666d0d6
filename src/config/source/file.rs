//! Owns the settings file: reads it, walks its sections along the table and tells what it does not know.
//! Must never take a password from it, and never guess at a key.

use std::{fs::File, io::Read as _, path::Path};

use super::{
    Kind, Origin, Problem, Raw, Said, Setting, nearest, table,
    tree::{self, At, Content, Key, Node},
};
use crate::config::parse::Item;

/// The largest settings file, in bytes.
const FILE_BYTES_MAX: u64 = 1_048_576;

/// Walks one file.
struct Walk<'a> {
    path: String,
    said: Vec<Said>,
    problems: &'a mut Vec<Problem>,
}

/// Reads the settings that the file says.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Vec<Said> {
    let mut walk = Walk { path: path.display().to_string(), said: Vec::new(), problems };
    match content(path) {
        Ok(text) => walk.file(&text),
        Err((at, wrong, mend)) => walk.problem("file", at, wrong, mend),
    }
    walk.said
}

type Unreadable = (Option<At>, String, &'static str);

fn content(path: &Path) -> Result<String, Unreadable> {
    let unreadable = |error: std::io::Error| {
        let wrong = format!("cannot be read: {error}");
        (None, wrong, "name a readable file, or no file")
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        let wrong = format!("has more than {FILE_BYTES_MAX} bytes");
        return Err((None, wrong, "name the settings file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let sound = bytes.get(..error.utf8_error().valid_up_to());
        let sound = String::from_utf8_lossy(sound.unwrap_or_default()).into_owned();
        let line = sound.split('\n').count();
        let last = sound.rsplit('\n').next().unwrap_or_default();
        let at = (line, last.chars().count() + 1);
        (Some(at), "is not UTF-8".to_owned(), "write it as UTF-8")
    })
}

// === impl Walk ===

impl Walk<'_> {
    fn file(&mut self, text: &str) {
        let (root, faults) = tree::read(text);
        for fault in faults {
            self.problem("file", Some(fault.at), fault.wrong, fault.mend);
        }
        let Some(Node { at, content }) = root else {
            return;
        };
        match content {
            Content::Map(entries) => self.section("", entries),
            Content::Null | Content::Broken => {}
            Content::Text(_) | Content::List(_) => {
                let wrong = "is not a map of settings";
                self.problem("file", Some(at), wrong, "write `key: value` lines");
            }
        }
    }

    fn section(&mut self, prefix: &str, entries: Vec<(Key, Node)>) {
        for (key, node) in entries {
            let name = format!("{prefix}{}", key.name);
            if key.name.contains('.') {
                self.unknown(&name, &key);
            } else if let Some(setting) = table::find(&name) {
                self.setting(setting, &key, node);
            } else if is_section(&name) {
                self.enter(&name, node);
            } else {
                self.unknown(&name, &key);
            }
        }
    }

    fn enter(&mut self, name: &str, node: Node) {
        match node.content {
            Content::Map(entries) => self.section(&format!("{name}."), entries),
            // A section whose lines are all commented out.
            Content::Null | Content::Broken => {}
            Content::Text(_) | Content::List(_) => {
                let wrong = "is a section, not a value";
                let mend = "write its settings below it, indented";
                self.problem(name, Some(node.at), wrong, mend);
            }
        }
    }

    fn setting(&mut self, setting: &'static Setting, key: &Key, node: Node) {
        if setting.kind == Kind::Secret {
            let wrong = "a secret must not stand in the settings file";
            let mend = format!("use {}_file", setting.key);
            self.problem(setting.key, Some(key.at), wrong, mend);
            return;
        }
        let at = node.at;
        let raw = match node.content {
            Content::Null => {
                let mend = format!("remove the key, or write {}", setting.takes());
                self.problem(setting.key, Some(at), "has no value", mend);
                return;
            }
            Content::Broken => return,
            Content::Text(text) => Raw::Text(text),
            Content::List(nodes) => {
                let items = nodes.into_iter().map(|node| self.item(setting, node));
                let items: Option<Vec<_>> = items.collect();
                let Some(items) = items else { return };
                Raw::List(items)
            }
            Content::Map(entries) => {
                let entries = entries.into_iter().map(|(key, node)| {
                    let name = Item { text: key.name, place: self.place(Some(key.at)) };
                    Some((name, self.item(setting, node)?))
                });
                let entries: Option<Vec<_>> = entries.collect();
                let Some(entries) = entries else { return };
                Raw::Map(entries)
            }
        };
        let place = self.place(Some(at));
        self.said.push(Said { setting, raw, place });
    }

    /// Takes an item of a list or map, which must be a text.
    fn item(&mut self, setting: &'static Setting, node: Node) -> Option<Item> {
        let wrong = match node.content {
            Content::Text(text) => {
                let place = self.place(Some(node.at));
                return Some(Item { text, place });
            }
            Content::Broken => return None,
            Content::Null => "has no value",
            Content::List(_) => "is a list",
            Content::Map(_) => "is a map",
        };
        self.problem(setting.key, Some(node.at), wrong, "write a single value");
        None
    }

    fn unknown(&mut self, name: &str, key: &Key) {
        let settings = || table::settings().iter();
        let mend = if let Some(setting) = settings().find(|setting| setting.key == name) {
            format!("write {:?} below its section, indented", last(setting.key))
        } else {
            let whole = nearest::nearest(name, settings().map(|setting| setting.key));
            let sections = settings().map(Setting::section);
            let section = nearest::nearest(name, sections.filter(|section| !section.is_empty()));
            // The right name in the wrong section.
            let moved = settings().find(|setting| last(setting.key) == last(name));
            let moved = moved.map(|setting| setting.key);
            match moved.or(whole).or(section) {
                Some(near) => format!("did you mean {near}?"),
                None => "remove it; docs/configuration.md lists the settings".to_owned(),
            }
        };
        self.problem(name, Some(key.at), "is not a setting", mend);
    }

    fn place(&self, at: Option<At>) -> Origin {
        Origin::File { path: self.path.clone(), at }
    }

    fn problem(&mut self, key: &str, at: Option<At>, wrong: impl Into<String>, mend: impl Into<String>) {
        let place = self.place(at);
        self.problems.push(Problem::new(key, place, wrong, mend));
    }
}

fn is_section(name: &str) -> bool {
    table::settings()
        .iter()
        .any(|setting| setting.key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
