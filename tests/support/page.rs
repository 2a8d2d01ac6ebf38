//! A page of the documentation, and the blocks of code in it.

use std::fs;
use std::path::Path;

/// A block of code in a page, and where it begins.
pub struct Block {
    /// What stands behind the fence, `sh` for example.
    pub language: String,
    /// What the line before says if that is a comment, `<!-- scene: held -->` for example.
    pub comment: Option<String>,
    /// The number of the line with the fence.
    pub line: usize,
    /// The block's lines.
    pub text: String,
}

/// The top of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The page of this name, seen from the top of the project.
#[track_caller]
pub fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// The blocks of code in the text of a page.
#[track_caller]
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut inside, mut before) = (false, "");
    for (number, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside;
            if inside {
                let comment = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                blocks.push(Block {
                    language: language.to_owned(),
                    comment: comment.map(str::to_owned),
                    line: number + 1,
                    text: String::new(),
                });
            }
        } else if inside && let Some(block) = blocks.last_mut() {
            block.text += line;
            block.text.push('\n');
        }
        before = line;
    }
    assert!(!inside, "a block without an end");
    blocks
}
