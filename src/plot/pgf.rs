//! A figure as pgfplots code, to be `\input` into a paper: it is then set in the paper's own fonts.
//!
//! The document needs `\usepackage{pgfplots}`, `\usepgfplotslibrary{groupplots}` and `\pgfplotsset{compat=1.16}`.

use std::fmt::Write as _;

use super::canvas::Rgb;
use super::figure::{
    Axis, BLUE, Block, BoxStats, FAINT, Figure, INK, Key, KeyKind, Mark, Marker, ORANGE, Panel, Point, RED, RULE,
};
use super::scale::{Kind, Label, Scale, Tick};

/// Writes `figure`.
pub fn write(figure: &Figure) -> String {
    let mut tex = String::new();
    // Writing to a string cannot fail.
    header(&mut tex, figure).ok();
    let together = figure.together.max(1);
    let groups = figure.blocks.len().div_ceil(together);
    let columns = figure.columns.clamp(1, groups.max(1));
    let rows = groups.div_ceil(columns) * together;
    let panels = figure.blocks.iter().map(|block| block.panels.len()).max().unwrap_or(1);
    let right = figure.blocks.iter().any(|block| block.panels.iter().any(|panel| panel.right));
    let across = columns * panels;
    // Shares of the line: labels at the left, gaps that hold tick labels where there are some.
    let gap = if right && columns == 1 { 0.03 } else { 0.11 };
    let unit = (0.88 - if right { 0.1 } else { 0.0 } - gap * (across - 1) as f64) / columns as f64;
    writeln!(
        tex,
        "\\begin{{groupplot}}[group style={{group size={} by {rows}, horizontal sep={gap:.2}\\linewidth, \
         vertical sep=0.8cm}},\n  \
         scale only axis, height={:.1}pt, tick align=outside, tick pos=left, title style={{at={{(0,1)}}, \
         anchor=south west, font=\\itshape\\small}}, label style={{font=\\small}}, tick label style={{font=\\small}},\n  \
         legend cell align=left, legend columns=-1, legend style={{font=\\small, draw=none, at={{(1,1)}}, anchor=south east}}]",
        across,
        figure.panel_height
    )
    .ok();
    for row in 0..rows {
        for column in 0..columns {
            let block = figure.blocks.get(column * rows + row);
            for p in 0..panels {
                let panel = block.and_then(|block| Some((block, block.panels.get(p)?)));
                let below = if row + 1 < rows { figure.blocks.get(column * rows + row + 1) } else { None };
                let below = below.and_then(|block| block.panels.get(p));
                let keys = if row == 0 && column == 0 && p == 0 { figure.keys.as_slice() } else { &[] };
                group_plot(&mut tex, panel, below, (p == 0, unit), keys).ok();
            }
        }
    }
    tex.push_str("\\end{groupplot}\n");
    if let Some(alarm) = &figure.alarm {
        let text = escape(alarm);
        let at = "at (current bounding box.south west) [anchor=north west, red, font=\\small]";
        writeln!(tex, "\\node {at} {{{text}}};").ok();
    }
    tex.push_str("\\end{tikzpicture}\n");
    tex
}

fn header(tex: &mut String, figure: &Figure) -> std::fmt::Result {
    writeln!(tex, "% {}", comment(&figure.title))?;
    for note in figure.alarm.iter().chain(&figure.notes) {
        writeln!(tex, "% {}", comment(note))?;
    }
    writeln!(tex, "% needs \\usepackage{{pgfplots}} \\usepgfplotslibrary{{groupplots}} \\pgfplotsset{{compat=1.16}}")?;
    for shade in [INK, FAINT, RULE, BLUE, ORANGE, RED] {
        let Rgb(r, g, b) = shade;
        writeln!(tex, "\\definecolor{{{}}}{{RGB}}{{{r},{g},{b}}}", color(shade))?;
    }
    writeln!(tex, "\\begin{{tikzpicture}}")
}

fn comment(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn group_plot(
    tex: &mut String,
    panel: Option<(&Block, &Panel)>,
    below: Option<&Panel>,
    (first, unit): (bool, f64),
    keys: &[Key],
) -> std::fmt::Result {
    let Some((block, panel)) = panel else { return writeln!(tex, "\\nextgroupplot[group/empty plot]") };
    let weights: f64 = block.panels.iter().map(|panel| panel.weight).sum();
    write!(tex, "\\nextgroupplot[width={:.3}\\linewidth", unit * panel.weight / weights)?;
    if first && !block.title.is_empty() {
        write!(tex, ", title={{{}}}", escape(&block.title))?;
    }
    if panel.right {
        write!(tex, ", yticklabel pos=right, ylabel near ticks")?;
    }
    axis(tex, 'x', &panel.x)?;
    axis(tex, 'y', &panel.y)?;
    // What the panel below repeats is written there.
    if below.is_some_and(|below| below.x.scale == panel.x.scale) {
        write!(tex, ", xticklabels={{}}")?;
    }
    if below.is_some_and(|below| below.x.label == panel.x.label) {
        write!(tex, ", xlabel={{}}")?;
    }
    writeln!(tex, "]")?;
    for mark in &panel.marks {
        area(tex, panel, mark)?;
    }
    for mark in &panel.marks {
        line(tex, panel, mark)?;
    }
    for key in keys {
        legend(tex, key)?;
    }
    Ok(())
}

fn axis(tex: &mut String, name: char, axis: &Axis) -> std::fmt::Result {
    let scale = &axis.scale;
    write!(tex, ",\n  {name}label={{{}}}", escape(&axis.label))?;
    write!(tex, ", {name}min={}, {name}max={}", place(scale, scale.low), place(scale, scale.high))?;
    if scale.kind == Kind::Log {
        write!(tex, ", {name}mode=log")?;
    }
    let ticks: Vec<Tick> = scale.ticks(6).into_iter().filter(|tick| tick.label != Label::None).collect();
    if ticks.iter().any(|tick| matches!(tick.label, Label::Power(_))) {
        return Ok(());
    }
    let at: Vec<String> = ticks.iter().map(|tick| place(scale, tick.at)).collect();
    let labels: Vec<String> = ticks.iter().map(|tick| format!("{{{}}}", label(&tick.label))).collect();
    write!(tex, ", {name}tick={{{}}}, {name}ticklabels={{{}}}", at.join(","), labels.join(","))
}

fn label(label: &Label) -> String {
    match label {
        Label::None => String::new(),
        Label::Text(text) => escape(text),
        Label::Power(k) => format!("$10^{{{k}}}$"),
    }
}

/// A coordinate; shares become numbers of nines, which pgfplots can scale linearly.
fn place(scale: &Scale, value: f64) -> String {
    match scale.kind {
        Kind::Nines => number(-(1.0 - value.clamp(0.0, 1.0 - 1e-12)).log10()),
        _ => number(value),
    }
}

fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The name that the header defines for a colour.
fn color(Rgb(r, g, b): Rgb) -> String {
    format!("maestro{r:02x}{g:02x}{b:02x}")
}

/// `x` and `y` within the panel's limits: nothing is to be drawn beyond the frame.
fn at(panel: &Panel, x: f64, y: f64) -> String {
    let inside = |scale: &Scale, value: f64| place(scale, value.clamp(scale.low, scale.high));
    format!("({},{})", inside(&panel.x.scale, x), inside(&panel.y.scale, y))
}

fn cs(panel: &Panel, x: f64, y: f64) -> String {
    at(panel, x, y).replacen('(', "(axis cs:", 1)
}

fn area(tex: &mut String, panel: &Panel, mark: &Mark) -> std::fmt::Result {
    match mark {
        Mark::Band { points, color: shade } => {
            let upper = points.iter().map(|(x, _, high)| at(panel, *x, *high));
            let lower = points.iter().rev().map(|(x, low, _)| at(panel, *x, *low));
            let outline: Vec<String> = upper.chain(lower).collect();
            let fill = color(*shade);
            writeln!(
                tex,
                "\\addplot[draw=none, fill={fill}, fill opacity=0.25, forget plot] coordinates {{{}}} -- cycle;",
                outline.join(" ")
            )
        }
        Mark::Bar { x, width, from, to, color: fill, over, interval, text, .. } => {
            let half = if *over { 0.3 } else { 0.5 } * width;
            let (a, b) = (cs(panel, x - half, *from), cs(panel, x + half, *to));
            writeln!(tex, "\\fill[{}] {a} rectangle {b};", color(*fill))?;
            if let Some((low, high)) = interval.filter(|(low, high)| high > low) {
                writeln!(tex, "\\draw[|-|] {} -- {};", cs(panel, *x, low), cs(panel, *x, high))?;
            }
            let (node_at, anchor) = match (*from == 0.0, *to < 0.0) {
                (true, _) => (cs(panel, *x, to / 2.0), "center, white"),
                (false, true) => (cs(panel, *x, *to), "north"),
                (false, false) => (cs(panel, *x, interval.map_or(*to, |(_, high)| high.max(*to)).max(*from)), "south"),
            };
            if text.is_empty() {
                return Ok(());
            }
            writeln!(tex, "\\node[anchor={anchor}, font=\\scriptsize\\bfseries] at {node_at} {{{}}};", escape(text))
        }
        Mark::Box { x, width, stats, color: fill, .. } => box_plot(tex, panel, (*x, *width), stats, *fill),
        Mark::Line { .. } | Mark::Across { .. } => Ok(()),
    }
}

fn box_plot(tex: &mut String, panel: &Panel, (x, width): (f64, f64), stats: &BoxStats, fill: Rgb) -> std::fmt::Result {
    let (left, right) = (x - width / 2.0, x + width / 2.0);
    let (a, b) = (cs(panel, left, stats.q1), cs(panel, right, stats.q3));
    writeln!(tex, "\\filldraw[fill={}] {a} rectangle {b};", color(fill))?;
    let lines = [
        ((left, stats.median), (right, stats.median)),
        ((x, stats.q1), (x, stats.low)),
        ((x, stats.q3), (x, stats.high)),
        ((x - width / 4.0, stats.low), (x + width / 4.0, stats.low)),
        ((x - width / 4.0, stats.high), (x + width / 4.0, stats.high)),
    ];
    for (from, to) in lines {
        writeln!(tex, "\\draw {} -- {};", cs(panel, from.0, from.1), cs(panel, to.0, to.1))?;
    }
    for outlier in &stats.outliers {
        writeln!(tex, "\\fill {} circle[radius=1.2pt];", cs(panel, x, *outlier))?;
    }
    Ok(())
}

fn line(tex: &mut String, panel: &Panel, mark: &Mark) -> std::fmt::Result {
    match mark {
        Mark::Line { points, color: stroke, width, marker, dashed } => {
            let dash = if *dashed { ", dashed" } else { "" };
            let (stroke, marker) = (color(*stroke), marker_name(*marker));
            let bars = points.iter().any(|point| point.interval.is_some_and(|(low, high)| high > low));
            let errors = if bars { ", error bars/.cd, y dir=both, y explicit" } else { "" };
            write!(
                tex,
                "\\addplot[{stroke}, line width={:.1}pt, mark={marker}{dash}, forget plot{errors}] ",
                width * 0.6
            )?;
            let places: Vec<String> = points.iter().map(|point| coordinate(panel, point, bars)).collect();
            writeln!(tex, "coordinates {{{}}};", places.join(" "))?;
            for point in points.iter().filter(|point| !point.label.is_empty()) {
                let place = cs(panel, point.x, point.y);
                writeln!(tex, "\\node[anchor=south, font=\\tiny] at {place} {{{}}};", escape(&point.label))?;
            }
            Ok(())
        }
        Mark::Across { y, color: stroke } => {
            let (from, to) = (cs(panel, panel.x.scale.low, *y), cs(panel, panel.x.scale.high, *y));
            writeln!(tex, "\\draw[{}] {from} -- {to};", color(*stroke))
        }
        Mark::Band { .. } | Mark::Bar { .. } | Mark::Box { .. } => Ok(()),
    }
}

fn coordinate(panel: &Panel, point: &Point, bars: bool) -> String {
    let place = at(panel, point.x, point.y);
    match (bars, point.interval) {
        (true, Some((low, high))) => {
            format!("{place} += (0,{}) -= (0,{})", number(high - point.y), number(point.y - low))
        }
        _ => place,
    }
}

fn marker_name(marker: Marker) -> &'static str {
    match marker {
        Marker::None => "none",
        Marker::Disc => "*",
        Marker::Cross => "x",
    }
}

fn legend(tex: &mut String, key: &Key) -> std::fmt::Result {
    let fill = color(key.color);
    match key.kind {
        KeyKind::Line(marker) => {
            writeln!(tex, "\\addlegendimage{{{fill}, line width=1.8pt, mark={}}}", marker_name(marker))?;
        }
        KeyKind::Dashed => writeln!(tex, "\\addlegendimage{{{fill}, dashed}}")?,
        KeyKind::Patch => writeln!(tex, "\\addlegendimage{{area legend, draw=none, fill={fill}}}")?,
        KeyKind::Band => writeln!(tex, "\\addlegendimage{{area legend, draw=none, fill={fill}, fill opacity=0.25}}")?,
    }
    writeln!(tex, "\\addlegendentry{{{}}}", escape(&key.label))
}

/// Text for TeX; the signs that figures use become commands.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '#' | '$' | '%' | '&' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '\u{2192}' => escaped.push_str("$\\rightarrow$"),
            '\u{2248}' => escaped.push_str("$\\approx$"),
            '\u{2212}' => escaped.push_str("$-$"),
            '\u{b1}' => escaped.push_str("$\\pm$"),
            '\u{2013}' => escaped.push_str("--"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_commands() {
        assert_eq!(
            escape("50 % of a_b\\input{x} \u{2192}"),
            "50 \\% of a\\_b\\textbackslash{}input\\{x\\} $\\rightarrow$"
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            (number(1.5), number(-0.0), number(1e-9), number(120.0)),
            ("1.5".into(), "0".into(), "0".into(), "120".into())
        );
    }
}
