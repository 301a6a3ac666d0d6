//! Owns "did you mean": the known name that is nearest to an unknown one.
//! Must stay a guess for people: nothing is ever taken for what it resembles.

/// Returns the nearest known name, where one is near enough to be worth saying.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = plain(name);
    // A third of the characters may differ, rounded up.
    let distance_max = name.len().div_ceil(3).clamp(1, 4);
    known
        .map(|known| (distance(&name, &plain(known)), known))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

fn plain(name: &str) -> Vec<char> {
    let lower = name.to_lowercase();
    let characters = lower.chars().take(64);
    characters.map(|character| if character == '-' { '_' } else { character }).collect()
}

/// Computes how many characters must be put in, taken out or replaced (Levenshtein).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut previous: Vec<usize> = (0..=other.len()).collect();
    for (row, left) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        let mut beside = row + 1;
        for (right, above) in other.iter().zip(previous.windows(2)) {
            let replaced = above[0] + usize::from(left != right);
            beside = replaced.min(above[1] + 1).min(beside + 1);
            current.push(beside);
        }
        previous = current;
    }
    previous.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        let cases = [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)];
        for (one, other, expected) in cases {
            assert_eq!(distance(&plain(one), &plain(other)), expected, "{one} {other}");
        }
    }

    #[test]
    fn only_what_is_near_is_meant() {
        let known = ["linger_ms", "batch_bytes", "listen"];
        let cases = [
            ("linger-ms", Some("linger_ms")),
            ("lingerms", Some("linger_ms")),
            ("LISTEN", Some("listen")),
            ("lsten", Some("listen")),
            ("partitioner", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
    }
}
