//! The word that somebody meant whose finger slipped: clap's own measure finds that "rnu" is not like "run", and knows
//! nothing of the words that we read ourselves.

/// The word of `known` that is a slip away from `word`, two where it is long. Capitals are none.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = if word.chars().count() < 5 { 1 } else { 2 };
    let slips = known.into_iter().map(|known| (distance(&word, &known.to_lowercase()), known));
    slips.filter(|(slips, _)| *slips <= most).min().map(|(_, known)| known)
}

/// How many slips lie between two words: a letter too many, one too few, a wrong one, two in the wrong order.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for (i, letter) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in to.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(letter != other)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == to[j - 1] && from[i - 1] == *other {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_one() {
        for (from, to, slips) in [("rnu", "run", 1), ("ru", "run", 1), ("runn", "run", 1), ("wiat", "wait", 1)] {
            assert_eq!(distance(from, to), slips, "{from} {to}");
        }
        assert_eq!((distance("", "run"), distance("run", "run"), distance("list", "status")), (3, 0, 5));
    }

    #[test]
    fn the_nearest_word_is_found_and_none_where_all_are_far() {
        let known = ["run", "completions", "USR2", "USR1"];
        for (word, meant) in [("rnu", "run"), ("RUN", "run"), ("completoins", "completions"), ("usr", "USR1")] {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
        assert_eq!(nearest("deploy/web", known), None);
    }
}
