//! A configuration of directives in blocks, as nginx, Apache and Caddy each write it in their own way.

use std::rc::Rc;

use crate::finding::Evidence;

/// Deepest block.
pub(super) const MAX_BLOCKS: usize = 48;
/// Deepest inclusion.
pub(super) const MAX_DEPTH: usize = 16;
/// Most files of one program.
pub(super) const MAX_FILES: usize = 2_000;
/// Most directives of one program.
pub(super) const MAX_DIRECTIVES: usize = 100_000;

/// A directive, with its block where it has one.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub name: String,
    pub args: Vec<String>,
    pub file: Rc<str>,
    pub line: usize,
    pub children: Option<Vec<Node>>,
}

impl Node {
    /// Where it stands, with its words.
    pub(super) fn evidence(&self) -> Evidence {
        let end = if self.children.is_some() { " {" } else { "" };
        let args: Vec<String> = self.args.iter().take(30).map(|arg| arg.replace('\n', " ")).collect();
        let text = format!("{} {}{end}", self.name, args.join(" "));
        Evidence::line(&self.file, self.line, &text)
    }

    pub(super) fn arg(&self, at: usize) -> &str {
        self.args.get(at).map_or("", String::as_str)
    }

    pub(super) fn block(&self) -> &[Node] {
        self.children.as_deref().unwrap_or_default()
    }

    /// Directives of that name right inside.
    pub(super) fn all<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Node> {
        named(self.block(), name)
    }

    /// The last one of that name right inside.
    pub(super) fn last(&self, name: &str) -> Option<&Node> {
        self.block().iter().rev().find(|node| node.name == name)
    }

    /// Everything inside, at any depth.
    pub(super) fn inside(&self) -> Vec<&Node> {
        let mut found = Vec::new();
        let mut left: Vec<&Node> = self.block().iter().rev().collect();
        while let Some(node) = left.pop() {
            found.push(node);
            left.extend(node.block().iter().rev());
        }
        found
    }
}

/// Those of a name.
pub(super) fn named<'n>(nodes: &'n [Node], name: &'n str) -> impl Iterator<Item = &'n Node> {
    nodes.iter().filter(move |node| node.name == name)
}
