//! Runs what docs/debugging.md tells a person to type, and finds in the output what it promises.

use std::process::{Command, Stdio};

use testkit::Cluster;

use crate::client::shared_address;

crate::tests!(every_line_of_the_debugging_page_prints_what_it_says);

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/debugging.md"));
const ADDRESS: &str = "127.0.0.1:50051";
/// How many commands the page has at least, so that a page that is read wrongly does not pass for an empty one.
const COMMANDS_MIN: usize = 30;
/// Stands on the page for lines that are left out.
const ELLIPSIS: &str = "...";

/// A fenced block: what stands behind the fence, and the lines.
struct Block<'page> {
    language: &'page str,
    text: &'page str,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    // Every other piece between fences is a block.
    let pieces: Vec<_> = page.split("```").collect();
    assert!(pieces.len() % 2 == 1, "a block is not closed");
    let blocks = pieces.into_iter().skip(1).step_by(2);
    blocks
        .map(|block| {
            let (language, text) = block.split_once('\n').expect("a fence ends its line");
            Block { language, text }
        })
        .collect()
}

/// Runs a block in a shell and returns both outputs together.
fn run(script: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let path = std::env::var("PATH").unwrap_or_default();
    let own = if std::env::var_os("GRPCURL").is_some() { r#"grpcurl() { "$GRPCURL" "$@"; }"# } else { "" };
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", &format!("exec 2>&1\n{own}\n{script}")])
        .env("PATH", format!("{path}:{cache}/producer-sidecar/bin"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output();
    String::from_utf8_lossy(&output.expect("a shell can be started").stdout).into_owned()
}

/// Finds the first expected line that is not in the output, behind the one before it.
fn missing<'page>(expected: &'page str, output: &str) -> Option<&'page str> {
    let mut rest = output;
    let mut lines = expected.lines().map(str::trim).filter(|line| !line.is_empty() && *line != ELLIPSIS);
    lines.find(|line| match rest.find(line) {
        Some(at) => {
            rest = &rest[at + line.len()..];
            false
        }
        None => true,
    })
}

fn every_line_of_the_debugging_page_prints_what_it_says() {
    let address = shared_address();
    let orders = Cluster::shared().create_topic("orders", 3, &[]);
    let hidden = Cluster::shared().create_topic("hidden-", 1, &[]);
    // The second name is in the first, so the first steps aside meanwhile.
    let ours = |text: &str| {
        let text = text.replace(ADDRESS, &address).replace("hidden-orders", "\0");
        text.replace(r#""orders""#, &format!(r#""{orders}""#)).replace('\0', &hidden)
    };
    let blocks = blocks(PAGE);
    let mut failures = Vec::new();
    for pair in blocks.chunks(2) {
        let [command, expected] = pair else { panic!("the last command has no output") };
        assert_eq!((command.language, expected.language), ("sh", ""), "{}", command.text);
        let output = run(&ours(command.text));
        if let Some(line) = missing(&ours(expected.text), &output) {
            failures.push(format!("{}\nhas no line\n{line}\nbut\n{output}", command.text));
        }
    }
    assert!(blocks.len() >= 2 * COMMANDS_MIN, "{} blocks", blocks.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
