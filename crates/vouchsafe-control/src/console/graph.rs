//! Graphs of who reaches what, drawn on the server in columns: every node leads to a closer look.

use maud::{Markup, html};

/// Sizes in the picture's own units.
const WIDTH: usize = 1_000;
const NODE_HEIGHT: usize = 30;
const GAP: usize = 9;
const TOP: usize = 30;
/// Letters of a name that have room in a node.
const LETTERS: usize = 24;

/// Something or somebody.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) column: usize,
    pub(super) label: String,
    /// Beside the label, such as how many it stands for.
    pub(super) note: String,
    pub(super) href: String,
    /// `on` is what is looked at, `hot` and `warm` need attention.
    pub(super) class: &'static str,
}

/// How two are connected.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    /// Places of nodes; the first is in a column to the left of the second's.
    pub(super) from: usize,
    pub(super) to: usize,
    /// `used`, `unused`, `passed`, or nothing for what holds them together.
    pub(super) class: &'static str,
    pub(super) title: String,
}

/// A picture.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    /// Titles of the columns.
    pub(super) columns: Vec<&'static str>,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

impl Graph {
    /// Adds a node and says its place.
    pub(super) fn node(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Adds an edge.
    pub(super) fn edge(&mut self, from: usize, to: usize, class: &'static str, title: String) {
        self.edges.push(Edge { from, to, class, title });
    }

    /// Draws it. `label` says in words what is to be seen.
    pub(super) fn draw(&self, label: &str) -> Markup {
        let places = self.places();
        let tallest = (0..self.columns.len()).map(|column| self.in_column(column)).max().unwrap_or_default();
        let height = TOP + tallest.max(1) * (NODE_HEIGHT + GAP);
        let width = self.node_width();
        let at = |node: usize| places.get(node).copied().unwrap_or_default();
        // What stands out is drawn last, above the rest.
        let layers = ["", "used", "unused", "passed"];
        let edges = layers.iter().flat_map(|layer| self.edges.iter().filter(move |edge| edge.class == *layer));
        html! {
            figure .graph tabindex="0" role="group" aria-label=(label) {
                svg viewBox={ "0 0 " (WIDTH) " " (height) } {
                    @for (column, title) in self.columns.iter().enumerate() {
                        text .title x=(self.left(column)) y="14" { (title) }
                    }
                    g aria-hidden="true" {
                        @for Edge { from, to, class, title } in edges {
                            @let ((x1, y1), (x2, y2)) = (at(*from), at(*to));
                            @let (x1, y1, y2) = (x1 + width, y1 + NODE_HEIGHT / 2, y2 + NODE_HEIGHT / 2);
                            @let half = (x1 + x2) / 2;
                            path class={ "edge " (class) } d={ "M" (x1) " " (y1) "C" (half) " " (y1) " " (half) " " (y2) " " (x2) " " (y2) } {
                                title { (title) }
                            }
                        }
                    }
                    @for (place, node) in self.nodes.iter().enumerate() { (drawn(node, at(place), width)) }
                }
            }
        }
    }

    fn in_column(&self, column: usize) -> usize {
        self.nodes.iter().filter(|node| node.column == column).count()
    }

    fn node_width(&self) -> usize {
        if self.columns.len() > 3 { 190 } else { 230 }
    }

    fn left(&self, column: usize) -> usize {
        let gaps = self.columns.len().saturating_sub(1).max(1);
        1 + column * (WIDTH - 2 - self.node_width()) / gaps
    }

    /// Where each node's upper left corner is: columns that are shorter stand in the middle.
    fn places(&self) -> Vec<(usize, usize)> {
        let tallest = (0..self.columns.len()).map(|column| self.in_column(column)).max().unwrap_or_default();
        let mut next: Vec<usize> = (0..self.columns.len())
            .map(|column| TOP + (tallest - self.in_column(column)) * (NODE_HEIGHT + GAP) / 2)
            .collect();
        let place = |node: &Node| {
            let y = next.get_mut(node.column).map_or(TOP, |next| {
                *next += NODE_HEIGHT + GAP;
                *next - NODE_HEIGHT - GAP
            });
            (self.left(node.column), y)
        };
        self.nodes.iter().map(place).collect()
    }
}

fn drawn(node: &Node, (x, y): (usize, usize), width: usize) -> Markup {
    let Node { label, note, href, class, .. } = node;
    let body = html! {
        @if label.chars().count() > LETTERS { title { (label) } }
        rect class={ "node " (class) } x=(x) y=(y) width=(width) height=(NODE_HEIGHT) rx="8" {}
        text x=(x + 10) y=(y + 20) { (shortened(label)) }
        @if !note.is_empty() { text .soft x=(x + width - 9) y=(y + 19) text-anchor="end" { (note) } }
    };
    html! {
        @if href.is_empty() { g { (body) } } @else { a href=(href) { (body) } }
    }
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(LETTERS) {
        None => label.to_owned(),
        Some((end, _)) => format!("{}…", label.get(..end).unwrap_or_default()),
    }
}

/// What the lines mean.
pub(super) fn legend() -> Markup {
    let line = |class: &str| {
        html! { svg .key viewBox="0 0 36 10" aria-hidden="true" { line class={ "edge " (class) } x1="1" y1="5" x2="35" y2="5" {} } }
    };
    html! {
        ul .legend {
            li { (line("used")) "may, and did" }
            li { (line("unused")) "may, and didn’t" }
            li { (line("passed")) "may not, and a mode let it pass" }
        }
    }
}
