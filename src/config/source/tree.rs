//! Owns the reading of YAML into a tree that keeps every text as it was written, with its line and column.
//! Must never resolve a scalar to a number or a boolean (`007` stays `007`), and never quote what the file holds: it may be a
//! secret in the wrong place.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

/// The deepest nesting; settings need three levels.
const DEPTH_MAX: usize = 16;
/// The most events of the parser: each key and each value is one, each list and each map is two.
const EVENTS_MAX: usize = 10_000;

/// A place in the file: line and column, both from 1.
pub(super) type At = (usize, usize);

/// A node with its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) content: Content,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing, or a plain `~` or `null`.
    Null,
    /// A text as it was written, quotes and escapes resolved.
    Text(String),
    List(Vec<Node>),
    /// Keys in order, each once.
    Map(Vec<(Key, Node)>),
    /// Something whose problem has been told.
    Broken,
}

/// A key of a map with its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: At,
    pub(super) name: String,
}

/// What is wrong with the file as YAML.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: At,
    pub(super) wrong: String,
    pub(super) mend: String,
}

/// A list or map that is not yet closed.
struct Open {
    at: At,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map {
        entries: Vec<(Key, Node)>,
        /// The key whose value comes next; the inner none is one that cannot be used.
        key: Option<Option<Key>>,
    },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    events: usize,
    faults: Vec<Fault>,
}

/// Reads the text; the tree is none where the file is empty or cannot be read to its end.
pub(super) fn read(text: &str) -> (Option<Node>, Vec<Fault>) {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if !builder.take(event, at(&span.start)) {
                    return (None, builder.faults);
                }
            }
            Err(error) => {
                let wrong = format!("is not YAML: {}", error.info());
                builder.fault(at(error.marker()), wrong, "correct it");
                return (None, builder.faults);
            }
        }
    }
    (builder.root, builder.faults)
}

fn at(marker: &Marker) -> At {
    (marker.line(), marker.col() + 1)
}

// === impl Builder ===

impl Builder {
    /// Takes one event; false where nothing further can be understood.
    fn take(&mut self, event: Event<'_>, at: At) -> bool {
        self.events += 1;
        if self.events > EVENTS_MAX {
            let wrong = format!("more than {EVENTS_MAX} values stand here");
            self.fault(at, wrong, "name the settings file");
            return false;
        }
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.fault(at, "a second document begins", "keep one document");
                    return false;
                }
            }
            Event::Alias(_) => {
                self.fault(at, "is an alias", "write the value out");
                self.place(at, Content::Broken);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.unsupported(at, anchor, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let content = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Content::Null
                } else {
                    Content::Text(text.into_owned())
                };
                self.place(at, content);
            }
            Event::SequenceStart(anchor, tag) => {
                self.unsupported(at, anchor, tag.is_some());
                return self.open(at, OpenKind::List(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.unsupported(at, anchor, tag.is_some());
                let entries = Vec::new();
                return self.open(at, OpenKind::Map { entries, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { at, kind }) = self.open.pop() {
                    let content = match kind {
                        OpenKind::List(items) => Content::List(items),
                        OpenKind::Map { entries, .. } => Content::Map(entries),
                    };
                    self.place(at, content);
                }
            }
        }
        true
    }

    fn open(&mut self, at: At, kind: OpenKind) -> bool {
        if self.open.len() >= DEPTH_MAX {
            self.fault(at, "is nested too deeply", "settings need three levels");
            return false;
        }
        self.open.push(Open { at, kind });
        true
    }

    /// Puts a finished node where it belongs: the list, the map (as key or as value) or the root.
    fn place(&mut self, at: At, content: Content) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(Node { at, content });
            return;
        };
        match &mut open.kind {
            OpenKind::List(items) => items.push(Node { at, content }),
            OpenKind::Map { entries, key } => match key.take() {
                Some(Some(name)) => entries.push((name, Node { at, content })),
                Some(None) => {}
                None => {
                    let (name, wrong) = usable_key(at, content, entries);
                    *key = Some(name);
                    if let Some((wrong, mend)) = wrong {
                        self.fault(at, wrong, mend);
                    }
                }
            },
        }
    }

    fn unsupported(&mut self, at: At, anchor: usize, tagged: bool) {
        if anchor > 0 {
            self.fault(at, "has an anchor", "remove the anchor");
        }
        if tagged {
            self.fault(at, "has a tag", "remove the tag; every value is taken as written");
        }
    }

    fn fault(&mut self, at: At, wrong: impl Into<String>, mend: impl Into<String>) {
        self.faults.push(Fault { at, wrong: wrong.into(), mend: mend.into() });
    }
}

/// Makes a key of a node, or says why it cannot be one.
fn usable_key(
    at: At,
    content: Content,
    entries: &[(Key, Node)],
) -> (Option<Key>, Option<(String, &'static str)>) {
    let name = match content {
        Content::Text(name) => name,
        Content::Broken => return (None, None),
        Content::Null | Content::List(_) | Content::Map(_) => {
            let wrong = "a key is not a text".to_owned();
            return (None, Some((wrong, "write the name of a setting")));
        }
    };
    if name == "<<" {
        let wrong = "is a merge key".to_owned();
        return (None, Some((wrong, "write the values out")));
    }
    if let Some((first, _)) = entries.iter().find(|(key, _)| key.name == name) {
        let wrong = format!("the key {name:?} stands twice, first in line {}", first.at.0);
        return (None, Some((wrong, "keep one of the two")));
    }
    (Some(Key { at, name }), None)
}
