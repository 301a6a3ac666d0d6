//! Owns the finding of paths: in `use` trees, in code, in attributes and in the tokens of macros, with `self`, `super`,
//! renames and globs resolved.

use std::collections::HashMap;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, ItemExternCrate, ItemMod, ItemUse, Macro, Meta, Path, UseTree,
    visit::{self, Visit},
};

use super::tokens;

/// A path that a file names: from `crate` on for what is ours, else from the name of the foreign crate or of something local.
#[derive(Debug, Clone)]
pub struct Reference {
    pub path: Vec<String>,
    pub line: usize,
    /// Whether it stands in code that is compiled for tests only.
    pub in_test: bool,
}

/// The paths of one file.
pub struct References {
    module: Vec<String>,
    in_test: bool,
    found: Vec<Reference>,
    /// What a name stands for by a `use`; the same name may be used in two functions.
    names: HashMap<String, Vec<Vec<String>>>,
    globs: Vec<Vec<String>>,
}

impl References {
    pub fn new(module: &[String], in_test: bool) -> Self {
        Self { module: module.to_vec(), in_test, found: Vec::new(), names: HashMap::new(), globs: Vec::new() }
    }

    /// Returns what was found, each path once for everything that its first name may stand for.
    pub fn resolved(self) -> Vec<Reference> {
        let mut resolved = Vec::new();
        for reference in &self.found {
            let first = &reference.path[0];
            let renamed = self.names.get(first).into_iter().flatten();
            let through_globs = self.globs.iter().map(|glob| [glob, &reference.path[..1]].concat());
            let meanings: Vec<_> = match first.as_str() {
                "crate" => Vec::new(),
                _ => renamed.cloned().chain(through_globs).collect(),
            };
            for meaning in meanings {
                let path = [&meaning, &reference.path[1..]].concat();
                resolved.push(Reference { path, ..reference.clone() });
            }
            resolved.push(reference.clone());
        }
        resolved
    }

    fn note(&mut self, names: Vec<String>, span: Span) {
        if let Some(path) = self.absolute(names) {
            self.found.push(Reference { path, line: span.start().line, in_test: self.in_test });
        }
    }

    /// Replaces `self`, `super` and the crate's own name; none for what is above the crate.
    fn absolute(&self, names: Vec<String>) -> Option<Vec<String>> {
        let ours = |module: &[String], rest: &[String]| Some([&["crate".to_owned()], module, rest].concat());
        match names.first()?.as_str() {
            "crate" | "producer_sidecar" => ours(&[], &names[1..]),
            "self" => ours(&self.module, &names[1..]),
            "super" => {
                let ups = names.iter().take_while(|name| *name == "super").count();
                let depth = self.module.len().checked_sub(ups)?;
                ours(&self.module[..depth], &names[ups..])
            }
            _ => Some(names),
        }
    }

    fn note_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.note_tree(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.note_tree(prefix, item)),
            UseTree::Name(name) if name.ident == "self" => {
                let last = prefix.last().cloned().unwrap_or_default();
                self.note_use(prefix.to_vec(), &last, name.ident.span());
            }
            UseTree::Name(name) => {
                self.note_use(with(&name.ident), &name.ident.to_string(), name.ident.span());
            }
            UseTree::Rename(renamed) => {
                let path = if renamed.ident == "self" { prefix.to_vec() } else { with(&renamed.ident) };
                self.note_use(path, &renamed.rename.to_string(), renamed.ident.span());
            }
            UseTree::Glob(glob) => {
                if let Some(path) = self.absolute(prefix.to_vec()) {
                    self.globs.push(path);
                }
                self.note(prefix.to_vec(), glob.star_token.spans[0]);
            }
        }
    }

    fn note_use(&mut self, path: Vec<String>, name: &str, span: Span) {
        if let Some(absolute) = self.absolute(path.clone()) {
            self.names.entry(name.to_owned()).or_default().push(absolute);
        }
        self.note(path, span);
    }

    fn note_tokens(&mut self, tokens: &TokenStream) {
        for (path, span) in tokens::paths(tokens) {
            self.note(path, span);
        }
    }
}

impl<'ast> Visit<'ast> for References {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_tree(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name).to_string();
        self.note_use(vec![item.ident.to_string()], &name, item.ident.span());
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string());
        let span = path.segments.first().map_or_else(Span::call_site, |segment| segment.ident.span());
        self.note(names.collect(), span);
        // The types between angle brackets.
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.note_tokens(&called.tokens);
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.note_tokens(&list.tokens);
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let was_test = self.in_test;
        self.in_test |= item.attrs.iter().any(is_for_tests);
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
        self.in_test = was_test;
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    let mut condition = list.tokens.clone().into_iter();
    let first = condition.next();
    list.path.is_ident("cfg")
        && matches!(first, Some(TokenTree::Ident(name)) if name == "test")
        && condition.next().is_none()
}
