//! Reads out of PromQL which metrics it names and what it asks of their labels. What the language allows beyond that is for
//! promtool to check.

/// Words that are followed by label names in brackets.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words between expressions.
const OPERATORS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "atan2"];

/// A metric in an expression.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub metric: String,
    /// What is asked of its labels: the label and the value or pattern.
    pub labels: Vec<(String, String)>,
}

/// The rest of a text that is read.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn space(&mut self) {
        self.0 = self.0.trim_start();
    }

    /// Takes what comes before the first character that is none of these.
    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|character| !belongs(character)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    /// Takes what comes before a character, and drops that.
    fn up_to(&mut self, end: char) -> &'a str {
        let (taken, rest) = self.0.split_once(end).unwrap_or((self.0, ""));
        self.0 = rest;
        taken
    }

    fn skip(&mut self) {
        let mut characters = self.0.chars();
        characters.next();
        self.0 = characters.as_str();
    }

    /// Reads `label="value"` up to the closing brace. No value in this project holds a quotation mark.
    fn matchers(&mut self) -> Vec<(String, String)> {
        let mut labels = Vec::new();
        loop {
            self.take(|character| character.is_whitespace() || character == ',');
            if self.0.is_empty() || self.0.starts_with('}') {
                self.skip();
                return labels;
            }
            let label = self.take(|character| character.is_alphanumeric() || character == '_').to_owned();
            self.up_to('"');
            labels.push((label, self.up_to('"').to_owned()));
        }
    }
}

/// Finds the metrics that an expression names.
pub fn named(expression: &str) -> Vec<Named> {
    let mut reader = Reader(expression);
    let mut found = Vec::new();
    loop {
        reader.space();
        let Some(first) = reader.0.chars().next() else { return found };
        match first {
            '"' | '\'' => {
                reader.skip();
                reader.up_to(first);
            }
            '[' => drop(reader.up_to(']').len()),
            '0'..='9' => drop(reader.take(|character| character.is_alphanumeric() || character == '.').len()),
            'a'..='z' | 'A'..='Z' | '_' => {
                let word = reader.take(|character| character.is_alphanumeric() || "_:".contains(character));
                reader.space();
                if GROUPINGS.contains(&word) {
                    reader.up_to(')');
                } else if !OPERATORS.contains(&word)
                    && !reader.0.starts_with('(')
                    && !is_aggregation(reader.0)
                {
                    let labels = if reader.0.starts_with('{') {
                        reader.skip();
                        reader.matchers()
                    } else {
                        Vec::new()
                    };
                    found.push(Named { metric: word.to_owned(), labels });
                }
            }
            _ => reader.skip(),
        }
    }
}

/// Whether what follows a word makes it an aggregation: `sum by (...) (...)`.
fn is_aggregation(rest: &str) -> bool {
    ["by", "without"]
        .iter()
        .any(|word| rest.strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with('(')))
}
