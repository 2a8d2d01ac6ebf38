//! Foreign texts in our messages: on one line, shortened, without control characters. What a server or a proxy says must
//! not paint on a terminal, break a log's lines or fill it.

use std::io;

use crate::plain::is_active;

/// Most characters of a foreign text that a message quotes.
const QUOTED: usize = 200;

/// A foreign body, fit for a message.
pub(super) fn quote(body: &[u8]) -> String {
    // Four bytes a character at most, and some room for blanks that go.
    let text = String::from_utf8_lossy(&body[..body.len().min(QUOTED * 8)]);
    let text = one_line(&text);
    if text.is_empty() { "(no text)".into() } else { text }
}

/// A text on one line, without control characters, and not too long.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if is_active(c) { ' ' } else { c }).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= QUOTED {
        return text;
    }
    text.chars().take(QUOTED).chain(['…']).collect()
}

/// What the system says, without the number.
pub(super) fn plain(error: &io::Error) -> String {
    let text = one_line(&error.to_string());
    let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quoted_body_is_one_short_line(body in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let quoted = quote(&body);
            prop_assert!(!quoted.is_empty() && quoted.chars().count() <= QUOTED + 1);
            prop_assert!(!quoted.chars().any(is_active));
        }
    }
}
