//! Rows in columns: aligned under a head for people, and for programs a line each with tabs between and no head.

use unicode_width::UnicodeWidthStr as _;

/// Blanks between columns.
const GAP: usize = 2;

/// A table of `N` columns. Its cells must be printable, so that none holds a tab or a line break.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    head: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(crate) fn new(head: [&'static str; N]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The table for a terminal; nothing at all without rows.
    pub(crate) fn aligned(&self) -> String {
        let mut widths = self.head.map(str::len);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        let mut line = |cells: [&str; N]| {
            let start = text.len();
            for (cell, width) in cells.into_iter().zip(widths) {
                text += cell;
                text.extend(std::iter::repeat_n(' ', width + GAP - cell.width()));
            }
            text.truncate(start + text[start..].trim_end().len());
            text.push('\n');
        };
        if !self.rows.is_empty() {
            line(self.head);
        }
        for row in &self.rows {
            line(row.each_ref().map(String::as_str));
        }
        text
    }

    /// The table for a program.
    pub(crate) fn tabbed(&self) -> String {
        self.rows.iter().map(|row| row.join("\t") + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_look() {
        let mut table = Table::new(["KEY", "HOLDER", "AGE"]);
        assert_eq!(table.aligned(), "");
        table.add(["a".into(), "日本 (pid 1)".into(), "3 s".into()]);
        table.add(["long/key".into(), "web".into(), String::new()]);
        assert_eq!(table.aligned(), "KEY       HOLDER        AGE\na         日本 (pid 1)  3 s\nlong/key  web\n");
        assert_eq!(table.tabbed(), "a\t日本 (pid 1)\t3 s\nlong/key\tweb\t\n");
    }
}
