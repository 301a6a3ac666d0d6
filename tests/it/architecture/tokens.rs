//! Owns what is found in bare tokens, where there is no syntax yet: paths, names, attributes.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};

/// Finds every path in tokens, groups included; `a::{b, c}` gives `a::b` and `a::c`.
pub fn paths(tokens: &TokenStream) -> Vec<(Vec<String>, Span)> {
    let mut found = Vec::new();
    find_paths(tokens, &[], &mut found);
    found
}

fn find_paths(tokens: &TokenStream, prefix: &[String], found: &mut Vec<(Vec<String>, Span)>) {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let mut place = 0;
    while place < tokens.len() {
        match &tokens[place] {
            TokenTree::Ident(name) => {
                let mut path = [prefix, &[name.to_string()]].concat();
                let span = name.span();
                while is_colon(tokens.get(place + 1)) && is_colon(tokens.get(place + 2)) {
                    match tokens.get(place + 3) {
                        Some(TokenTree::Ident(next)) => path.push(next.to_string()),
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            find_paths(&group.stream(), &path, found);
                        }
                        // A turbofish, or a glob.
                        _ => break,
                    }
                    place += 3;
                }
                found.push((path, span));
            }
            TokenTree::Group(group) => find_paths(&group.stream(), prefix, found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        place += 1;
    }
}

/// Finds the names that `wanted` picks, with their lines; text in comments and literals has no names.
pub fn identifiers(tokens: &TokenStream, wanted: impl Fn(&str) -> bool + Copy) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for token in tokens.clone() {
        match token {
            TokenTree::Ident(name) if wanted(&name.to_string()) => {
                found.push((name.to_string(), name.span().start().line));
            }
            TokenTree::Group(group) => found.extend(identifiers(&group.stream(), wanted)),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

/// Finds the names inside attributes that `wanted` picks, at any depth.
pub fn in_attributes(tokens: &TokenStream, wanted: impl Fn(&str) -> bool + Copy) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut after_hash = false;
    for token in tokens.clone() {
        match token {
            TokenTree::Punct(mark) => {
                after_hash = mark.as_char() == '#' || (after_hash && mark.as_char() == '!');
            }
            TokenTree::Group(group) => {
                if after_hash && is_bracketed(&group) {
                    found.extend(identifiers(&group.stream(), wanted));
                } else {
                    found.extend(in_attributes(&group.stream(), wanted));
                }
                after_hash = false;
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => after_hash = false,
        }
    }
    found
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == ':')
}

fn is_bracketed(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket
}
