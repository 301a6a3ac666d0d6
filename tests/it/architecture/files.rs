//! Owns the files that are checked: where they are, which module each is, and their syntax.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::TokenStream;
use syn::{Item, visit::Visit as _};

use super::references::{Reference, References};

/// A file of Rust, parsed.
pub struct Source {
    /// From the root of the checkout.
    pub path: PathBuf,
    /// The names from the crate's root down; empty for `lib.rs` and `main.rs`.
    pub module: Vec<String>,
    pub text: String,
    pub syntax: syn::File,
    pub tokens: TokenStream,
}

/// Reads a file of the checkout.
pub fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads all Rust files of a folder of the checkout, folders within it included.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root).unwrap();
                sources.push(Source::parse(relative, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!sources.is_empty(), "{folder} holds no Rust file");
    sources
}

impl Source {
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Self {
        let path = path.as_ref().to_owned();
        let wrong = |error: &dyn std::fmt::Display| -> ! { panic!("{}: {error}", path.display()) };
        let syntax = syn::parse_file(text).unwrap_or_else(|error| wrong(&error));
        let tokens = text.parse().unwrap_or_else(|error: proc_macro2::LexError| wrong(&error));
        Self { module: module(&path), path, text: text.to_owned(), syntax, tokens }
    }

    /// The first name of the module; none for the crate's root.
    pub fn top(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// Whether the file is compiled for tests only.
    pub fn is_test(&self) -> bool {
        self.module.iter().any(|name| name == "tests")
    }

    /// Every path that the file names, resolved as far as the file tells.
    pub fn references(&self) -> Vec<Reference> {
        let mut references = References::new(&self.module, self.is_test());
        references.visit_file(&self.syntax);
        references.resolved()
    }

    /// The files of the modules that this one declares without a body.
    pub fn children(&self) -> BTreeSet<PathBuf> {
        let is_root = self.path.ends_with("main.rs") || self.path.ends_with("lib.rs");
        let folder =
            if is_root { self.path.parent().unwrap().to_owned() } else { self.path.with_extension("") };
        let declared = self.syntax.items.iter().filter_map(|item| {
            let Item::Mod(declared) = item else { return None };
            declared.content.is_none().then(|| declared.ident.to_string())
        });
        declared.map(|name| folder.join(name).with_extension("rs")).collect()
    }

    /// Whether the file lists tests of its own.
    pub fn declares_tests(&self) -> bool {
        self.syntax.items.iter().any(|item| {
            let Item::Macro(called) = item else { return false };
            called.mac.path.segments.last().is_some_and(|name| name.ident == "tests")
        })
    }

    /// The modules whose `TESTS` this file names.
    pub fn test_lists(&self) -> Vec<Vec<String>> {
        let lists = self.references().into_iter().filter_map(|reference| {
            let (last, module) = reference.path.split_last()?;
            let module = module.strip_prefix(&["crate".to_owned()]).unwrap_or(module);
            (last == "TESTS").then(|| module.to_vec())
        });
        lists.collect()
    }
}

fn module(path: &Path) -> Vec<String> {
    let bare = path.with_extension("");
    let names: Vec<_> = bare.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let below = match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["src", ..] => 1,
        ["tests", "it", ..] => 2,
        ["tests", "support", "src", ..] => 3,
        _ => panic!("{} lies in no folder that is checked", path.display()),
    };
    let module = &names[below..];
    match module {
        [root] if root == "lib" || root == "main" => Vec::new(),
        _ => module.to_vec(),
    }
}
