//! Paints a laid-out figure onto a canvas: seaborn's "ticks" style.

use super::PlotError;
use super::canvas::{Anchor, Canvas, Face, Font, Pen, Rgb, text_width};
use super::figure::{BoxStats, FAINT, Figure, INK, Key, KeyKind, Mark, Marker, ON_COLOR, PAPER, Point, RED, RULE};
use super::layout::{
    ALARM_SIZE, EXPONENT, LABEL_SIZE, Layout, MINOR_TICK, NOTE_SIZE, Placed, Rect, TICK, TICK_PAD, TICK_SIZE, layout,
    power_text,
};
use super::scale::{Label, Tick};

const FRAME: f64 = 1.25;
const BAR_TEXT: f64 = 8.0;
const KEY_LENGTH: f64 = 22.0;
const KEY_GAP: f64 = 8.8;

/// The SVG's drawing and its spots.
pub struct Painted {
    /// plotters' SVG text.
    pub svg: String,
    /// Elements that show a value when pointed at.
    pub spots: String,
    /// Points.
    pub width: f64,
    /// Points.
    pub height: f64,
}

/// Draws `figure`.
///
/// # Errors
/// [`PlotError::Draw`].
pub fn paint(figure: &Figure) -> Result<Painted, PlotError> {
    let mut plan = layout(figure, false);
    let mut legend = legend_corner(figure, &plan);
    if legend.is_none() && !figure.keys.is_empty() {
        plan = layout(figure, true);
        legend = None;
    }
    let mut svg = String::with_capacity(64 << 10);
    let mut canvas = Canvas::new(&mut svg, plan.width, plan.height);
    canvas.rectangle((0.0, 0.0), (plan.width, plan.height), PAPER, 1.0);
    for placed in &plan.panels {
        placed.panel.marks.iter().for_each(|mark| areas(&mut canvas, placed, mark));
        placed.panel.marks.iter().for_each(|mark| lines(&mut canvas, placed, mark));
        point_labels(&mut canvas, placed);
        frame(&mut canvas, placed);
    }
    texts(&mut canvas, &plan);
    match (legend, plan.legend_row) {
        (Some(area), _) => legend_box(&mut canvas, &figure.keys, area),
        (None, Some(at)) => legend_line(&mut canvas, &figure.keys, at),
        (None, None) => {}
    }
    let spots = canvas.finish()?;
    Ok(Painted { spots, width: plan.width, height: plan.height, svg })
}

fn x_of(placed: &Placed<'_>, x: f64) -> f64 {
    placed.area.x + placed.area.width * placed.panel.x.scale.clamped(x)
}

fn y_of(placed: &Placed<'_>, y: f64) -> f64 {
    placed.area.bottom() - placed.area.height * placed.panel.y.scale.clamped(y)
}

fn font(size: f64, color: Rgb) -> Font {
    Font { size, face: Face::Normal, color }
}

/// Four spines, ticks and tick labels.
fn frame(canvas: &mut Canvas<'_>, placed: &Placed<'_>) {
    let Rect { x, y, .. } = placed.area;
    let (right, bottom, pen, half) = (placed.area.right(), placed.area.bottom(), Pen::new(INK, FRAME), FRAME / 2.0);
    for (from, to) in [
        ((x - half, y), (right + half, y)),
        ((x - half, bottom), (right + half, bottom)),
        ((x, y - half), (x, bottom + half)),
        ((right, y - half), (right, bottom + half)),
    ] {
        canvas.line(&[from, to], pen);
    }
    for tick in &placed.x_ticks {
        let at = x_of(placed, tick.at);
        let (length, width) = tick_form(tick);
        canvas.line(&[(at, bottom), (at, bottom + length)], Pen::new(INK, width));
        if placed.x_labels {
            let baseline = bottom + TICK + TICK_PAD + TICK_SIZE * 0.76;
            tick_label(canvas, &tick.label, (at, baseline), Anchor::Middle, placed.x_size);
        }
    }
    for tick in &placed.y_ticks {
        let at = y_of(placed, tick.at);
        let (length, width) = tick_form(tick);
        let (from, sign, anchor) =
            if placed.panel.right { (right, 1.0, Anchor::Left) } else { (x, -1.0, Anchor::Right) };
        canvas.line(&[(from, at), (from + sign * length, at)], Pen::new(INK, width));
        let label_at = (from + sign * (TICK + TICK_PAD), at + TICK_SIZE * 0.365);
        tick_label(canvas, &tick.label, label_at, anchor, TICK_SIZE);
    }
}

fn tick_form(tick: &Tick) -> (f64, f64) {
    if tick.label == Label::None { (MINOR_TICK, 0.8) } else { (TICK, FRAME) }
}

/// A tick's label; a power of ten gets a raised exponent.
fn tick_label(canvas: &mut Canvas<'_>, label: &Label, (x, y): (f64, f64), anchor: Anchor, size: f64) {
    match label {
        Label::None => {}
        Label::Text(text) => canvas.text(text, (x, y), anchor, font(size, INK)),
        Label::Power(k) => {
            let (exponent, small) = (power_text(*k), size * EXPONENT);
            let (base_width, exponent_width) =
                (text_width("10", size, Face::Normal), text_width(&exponent, small, Face::Normal));
            let left = match anchor {
                Anchor::Left => x,
                Anchor::Middle => x - (base_width + exponent_width) / 2.0,
                Anchor::Right => x - base_width - exponent_width,
            };
            canvas.text("10", (left, y), Anchor::Left, font(size, INK));
            canvas.text(&exponent, (left + base_width, y - size * 0.38), Anchor::Left, font(small, INK));
        }
    }
}

fn texts(canvas: &mut Canvas<'_>, plan: &Layout<'_>) {
    for title in &plan.titles {
        let oblique = Font { size: LABEL_SIZE, face: Face::Italic, color: INK };
        canvas.text(&title.text, title.at, Anchor::Left, oblique);
    }
    for label in &plan.labels {
        if label.upwards {
            canvas.text_upwards(&label.text, label.at, font(LABEL_SIZE, INK));
        } else {
            canvas.text(&label.text, label.at, Anchor::Middle, font(LABEL_SIZE, INK));
        }
    }
    for alarm in &plan.alarm {
        let loud = Font { size: ALARM_SIZE, face: Face::Normal, color: RED };
        canvas.text(&alarm.text, alarm.at, Anchor::Left, loud);
    }
    for note in &plan.notes {
        canvas.text(&note.text, note.at, Anchor::Left, font(NOTE_SIZE, FAINT));
    }
}

/// What lies at the back: bands, bars and boxes.
fn areas(canvas: &mut Canvas<'_>, placed: &Placed<'_>, mark: &Mark) {
    match mark {
        Mark::Band { points, color } => {
            let upper = points.iter().map(|(x, _, high)| (x_of(placed, *x), y_of(placed, *high)));
            let lower = points.iter().rev().map(|(x, low, _)| (x_of(placed, *x), y_of(placed, *low)));
            let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
            canvas.polygon(&outline, *color, 0.25);
        }
        Mark::Bar { .. } => bar(canvas, placed, mark),
        Mark::Box { x, width, stats, color, hover } => box_plot(canvas, placed, (*x, *width), stats, *color, hover),
        Mark::Line { .. } | Mark::Across { .. } => {}
    }
}

fn bar(canvas: &mut Canvas<'_>, placed: &Placed<'_>, mark: &Mark) {
    let Mark::Bar { x, width, from, to, color, over, interval, text, hover } = mark else { return };
    let share = if *over { 0.6 } else { 1.0 };
    let (left, right) = (x_of(placed, x - share * width / 2.0), x_of(placed, x + share * width / 2.0));
    let (start, end, middle) = (y_of(placed, *from), y_of(placed, *to), x_of(placed, *x));
    canvas.rectangle((left, start), (right, end), *color, if *over { 0.85 } else { 1.0 });
    // The white seam that keeps stacked bars apart.
    let seam = Pen::new(PAPER, 1.0);
    for line in [[(left, start), (right, start)], [(left, end), (right, end)]] {
        canvas.line(&line, seam);
    }
    canvas.spot_area((left, start), (right, end), hover);
    if text.is_empty() {
        return;
    }
    let fits = (start - end).abs() > BAR_TEXT * 1.4 && text_width(text, BAR_TEXT, Face::Bold) < right - left;
    let bold = |color| Font { size: BAR_TEXT, face: Face::Bold, color };
    if *from == 0.0 && fits {
        let at = (middle, (start + end) / 2.0 + BAR_TEXT * 0.36);
        canvas.text(text, at, Anchor::Middle, bold(ON_COLOR));
    } else {
        let top = interval.map_or(end, |_| end.min(y_of(placed, highest(placed, *x))));
        let at = if *to < 0.0 { end.max(start) + BAR_TEXT } else { top.min(start) - 2.5 };
        canvas.text(text, (middle, at.max(placed.area.y + BAR_TEXT)), Anchor::Middle, bold(INK));
    }
}

/// The highest end of a whisker of the bars at `x`.
fn highest(placed: &Placed<'_>, x: f64) -> f64 {
    let high = |mark: &Mark| match mark {
        Mark::Bar { x: at, interval: Some((_, high)), .. } if *at == x => Some(*high),
        _ => None,
    };
    placed.panel.marks.iter().filter_map(high).fold(f64::NEG_INFINITY, f64::max)
}

/// An interval as a thin line with two caps.
fn whisker(canvas: &mut Canvas<'_>, placed: &Placed<'_>, x: f64, (low, high): (f64, f64), color: Rgb) {
    let (x, low, high, pen) = (x_of(placed, x), y_of(placed, low), y_of(placed, high), Pen::new(color, 1.0));
    if (low - high).abs() < 1.5 {
        return;
    }
    canvas.line(&[(x, low), (x, high)], pen);
    for y in [low, high] {
        canvas.line(&[(x - 2.5, y), (x + 2.5, y)], pen);
    }
}

fn box_plot(
    canvas: &mut Canvas<'_>,
    placed: &Placed<'_>,
    (x, width): (f64, f64),
    stats: &BoxStats,
    color: Rgb,
    hover: &str,
) {
    let (left, right, middle) = (x_of(placed, x - width / 2.0), x_of(placed, x + width / 2.0), x_of(placed, x));
    let (q1, q3) = (y_of(placed, stats.q1), y_of(placed, stats.q3));
    let pen = Pen::new(INK, 1.2);
    canvas.rectangle((left, q1), (right, q3), color, 1.0);
    for line in [
        [(left, q1), (right, q1)],
        [(left, q3), (right, q3)],
        [(left, q1 + 0.6), (left, q3 - 0.6)],
        [(right, q1 + 0.6), (right, q3 - 0.6)],
    ] {
        canvas.line(&line, pen);
    }
    for (quartile, end) in [(q1, stats.low), (q3, stats.high)] {
        let end = y_of(placed, end);
        canvas.line(&[(middle, quartile), (middle, end)], pen);
        let cap = (right - left) / 4.0;
        canvas.line(&[(middle - cap, end), (middle + cap, end)], pen);
    }
    let median = y_of(placed, stats.median);
    canvas.line(&[(left, median), (right, median)], Pen::new(PAPER, 2.4));
    canvas.line(&[(left, median), (right, median)], Pen::new(INK, 1.6));
    let mean = y_of(placed, stats.mean);
    let diamond = |r: f64| [(middle, mean - r), (middle + r, mean), (middle, mean + r), (middle - r, mean)];
    canvas.polygon(&diamond(4.2), INK, 1.0);
    canvas.polygon(&diamond(2.9), PAPER, 1.0);
    for outlier in &stats.outliers {
        canvas.disc((middle, y_of(placed, *outlier)), 2.0, INK);
    }
    canvas.spot_area((left, y_of(placed, stats.low) + 2.0), (right, y_of(placed, stats.high) - 2.0), hover);
}

/// What lies in front: lines with their markers and labels, and the whiskers of bars.
fn lines(canvas: &mut Canvas<'_>, placed: &Placed<'_>, mark: &Mark) {
    match mark {
        Mark::Across { y, color } => {
            let y = y_of(placed, *y);
            canvas.line(&[(placed.area.x, y), (placed.area.right(), y)], Pen::new(*color, 0.8));
        }
        Mark::Line { points, color, width, marker, dashed } => {
            let at: Vec<(f64, f64)> = points.iter().map(|p| (x_of(placed, p.x), y_of(placed, p.y))).collect();
            if *width > 0.0 {
                let dash = dashed.then_some((width * 3.0, width * 1.6));
                canvas.line(&at, Pen { dash, ..Pen::new(*color, *width) });
            }
            for (point, at) in points.iter().zip(&at) {
                if let Some(interval) = point.interval {
                    whisker(canvas, placed, point.x, interval, *color);
                }
                draw_marker(canvas, *marker, *at, *color);
                if !point.hover.is_empty() {
                    canvas.spot(*at, 5.0, &point.hover);
                }
            }
        }
        Mark::Bar { x, interval: Some((low, high)), .. } if high > low => {
            whisker(canvas, placed, *x, (*low, *high), INK);
        }
        Mark::Band { .. } | Mark::Bar { .. } | Mark::Box { .. } => {}
    }
}

/// Size of the small texts beside points.
const POINT_TEXT: f64 = 7.5;

/// Writes the small texts beside points where they cover neither each other nor a point, a whisker or a line; those
/// without such a place are left out (pointing at the point still shows its values).
fn point_labels(canvas: &mut Canvas<'_>, placed: &Placed<'_>) {
    let mut taken: Vec<Rect> = Vec::new();
    let mut lines: Vec<[(f64, f64); 2]> = Vec::new();
    let mut wanted: Vec<(&Point, (f64, f64), Rgb)> = Vec::new();
    for mark in &placed.panel.marks {
        let Mark::Line { points, color, .. } = mark else { continue };
        let at: Vec<(f64, f64)> = points.iter().map(|p| (x_of(placed, p.x), y_of(placed, p.y))).collect();
        lines.extend(at.windows(2).map(|pair| [pair[0], pair[1]]));
        for (point, (x, y)) in points.iter().zip(at).filter(|(point, _)| !point.label.is_empty()) {
            taken.push(Rect { x: x - 3.5, y: y - 3.5, width: 7.0, height: 7.0 });
            let (top, bottom) = whisker_ends(placed, point);
            taken.push(Rect { x: x - 2.5, y: top, width: 5.0, height: bottom - top });
            wanted.push((point, (x, y), *color));
        }
    }
    let area = placed.area;
    for (point, (x, y), color) in wanted {
        let free = label_places(placed, point, (x, y)).into_iter().find(|rect| {
            rect.x > area.x + 1.0
                && rect.right() < area.right() - 1.0
                && rect.y > area.y + 1.0
                && rect.bottom() < area.bottom() - 1.0
                && taken.iter().all(|other| !touch(rect, other))
                && lines.iter().all(|line| !crosses(rect, line))
        });
        if let Some(rect) = free {
            canvas.text(&point.label, (rect.x, rect.bottom()), Anchor::Left, font(POINT_TEXT, color));
            taken.push(rect);
        }
    }
}

/// Upper and lower end of what is drawn at a point.
fn whisker_ends(placed: &Placed<'_>, point: &Point) -> (f64, f64) {
    let y = y_of(placed, point.y);
    point.interval.map_or((y, y), |(low, high)| (y_of(placed, high).min(y), y_of(placed, low).max(y)))
}

/// Where the text of a point may be, best first: above, below, a line further, beside.
fn label_places(placed: &Placed<'_>, point: &Point, (x, y): (f64, f64)) -> [Rect; 6] {
    let (width, height) = (text_width(&point.label, POINT_TEXT, Face::Normal), POINT_TEXT * 0.76);
    let (top, bottom) = whisker_ends(placed, point);
    let (centred, further) = (x - width / 2.0, height + 3.0);
    let places = [
        (centred, top - 5.5 - height),
        (centred, bottom + 5.5),
        (centred, top - 5.5 - height - further),
        (centred, bottom + 5.5 + further),
        (x + 6.0, y - height / 2.0),
        (x - 6.0 - width, y - height / 2.0),
    ];
    places.map(|(x, y)| Rect { x, y, width, height })
}

/// Whether a thick line from `a` to `b` runs through `rect`.
fn crosses(rect: &Rect, [a, b]: &[(f64, f64); 2]) -> bool {
    const HALF: f64 = 2.0;
    let (from, to) = (a.0.max(rect.x).min(rect.right()), b.0.max(rect.x).min(rect.right()));
    let beside = a.0.max(b.0) < rect.x - HALF || a.0.min(b.0) > rect.right() + HALF;
    if beside {
        return false;
    }
    let at = |x: f64| if a.0 == b.0 { None } else { Some(a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0)) };
    let (start, end) = (at(from).unwrap_or(a.1), at(to).unwrap_or(b.1));
    start.max(end) > rect.y - HALF && start.min(end) < rect.bottom() + HALF
}

fn touch(a: &Rect, b: &Rect) -> bool {
    a.x < b.right() + 1.0 && b.x < a.right() + 1.0 && a.y < b.bottom() + 1.0 && b.y < a.bottom() + 1.0
}

/// A marker with seaborn's white edge.
fn draw_marker(canvas: &mut Canvas<'_>, marker: Marker, (x, y): (f64, f64), color: Rgb) {
    match marker {
        Marker::None => {}
        Marker::Disc => {
            canvas.disc((x, y), 3.7, PAPER);
            canvas.disc((x, y), 3.0, color);
        }
        Marker::Cross => {
            canvas.polygon(&cross((x, y), 3.9, 1.9), PAPER, 1.0);
            canvas.polygon(&cross((x, y), 3.0, 1.3), color, 1.0);
        }
    }
}

/// The outline of an x: `reach` from its middle to the corner of an arm's end, arms `2 thick * sqrt(2)` wide at the ends.
fn cross((x, y): (f64, f64), reach: f64, thick: f64) -> Vec<(f64, f64)> {
    let (r, t) = (reach, thick);
    let arm = [(r - t, -r), (r, t - r), (t, 0.0), (r, r - t), (r - t, r), (0.0, t)];
    let other = arm.map(|(dx, dy)| (-dx, -dy));
    arm.into_iter().chain(other).map(|(dx, dy)| (x + dx, y + dy)).collect()
}

/// Where a legend fits inside the first panel without covering anything; `None` when nowhere.
fn legend_corner(figure: &Figure, plan: &Layout<'_>) -> Option<Rect> {
    let placed = plan.panels.first()?;
    if figure.keys.is_empty() {
        return None;
    }
    let width = figure.keys.iter().map(|key| text_width(&key.label, TICK_SIZE, Face::Normal)).fold(0.0, f64::max)
        + KEY_LENGTH
        + KEY_GAP
        + 2.0 * 5.0;
    let height = figure.keys.len() as f64 * TICK_SIZE * 1.65 + 3.0;
    let (inset, area) = (6.0, placed.area);
    if width > area.width * 0.6 || height > area.height * 0.8 {
        return None;
    }
    let (left, right) = (area.x + inset, area.right() - inset - width);
    let (top, bottom, middle) = (area.y + inset, area.bottom() - inset - height, area.y + (area.height - height) / 2.0);
    let places = [(left, top), (right, top), (right, bottom), (left, bottom), (left, middle), (right, middle)];
    let rects = places.map(|(x, y)| Rect { x, y, width, height });
    rects.into_iter().find(|rect| placed.panel.marks.iter().all(|mark| !covers(placed, mark, *rect)))
}

/// Whether `rect`, slightly grown, would cover a part of `mark`.
fn covers(placed: &Placed<'_>, mark: &Mark, rect: Rect) -> bool {
    let grow = 4.0;
    let inside =
        |x: f64, y: f64| x > rect.x - grow && x < rect.right() + grow && y > rect.y - grow && y < rect.bottom() + grow;
    let overlaps = |left: f64, right: f64, top: f64, bottom: f64| {
        right > rect.x - grow && left < rect.right() + grow && bottom > rect.y - grow && top < rect.bottom() + grow
    };
    match mark {
        Mark::Line { points, .. } => {
            let at = |p: &Point| (x_of(placed, p.x), y_of(placed, p.y));
            let alone = points.iter().map(at).any(|(x, y)| inside(x, y));
            let whisker = |p: &Point| {
                let x = x_of(placed, p.x);
                p.interval.is_some_and(|(low, high)| overlaps(x, x, y_of(placed, high), y_of(placed, low)))
            };
            alone
                || points.iter().any(whisker)
                || points.windows(2).any(|pair| {
                    let ((x0, y0), (x1, y1)) = (at(&pair[0]), at(&pair[1]));
                    (0..=64).map(|i| f64::from(i) / 64.0).any(|t| inside(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t))
                })
        }
        Mark::Band { points, .. } => points.iter().any(|(x, low, high)| {
            let x = x_of(placed, *x);
            overlaps(x, x, y_of(placed, *high), y_of(placed, *low))
        }),
        Mark::Bar { x, width, from, to, .. } => {
            let (a, b) = (y_of(placed, *from), y_of(placed, *to));
            overlaps(x_of(placed, x - width / 2.0), x_of(placed, x + width / 2.0), a.min(b) - 14.0, a.max(b))
        }
        Mark::Box { x, width, stats, .. } => {
            let highest = stats.outliers.iter().copied().fold(stats.high, f64::max);
            let lowest = stats.outliers.iter().copied().fold(stats.low, f64::min);
            let (left, right) = (x_of(placed, x - width / 2.0), x_of(placed, x + width / 2.0));
            overlaps(left, right, y_of(placed, highest), y_of(placed, lowest))
        }
        Mark::Across { .. } => false,
    }
}

/// The legend in its frame.
fn legend_box(canvas: &mut Canvas<'_>, keys: &[Key], area: Rect) {
    canvas.rectangle((area.x, area.y), (area.right(), area.bottom()), PAPER, 0.8);
    let pen = Pen::new(RULE, 1.0);
    let (x, y, right, bottom) = (area.x, area.y, area.right(), area.bottom());
    for line in
        [[(x, y), (right, y)], [(x, bottom), (right, bottom)], [(x, y), (x, bottom)], [(right, y), (right, bottom)]]
    {
        canvas.line(&line, pen);
    }
    for (row, key) in keys.iter().enumerate() {
        let middle = y + 1.5 + TICK_SIZE * 1.65 * (row as f64 + 0.5);
        draw_key(canvas, key, (x + 5.0, middle));
        let at = (x + 5.0 + KEY_LENGTH + KEY_GAP, middle + TICK_SIZE * 0.365);
        canvas.text(&key.label, at, Anchor::Left, font(TICK_SIZE, INK));
    }
}

/// The legend in one line above the panels.
fn legend_line(canvas: &mut Canvas<'_>, keys: &[Key], (mut x, y): (f64, f64)) {
    for key in keys {
        draw_key(canvas, key, (x, y - TICK_SIZE * 0.365));
        x += KEY_LENGTH + KEY_GAP * 0.7;
        canvas.text(&key.label, (x, y), Anchor::Left, font(TICK_SIZE, INK));
        x += text_width(&key.label, TICK_SIZE, Face::Normal) + 16.0;
    }
}

fn draw_key(canvas: &mut Canvas<'_>, key: &Key, (x, y): (f64, f64)) {
    let line = [(x, y), (x + KEY_LENGTH, y)];
    match key.kind {
        KeyKind::Line(marker) => {
            canvas.line(&line, Pen::new(key.color, 3.0));
            draw_marker(canvas, marker, (x + KEY_LENGTH / 2.0, y), key.color);
        }
        KeyKind::Dashed => canvas.line(&line, Pen { dash: Some((5.0, 3.0)), ..Pen::new(key.color, 1.5) }),
        KeyKind::Patch => canvas.rectangle((x, y - 3.85), (x + KEY_LENGTH, y + 3.85), key.color, 1.0),
        KeyKind::Band => canvas.rectangle((x, y - 3.85), (x + KEY_LENGTH, y + 3.85), key.color, 0.25),
    }
}
