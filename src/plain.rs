//! Foreign text on a terminal or in a line of a log: what other people put into a key, or named their programs, must not
//! paint on the screen, break a line in two, or turn the direction of what follows.

use std::borrow::Cow;

/// `text` with a blank in place of each character that does anything but show itself: the control characters C0 and C1,
/// line and paragraph separators, marks and overrides of direction, and what is invisible.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(is_active) { Cow::Owned(text.replace(is_active, " ")) } else { Cow::Borrowed(text) }
}

/// Most characters of a name in a message; a file's name has no more than 255, and hardly ever so many.
const LONGEST: usize = 100;

/// As [`plain`], but of a name that somebody made as long as a book only the beginning.
#[must_use]
pub fn brief(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!("{}…", plain(&text[..end]))),
        None => plain(text),
    }
}

/// `text`, which is JSON, with each such character as `\u` and four hex digits. It means the same to a program: JSON has them within
/// its strings only.
#[must_use]
pub fn plain_json(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if is_active(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                result.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            result.push(c);
        }
    }
    result
}

/// Whether a character does something to its neighbours instead of showing itself.
#[must_use]
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_paints_breaks_or_turns_becomes_a_blank() {
        for active in
            ["\x1b[2J", "\r", "\n", "\x07", "\u{9b}31m", "\u{202e}", "\u{2066}", "\u{200f}", "\u{2028}", "\x7f"]
        {
            let shown = plain(active).into_owned();
            assert!(!shown.contains(is_active) && shown.starts_with(' '), "{active:?}");
        }
        assert!(matches!(plain("bäckup 備份 100%"), Cow::Borrowed(_)));
    }

    #[test]
    fn of_an_endless_name_the_beginning_is_shown() {
        let [long, longer] = [LONGEST, LONGEST + 1].map(|length| "ü".repeat(length));
        assert_eq!((brief(&long), brief(&longer)), (Cow::Borrowed(&*long), Cow::Borrowed(&*format!("{long}…"))));
    }

    proptest! {
        #[test]
        fn json_means_the_same_and_hides_nothing(text in proptest::collection::vec(any::<char>(), 0..50)) {
            let text: String = text.into_iter().chain("\u{202e}\u{9b}\u{e0041}\n".chars()).collect();
            let json = plain_json(&serde_json::to_string(&text).expect("a text"));
            prop_assert!(!json.contains(is_active));
            prop_assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }
}
