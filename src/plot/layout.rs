//! Where the parts of a figure go: from texts and tick labels to rectangles in points. Pure.

use super::canvas::{Face, text_width};
use super::figure::{Block, Figure, Panel};
use super::scale::{Kind, Label, Tick};

/// Size of tick labels and legend, points.
pub const TICK_SIZE: f64 = 11.0;
/// Size of axis labels and block titles, points.
pub const LABEL_SIZE: f64 = 10.0;
/// Size of the small print, points.
pub const NOTE_SIZE: f64 = 7.0;
/// Size of an alarm, points.
pub const ALARM_SIZE: f64 = 9.0;
/// Length of a major tick.
pub const TICK: f64 = 6.0;
/// Length of a minor tick.
pub const MINOR_TICK: f64 = 3.5;
/// Space between a tick and its label.
pub const TICK_PAD: f64 = 3.5;
/// Size of an exponent over the size of its base.
pub const EXPONENT: f64 = 0.7;

const EDGE: f64 = 7.2;
const LABEL_PAD: f64 = 5.0;
const ROW_GAP: f64 = 11.0;
const TITLE_HEIGHT: f64 = 16.0;
const LINE: f64 = 1.25;
/// Room above a panel without title: half a tick label.
const FRAME_EDGE: f64 = 4.0;

/// A rectangle in points, y downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left.
    pub x: f64,
    /// Top.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Rect {
    /// Right edge.
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// Bottom edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }
}

/// A panel with its place and its ticks.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<'a> {
    /// The panel.
    pub panel: &'a Panel,
    /// Its plot area.
    pub area: Rect,
    /// Ticks along x.
    pub x_ticks: Vec<Tick>,
    /// Ticks along y.
    pub y_ticks: Vec<Tick>,
    /// Whether the labels of x are written here (else they are further down).
    pub x_labels: bool,
    /// Size of those labels.
    pub x_size: f64,
}

/// A text with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedText {
    /// The text.
    pub text: String,
    /// Middle (axis labels) or left end (titles, notes) of its baseline.
    pub at: (f64, f64),
    /// Whether it reads upwards.
    pub upwards: bool,
}

/// Everything with its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout<'a> {
    /// Of the whole picture.
    pub width: f64,
    /// Of the whole picture.
    pub height: f64,
    /// In reading order.
    pub panels: Vec<Placed<'a>>,
    /// Block titles.
    pub titles: Vec<PlacedText>,
    /// Axis labels.
    pub labels: Vec<PlacedText>,
    /// What forbids to use the figure.
    pub alarm: Vec<PlacedText>,
    /// Small print.
    pub notes: Vec<PlacedText>,
    /// Left end and baseline of a legend above everything, when room was made for one.
    pub legend_row: Option<(f64, f64)>,
}

/// Width of a tick's label.
pub fn label_width(label: &Label, size: f64) -> f64 {
    match label {
        Label::None => 0.0,
        Label::Text(text) => text_width(text, size, Face::Normal),
        Label::Power(k) => {
            text_width("10", size, Face::Normal) + text_width(&power_text(*k), size * EXPONENT, Face::Normal)
        }
    }
}

/// An exponent with a true minus sign.
pub fn power_text(k: i32) -> String {
    if k < 0 { format!("\u{2212}{}", -k) } else { k.to_string() }
}

/// The horizontal space that the ticks of a panel's y axis take.
fn tick_space(ticks: &[Tick]) -> f64 {
    TICK + TICK_PAD + ticks.iter().map(|tick| label_width(&tick.label, TICK_SIZE)).fold(0.0, f64::max)
}

/// One column of blocks on its way to places.
struct Column<'a> {
    blocks: Vec<&'a Block>,
    x: f64,
    width: f64,
}

/// Lays `figure` out; `legend_above` makes room for a legend over the panels.
pub fn layout(figure: &Figure, legend_above: bool) -> Layout<'_> {
    let together = figure.together.max(1);
    let groups = figure.blocks.len().div_ceil(together);
    let columns = figure.columns.clamp(1, groups.max(1));
    let rows = groups.div_ceil(columns) * together;
    let width = (figure.width - 2.0 * EDGE) / columns as f64;
    let mut out = Layout { width: figure.width, ..Layout::default() };
    let mut top = EDGE;
    if legend_above {
        out.legend_row = Some((EDGE, top + TICK_SIZE));
        top += TICK_SIZE * 1.9;
    }
    let mut bottom = top;
    for (index, blocks) in figure.blocks.chunks(rows.max(1)).enumerate() {
        let column = Column { blocks: blocks.iter().collect(), x: EDGE + width * index as f64, width };
        bottom = bottom.max(place_column(figure, &column, top, &mut out));
    }
    place_notes(figure, bottom, &mut out);
    out
}

/// Places the blocks of one column below each other; returns the bottom of what it used.
fn place_column<'a>(figure: &'a Figure, column: &Column<'a>, top: f64, out: &mut Layout<'a>) -> f64 {
    let panels = column.blocks.iter().map(|block| block.panels.len()).max().unwrap_or(0);
    let y_ticks: Vec<Vec<Vec<Tick>>> = column.blocks.iter().map(|block| y_ticks(block, figure.panel_height)).collect();
    let spaces: Vec<(f64, f64)> = (0..panels).map(|p| side_space(&column.blocks, &y_ticks, p)).collect();
    let gap = column.width * 0.025;
    let used: f64 = spaces.iter().map(|(left, right)| left + right).sum::<f64>() + gap * (panels.max(1) - 1) as f64;
    let weights: f64 = column.blocks.first().map_or(1.0, |block| block.panels.iter().map(|p| p.weight).sum());
    let unit = (column.width - used - ROW_GAP).max(40.0) / weights;
    let first_panel = out.panels.len();
    let mut y = top + if column.blocks.first().is_some_and(|block| block.title.is_empty()) { FRAME_EDGE } else { 0.0 };
    for (row, block) in column.blocks.iter().enumerate() {
        y += if block.title.is_empty() { 0.0 } else { TITLE_HEIGHT };
        let mut x = column.x;
        for (p, panel) in block.panels.iter().enumerate() {
            let (left, right) = spaces.get(p).copied().unwrap_or_default();
            let area = Rect { x: x + left, y, width: unit * panel.weight, height: figure.panel_height };
            let below = column.blocks.get(row + 1).and_then(|block| block.panels.get(p));
            let x_labels = below.is_none_or(|below| below.x.scale != panel.x.scale);
            out.panels.push(place_panel(panel, area, y_ticks[row][p].clone(), x_labels));
            x = area.right() + right + gap;
        }
        let plot_left = out.panels.get(out.panels.len() - block.panels.len()).map_or(column.x, |placed| placed.area.x);
        let title = PlacedText { text: block.title.clone(), at: (plot_left, y - 4.5), upwards: false };
        out.titles.push(title);
        y += figure.panel_height + ROW_GAP;
        let row_panels = &out.panels[out.panels.len() - block.panels.len()..];
        if row_panels.iter().any(|placed| placed.x_labels) {
            y += TICK + TICK_PAD + TICK_SIZE * 0.6;
        } else if row + 1 < column.blocks.len() {
            y += TICK * 0.4;
        }
        if own_x_label(&column.blocks, row) {
            y += LABEL_SIZE * 1.3;
        }
    }
    place_labels(&column.blocks, &spaces, first_panel, out);
    y - ROW_GAP + LABEL_SIZE * 0.4
}

/// Whether the x labels of a row are written under that row.
fn own_x_label(blocks: &[&Block], row: usize) -> bool {
    let labels = |block: &Block| block.panels.iter().map(|panel| panel.x.label.clone()).collect::<Vec<_>>();
    let here = labels(blocks[row]);
    let written = here.iter().any(|label| !label.is_empty());
    let repeated = blocks.get(row + 1).is_some_and(|below| labels(below) == here);
    written && !repeated
}

/// Ticks of every panel's y axis in a block.
fn y_ticks(block: &Block, height: f64) -> Vec<Vec<Tick>> {
    let room = (height / (TICK_SIZE * 1.8)).floor().max(2.0) as usize;
    block.panels.iter().map(|panel| panel.y.scale.ticks(room.min(9))).collect()
}

/// (left, right) space beside panel `p`, the same for all rows so that plot areas line up.
fn side_space(blocks: &[&Block], ticks: &[Vec<Vec<Tick>>], p: usize) -> (f64, f64) {
    let (mut left, mut right) = (0.0_f64, 0.0_f64);
    for (block, ticks) in blocks.iter().zip(ticks) {
        let (Some(panel), Some(ticks)) = (block.panels.get(p), ticks.get(p)) else { continue };
        let label = if panel.y.label.is_empty() { 0.0 } else { LABEL_SIZE * LINE + LABEL_PAD };
        let space = tick_space(ticks) + label;
        if panel.right { right = right.max(space) } else { left = left.max(space) }
    }
    (left, right)
}

fn place_panel(panel: &Panel, area: Rect, y_ticks: Vec<Tick>, x_labels: bool) -> Placed<'_> {
    let (x_ticks, x_size) = fit_x_ticks(panel, area.width);
    Placed { panel, area, x_ticks, y_ticks, x_labels, x_size }
}

/// Ticks along x whose labels do not touch: fewer of them, or smaller names.
fn fit_x_ticks(panel: &Panel, width: f64) -> (Vec<Tick>, f64) {
    let scale = &panel.x.scale;
    let fits = |ticks: &[Tick], size: f64| {
        let places = ticks.iter().filter(|tick| tick.label != Label::None);
        let spans = places.map(|tick| (scale.fraction(tick.at) * width, label_width(&tick.label, size) / 2.0));
        let spans: Vec<(f64, f64)> = spans.collect();
        spans.windows(2).all(|pair| pair[1].0 - pair[1].1 - (pair[0].0 + pair[0].1) >= size * 0.45)
    };
    if matches!(scale.kind, Kind::Category(_)) {
        let ticks = scale.ticks(2);
        let sizes = [TICK_SIZE, 10.0, 9.0, 8.0, 7.0, 6.0];
        let size = sizes.into_iter().find(|size| fits(&ticks, *size)).unwrap_or(5.5);
        return (ticks, size);
    }
    let most = (width / (TICK_SIZE * 3.0)).floor().clamp(2.0, 9.0) as usize;
    let ticks = (2..=most).rev().map(|room| scale.ticks(room)).find(|ticks| fits(ticks, TICK_SIZE));
    (ticks.unwrap_or_else(|| scale.ticks(2)), TICK_SIZE)
}

/// Writes each axis label once for all panels above each other that share it.
fn place_labels(blocks: &[&Block], spaces: &[(f64, f64)], first: usize, out: &mut Layout<'_>) {
    let mut start = first;
    let mut places: Vec<Vec<usize>> = Vec::new();
    for block in blocks {
        places.push((start..start + block.panels.len()).collect());
        start += block.panels.len();
    }
    for (p, space) in spaces.iter().enumerate() {
        let column: Vec<usize> = places.iter().filter_map(|row| row.get(p).copied()).collect();
        let mut run_start = 0;
        for i in 0..column.len() {
            let label = |i: usize| out.panels[column[i]].panel.y.label.clone();
            let last_of_run = i + 1 == column.len() || label(i + 1) != label(i);
            if last_of_run {
                let (top, bottom) = (out.panels[column[run_start]].area.y, out.panels[column[i]].area.bottom());
                let placed = &out.panels[column[i]];
                let x = if placed.panel.right {
                    placed.area.right() + space.1 - LABEL_SIZE * 0.2
                } else {
                    placed.area.x - space.0 + LABEL_SIZE * 0.8
                };
                let text = PlacedText { text: label(i), at: (x, (top + bottom) / 2.0), upwards: true };
                out.labels.push(text);
                run_start = i + 1;
            }
        }
    }
    for (row, indices) in places.iter().enumerate() {
        if !own_x_label(blocks, row) {
            continue;
        }
        for index in indices {
            let placed = &out.panels[*index];
            let y = placed.area.bottom() + TICK + TICK_PAD + TICK_SIZE + LABEL_SIZE * 1.15;
            let at = (placed.area.x + placed.area.width / 2.0, y);
            let text = PlacedText { text: placed.panel.x.label.clone(), at, upwards: false };
            out.labels.push(text);
        }
    }
    out.labels.retain(|label| !label.text.is_empty());
}

/// Breaks alarm and notes to the figure's width and sets the height.
fn place_notes(figure: &Figure, bottom: f64, out: &mut Layout<'_>) {
    let mut y = bottom;
    if !figure.notes.is_empty() || figure.alarm.is_some() {
        y += NOTE_SIZE * 0.5;
    }
    let width = figure.width - 2.0 * EDGE;
    let mut place = |text: &str, size: f64, to: &mut Vec<PlacedText>| {
        for line in wrap(text, width, size) {
            y += size * 1.35;
            to.push(PlacedText { text: line, at: (EDGE, y), upwards: false });
        }
    };
    if let Some(alarm) = &figure.alarm {
        place(alarm, ALARM_SIZE, &mut out.alarm);
    }
    for note in &figure.notes {
        place(note, NOTE_SIZE, &mut out.notes);
    }
    out.height = y + EDGE;
}

/// Lines no wider than `width`; a single word that is wider stands alone.
fn wrap(text: &str, width: f64, size: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        // A unit stays with its number.
        let breaks = !word.starts_with('%');
        if breaks && !line.is_empty() && text_width(&longer, size, Face::Normal) > width {
            lines.push(std::mem::replace(&mut line, word.to_owned()));
        } else {
            line = longer;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_broken_between_words() {
        let lines = wrap("one two three four five six seven eight", 60.0, 7.0);
        assert!(lines.len() > 1 && lines.iter().all(|line| text_width(line, 7.0, Face::Normal) <= 60.0), "{lines:?}");
        assert_eq!(lines.join(" "), "one two three four five six seven eight");
    }
}
