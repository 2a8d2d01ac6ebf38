//! Foreign texts, fit for a terminal and for a line of a log. Whoever may write a key decides what is in it, and what is
//! in it must not move the cursor, change colours, turn the direction of what follows or break a line.

/// `text` with U+FFFD in place of each character that [`is_hidden`].
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `text`, which is JSON, with each character that [`is_hidden`] as `\uXXXX`. It means the same to a program: JSON has
/// such characters within its strings only.
#[must_use]
pub fn printable_json(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                result.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            result.push(c);
        }
    }
    result
}

/// Whether a character does something to the text around it instead of being seen: control characters (C0, DEL, C1, so
/// line breaks too), the separators of lines and paragraphs, and invisible ones that turn the direction of the text, join
/// or hide (Unicode's general categories Cc, Zl, Zp and Cf, but for the soft hyphen).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_would_act_on_a_terminal_is_replaced_and_the_rest_is_kept() {
        let hostile = "\u{1b}]0;owned\u{7}\u{9b}2J\r\n\t\u{202e}txt.exe\u{2066}\u{200b}\u{2028}\u{7f}";
        assert_eq!(printable(hostile), "�]0;owned��2J����txt.exe����");
        for plain in ["web1", "Müller", "日本語", "a b", "🦀", "–", "e\u{301}"] {
            assert_eq!(printable(plain), plain);
        }
    }

    proptest! {
        #[test]
        fn json_means_the_same_and_hides_nothing(text in proptest::collection::vec(any::<char>(), 0..50)) {
            let text: String = text.into_iter().chain("\u{202e}\u{9b}\u{e0041}\n".chars()).collect();
            let json = printable_json(&serde_json::to_string(&text).expect("a text"));
            prop_assert!(!json.chars().any(is_hidden));
            prop_assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }
}
