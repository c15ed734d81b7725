//! What somebody may have meant who wrote a name that is not known: in a configuration, a scenario, a command line. It must never guess
//! what is no likelier than anything else.

/// The most like it, if it is like enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, known) = known.into_iter().map(|known| (distance(wrong, known), known)).min()?;
    // Where half of a short name is wrong any other is as likely.
    (distance <= 3 && distance * 2 < known.len()).then_some(known)
}

/// The same as the end of a message; nothing where there is no guess.
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((y, above_left), above) in b.chars().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(usize::MAX);
            next.push((above_left + usize::from(x != y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["pohang", "gyeongju", "lost"];
        for (wrong, meant) in [
            ("phang", Some("pohang")),
            ("gyeongjoo", Some("gyeongju")),
            ("lots", None),
            ("earthquake", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, known), meant, "{wrong}");
        }
        assert_eq!(did_you_mean("pohan", known), "; did you mean `pohang`?");
        assert_eq!(did_you_mean("x", []), "");
    }
}
