//! A terminal that is painted again and again: from its corner on, line by line over what was there, so that nothing
//! flickers; in one write, so that nobody sees half of it.

use unicode_width::UnicodeWidthChar as _;

/// The text that shows `lines` on a terminal of this size; `first` clears what was there before.
pub(super) fn frame(lines: &[String], columns: u16, rows: u16, first: bool) -> String {
    let rows = usize::from(rows).max(2) - 1;
    let mut text = if first { "\x1b[2J\x1b[H".to_owned() } else { "\x1b[H".to_owned() };
    let fits = lines.len() <= rows;
    for line in &lines[..if fits { lines.len() } else { rows - 1 }] {
        text += cut(line, usize::from(columns));
        text += "\x1b[K\n";
    }
    if !fits {
        text += &format!("… {} more lines\x1b[K\n", lines.len() - (rows - 1));
    }
    text + "\x1b[J"
}

/// As much of a line as is so wide.
fn cut(line: &str, columns: usize) -> &str {
    let mut width = 0;
    let end = line.char_indices().find(|(_, c)| {
        width += c.width().unwrap_or(0);
        width > columns
    });
    &line[..end.map_or(line.len(), |(at, _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_leaves_the_terminal() {
        let lines = ["one", "a longer line", "日本語"].map(str::to_owned);
        assert_eq!(frame(&lines, 80, 24, true), "\x1b[2J\x1b[Hone\x1b[K\na longer line\x1b[K\n日本語\x1b[K\n\x1b[J");
        assert_eq!(frame(&lines, 5, 24, false), "\x1b[Hone\x1b[K\na lon\x1b[K\n日本\x1b[K\n\x1b[J");
        assert_eq!(frame(&lines, 80, 3, false), "\x1b[Hone\x1b[K\n… 2 more lines\x1b[K\n\x1b[J");
        assert_eq!(frame(&lines, 0, 0, false), "\x1b[H… 3 more lines\x1b[K\n\x1b[J");
    }
}
