//! A small writer of SVG: shapes with classes, escaped text, and an estimate of text widths.
//!
//! Colors and fonts are the page's: shapes carry a class, and the style sheet says how it looks in
//! light, in dark and on paper.
//! Left out: anything that a chart of lines, dots and labels does not need.

use std::fmt::Write as _;

/// Where a text is anchored on its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its start.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// One drawing in user units (pixels at full size), growing shape by shape.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// An empty drawing.
    pub fn new(width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            body: String::new(),
        }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        self.push(format_args!(
            r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#
        ));
    }

    /// A rectangle with a tooltip.
    pub fn tipped_rect(
        &mut self,
        class: &str,
        corner: (f64, f64),
        size: (f64, f64),
        tooltip: &str,
    ) {
        let (x, y, width, height) = (px(corner.0), px(corner.1), px(size.0), px(size.1));
        let tooltip = escape(tooltip);
        self.push(format_args!(
            r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"><title>{tooltip}</title></rect>"#
        ));
    }

    /// An arc from one position to another that bows out to the right, with a tooltip.
    pub fn arc(&mut self, class: &str, from: (f64, f64), to: (f64, f64), tooltip: &str) {
        let bow = 12.0 + (to.1 - from.1).abs() / 6.0;
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        let (c1, c2) = (px(from.0 + bow), px(to.0 + bow));
        let tooltip = escape(tooltip);
        self.push(format_args!(
            r#"<path class="{class}" d="M{x1} {y1}C{c1} {y1} {c2} {y2} {x2} {y2}"><title>{tooltip}</title></path>"#
        ));
    }

    /// A rectangle.
    pub fn rect(&mut self, class: &str, corner: (f64, f64), size: (f64, f64)) {
        let (x, y, width, height) = (px(corner.0), px(corner.1), px(size.0), px(size.1));
        self.push(format_args!(
            r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
        ));
    }

    /// A small disk.
    pub fn dot(&mut self, class: &str, at: (f64, f64), radius: f64) {
        let (x, y, r) = (px(at.0), px(at.1), px(radius));
        self.push(format_args!(
            r#"<circle class="{class}" cx="{x}" cy="{y}" r="{r}"/>"#
        ));
    }

    /// Rectangles that look alike, as one shape: corner and size of each.
    pub fn cells(
        &mut self,
        class: &str,
        cells: impl IntoIterator<Item = ((f64, f64), (f64, f64))>,
    ) {
        let mut path = String::new();
        for ((x, y), (width, height)) in cells {
            let (x, y, width, height) = (px(x), px(y), px(width), px(height));
            // Writing to a string cannot fail.
            let _ = write!(path, "M{x} {y}h{width}v{height}h-{width}z");
        }
        if !path.is_empty() {
            self.push(format_args!(r#"<path class="{class}" d="{path}"/>"#));
        }
    }

    /// A mark centered on a position, with a tooltip.
    pub fn mark(&mut self, class: &str, shape: Shape, at: (f64, f64), tooltip: &str) {
        let (x, y) = at;
        let outline = match shape {
            Shape::Circle => format!(
                "M{} {}a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0 -8.4 0Z",
                px(x - 4.2),
                px(y)
            ),
            Shape::Square => format!("M{} {}h8v8h-8Z", px(x - 4.0), px(y - 4.0)),
            Shape::Triangle => format!("M{} {}l5.2 9h-10.4Z", px(x), px(y - 5.4)),
            Shape::Diamond => format!("M{} {}l5.6 5.6l-5.6 5.6l-5.6 -5.6Z", px(x), px(y - 5.6)),
        };
        let tooltip = escape(tooltip);
        self.push(format_args!(
            r#"<path class="{class}" d="{outline}"><title>{tooltip}</title></path>"#
        ));
    }

    /// A line through points; points that are not finite leave a gap.
    pub fn curve(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let path = path_through(points);
        if !path.is_empty() {
            self.push(format_args!(r#"<path class="{class}" d="{path}"/>"#));
        }
    }

    /// The area between a line through points and a horizontal base.
    pub fn area(&mut self, class: &str, points: &[(f64, f64)], base: f64) {
        let points: Vec<(f64, f64)> = points
            .iter()
            .copied()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .collect();
        let Some(first) = points.first() else {
            return;
        };
        let (left, base) = (px(first.0), px(base));
        let path = path_through(points.iter().copied());
        self.push(format_args!(
            r#"<path class="{class}" d="{path}V{base}H{left}Z"/>"#
        ));
    }

    /// A text on one line; `content` is escaped.
    pub fn text(&mut self, class: &str, anchor: Anchor, at: (f64, f64), content: &str) {
        let (x, y, anchor, content) = (px(at.0), px(at.1), anchor.name(), escape(content));
        self.push(format_args!(
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{content}</text>"#
        ));
    }

    /// A text on one line, cut in its middle to `room` pixels, in full in its tooltip.
    pub fn label(&mut self, class: &str, anchor: Anchor, at: (f64, f64), content: &str, room: f64) {
        let (x, y, anchor) = (px(at.0), px(at.1), anchor.name());
        let (shown, full) = (escape(&fit(content, room)), escape(content));
        self.push(format_args!(
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}"><title>{full}</title>{shown}</text>"#
        ));
    }

    /// A text that reads upwards, centered on a position.
    pub fn upward_text(&mut self, class: &str, at: (f64, f64), content: &str) {
        let (x, y, content) = (px(at.0), px(at.1), escape(content));
        self.push(format_args!(
            r#"<text class="{class}" transform="translate({x} {y}) rotate(-90)" text-anchor="middle">{content}</text>"#
        ));
    }

    /// The element, named and described for those who do not see it.
    ///
    /// `id` must be unique on the page, and `class` says on which screens the drawing stands.
    pub fn finish(self, id: &str, class: &str, title: &str, description: &str) -> String {
        let (width, height, body) = (px(self.width), px(self.height), self.body);
        let (title, description) = (escape(title), escape(description));
        format!(
            r#"<svg class="{class}" viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-labelledby="{id}-t {id}-d"><title id="{id}-t">{title}</title><desc id="{id}-d">{description}</desc>{body}</svg>
"#
        )
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(element);
    }
}

/// The outline of a mark; it differs together with the color, for those who do not see colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A circle.
    Circle,
    /// A square.
    Square,
    /// A triangle that points upwards.
    Triangle,
    /// A square on its corner.
    Diamond,
}

/// Escapes text for an element or a quoted attribute of HTML or SVG.
///
/// Control characters, which XML has no way to write, become U+FFFD, and so do the marks that turn
/// the direction of the text that follows.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Escapes text for an element of HTML, with places where a long name may be broken.
pub fn breakable(text: &str) -> String {
    text.split_inclusive(['/', ':', '_', '@'])
        .map(escape)
        .collect::<Vec<_>>()
        .join("<wbr>")
}

/// The width of a text in pixels at the charts' size of 12 pixels, rather too much than too little.
pub fn text_width(text: &str) -> f64 {
    text.chars().map(character_width).sum()
}

fn character_width(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 3.7,
        'f' | 't' | 'r' | 'I' | '-' | ' ' | '(' | ')' | '[' | ']' | '/' => 4.7,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | '…' => 11.2,
        'A'..='Z' | '_' | '+' | '=' | '<' | '>' | '\u{2212}' => 8.6,
        other if other.is_ascii() => 7.2,
        _ => 12.0,
    }
}

/// The text, its middle replaced by an ellipsis if it is wider than `room` pixels.
pub fn fit(text: &str, room: f64) -> String {
    if text_width(text) <= room {
        return text.to_owned();
    }
    let characters: Vec<char> = text.chars().collect();
    let (mut head, mut tail) = (0, characters.len());
    let mut left = room - character_width('…');
    // The end of a name (a file, a variant) tells more than its beginning: it is taken first.
    loop {
        let last = characters[..tail].last().filter(|_| tail > head);
        let Some(width) = last.map(|character| character_width(*character)) else {
            break;
        };
        if width > left {
            break;
        }
        (left, tail) = (left - width, tail - 1);
        let Some(next) = characters.get(head).filter(|_| head < tail) else {
            break;
        };
        if character_width(*next) > left {
            break;
        }
        (left, head) = (left - character_width(*next), head + 1);
    }
    let (start, end): (String, String) = (
        characters[..head].iter().collect(),
        characters[tail..].iter().collect(),
    );
    format!("{start}…{end}")
}

/// A coordinate with one decimal, written as short as it goes.
fn px(value: f64) -> String {
    let written = format!("{value:.1}");
    match written.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => written,
    }
}

fn path_through(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    let mut pen_down = false;
    for (x, y) in points {
        if !(x.is_finite() && y.is_finite()) {
            pen_down = false;
            continue;
        }
        let command = if pen_down { 'L' } else { 'M' };
        let _ = write!(path, "{command}{} {}", px(x), px(y));
        pen_down = true;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_is_escaped() {
        assert_eq!(
            escape("<b a=\"1\">&'\u{7}\u{202e}"),
            "&lt;b a=&quot;1&quot;&gt;&amp;&#39;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn a_long_name_keeps_both_ends_and_fits() {
        let name = "model:runs/quickstart/models/azure-llm-with-a-long-name";
        let shown = fit(name, 100.0);
        assert!(text_width(&shown) <= 100.0, "{shown}");
        assert!(
            shown.starts_with("model:") && shown.ends_with("name"),
            "{shown}"
        );
        assert_eq!(fit("oracle", 100.0), "oracle");
        assert_eq!(fit("oracle", 0.0), "…");
    }

    #[test]
    fn a_value_that_is_absent_leaves_a_gap() {
        let points = [(0.0, 0.0), (1.0, 1.25), (2.0, f64::NAN), (3.0, -0.01)];
        assert_eq!(path_through(points), "M0 0L1 1.2M3 0");
    }
}
