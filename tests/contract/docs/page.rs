//! Parses a page of documentation: its fenced blocks, anchors of headings, and links. Supports only the Markdown that the pages
//! use. Independent of how blocks are run.

/// A fenced block.
#[derive(Debug)]
pub struct Block<'a> {
    pub language: &'a str,
    pub text: String,
}

impl Block<'_> {
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

/// Returns the fenced blocks, in order.
pub fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some(Block { language, text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is never closed: {open:?}");
    blocks
}

/// Returns the text outside fenced blocks.
pub fn prose(page: &str) -> String {
    let outside = |(at, part): (usize, &str)| (at.is_multiple_of(2)).then(|| part.to_owned());
    page.split("```").enumerate().filter_map(outside).collect()
}

/// Returns the anchors of headings: lower-case letters, digits, and hyphens for spaces.
pub fn anchors(page: &str) -> Vec<String> {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let small = heading.to_lowercase().replace(' ', "-");
        small.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(slug).collect()
}

/// Returns the targets of links and of reference definitions.
pub fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned);
    let defined = text.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
    inline.chain(defined.map(|(_, target)| target.to_owned())).collect()
}

/// Returns the names of reference links: `[text][name]`, and `[name]` alone.
pub fn references(page: &str) -> Vec<String> {
    let text = prose(page);
    let uses: String = text.lines().filter(|line| !is_definition(line)).map(|line| without_code(line) + "\n").collect();
    let brackets = uses.match_indices('[').filter_map(|(at, _)| uses[at + 1..].split_once(']'));
    // A link's text is followed by its target; text followed by neither a target nor a name is its own name.
    brackets.filter(|(_, after)| !after.starts_with(['(', '['])).map(|(name, _)| name.to_owned()).collect()
}

/// Returns the names that the page defines links for.
pub fn definitions(page: &str) -> Vec<String> {
    let defined = page.lines().filter(|line| is_definition(line)).filter_map(|line| line[1..].split_once("]: "));
    defined.map(|(name, _)| name.to_owned()).collect()
}

fn is_definition(line: &str) -> bool {
    line.starts_with('[') && line.contains("]: ")
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}
