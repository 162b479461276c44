//! The figures as a page with plots that opens without a network: everything is in the one file.

use std::{fmt::Write as _, ops::Range};

use anyhow::anyhow;
use plotters::{
    backend::{DrawingBackend, SVGBackend},
    chart::ChartBuilder,
    drawing::{DrawingAreaErrorKind, IntoDrawingArea as _},
    element::Circle,
    series::LineSeries,
    style::{Color as _, IntoFont as _, RGBColor, WHITE},
};

use super::{
    case::Load,
    milestones::STAGES,
    report::{CaseResult, Report},
};

/// Width and height of a plot, in its own pixels; two of them stand beside each other.
const PLOT: (u32, u32) = (560, 340);

/// Told apart by people who see colours otherwise, too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;color:#222;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}pre{overflow-x:auto;font-size:.75rem;line-height:1.25}\
svg{max-width:100%;height:auto}.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(24rem,1fr));gap:1rem 2rem}\
.plots h3{font-size:1rem;font-weight:600;margin:.5rem 0}.bar{display:flex;height:1.6rem;border-radius:.25rem;overflow:hidden;margin:.2rem 0 1rem}\
.bar span{display:block}.key{display:flex;gap:1.2rem;flex-wrap:wrap;font-size:.9rem}\
.key i{display:inline-block;width:.9rem;height:.9rem;border-radius:.2rem;margin-right:.4rem;vertical-align:-.1rem}\
.note{color:#555}@media(prefers-color-scheme:dark){body{background:#fafafa}}";

/// Points that belong together, under their name.
type Line = (String, Vec<(f64, f64)>);

/// Lines that are compared, in a plot of their own under its name.
type Panel = (String, Vec<Line>);

/// The whole page.
///
/// # Errors
/// When a plot cannot be drawn.
pub(super) fn page(report: &Report) -> anyhow::Result<String> {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Checkout bench</title><style>{STYLE}</style>\
         <h1>How fast the checkout is</h1><p class=\"note\">One unit of work: start → stock reserved → payment session \
         opened → the client has it → paid → settled. Every figure names its durability: <em>sync always</em> survives a \
         power cut. Where nothing else is said nats-server stages batches in memory, as with <code>cargo run</code>; they \
         are acknowledged when they are synced.</p>"
    );
    section(&mut page, "Settled checkouts per second", &throughput(report)?);
    let title = "From start to payment session: within how many milliseconds which share of the customers is served";
    section(&mut page, title, &distributions(report)?);
    section(&mut page, "Where the time of a checkout goes", &stages(report));
    let table = escaped(&report.to_text());
    section(&mut page, "Everything", &format!("<pre>{table}</pre>"));
    page += "</html>\n";
    Ok(page)
}

fn section(page: &mut String, title: &str, body: &str) {
    // Writing into a string cannot fail.
    let _ = write!(page, "<section><h2>{title}</h2>{body}</section>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Put points into the line and the panel that they belong to, in the order in which they come.
fn put(panels: &mut Vec<Panel>, panel: String, line: String, points: impl IntoIterator<Item = (f64, f64)>) {
    let (_, lines) = entry(panels, panel);
    let (_, known) = entry(lines, line);
    known.extend(points);
}

fn entry<T: Default>(all: &mut Vec<(String, T)>, name: String) -> &mut (String, T) {
    let place = all.iter().position(|(known, _)| *known == name).unwrap_or(all.len());
    if place == all.len() {
        all.push((name, T::default()));
    }
    &mut all[place]
}

/// How checkouts came in, and what a power cut does to them.
fn way(result: &CaseResult) -> String {
    let case = &result.case;
    let load = match case.load {
        Load::InFlight(_) => "",
        Load::PerSecond(_) => ", open loop",
    };
    format!("{}, sync {}{load}", case.mode_word(), case.sync.as_str())
}

#[allow(clippy::float_arithmetic, reason = "a place on a plot, not money")]
fn throughput(report: &Report) -> anyhow::Result<String> {
    let mut panels = Vec::new();
    for result in &report.cases {
        let (Load::InFlight(load) | Load::PerSecond(load)) = result.case.load;
        let point = (f64::from(load).log10(), result.middle().per_second());
        put(&mut panels, way(result), result.case.shop(), [point]);
    }
    plots(&panels, |lines| {
        let most = heights(lines).fold(1.0, f64::max);
        Axes {
            across: "in flight (or started per second)",
            // A mark for each power of ten.
            across_marks: 4,
            across_mark: |load| format!("{:.0}", 10_f64.powf(*load)),
            up: "checkouts/s",
            up_range: 0.0..most * 1.05,
            up_mark: |speed| format!("{speed:.0}"),
        }
    })
}

/// Over the number of nines, so that the slow tail is not squeezed into the margin.
#[allow(clippy::float_arithmetic, reason = "a place on a plot, not money")]
fn distributions(report: &Report) -> anyhow::Result<String> {
    let nines = |share: f64| -(1.0 - share).log10();
    let mut panels = Vec::new();
    for result in &report.cases {
        let points = result.middle().to_session().distribution.iter().filter(|(share, _)| *share < 1.0);
        // A thousandth of a millisecond is the least that is measured.
        let points = points.map(|(share, ms)| (nines(*share), ms.max(0.001).log10()));
        put(&mut panels, format!("{}, {}", way(result), result.case.shop()), result.case.load.to_string(), points);
    }
    plots(&panels, |lines| {
        let (least, most) = (heights(lines).fold(3.0, f64::min), heights(lines).fold(0.0, f64::max));
        Axes {
            across: "nines: 1 is 90 % of the customers, 2 is 99 %, 3 is 99.9 %",
            across_marks: 6,
            across_mark: |nines| format!("{nines:.1}"),
            up: "ms",
            up_range: least - 0.1..most + 0.1,
            up_mark: |ms| format!("{:.0}", 10_f64.powf(*ms)),
        }
    })
}

fn heights(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|(_, points)| points).map(|point| point.1)
}

fn plots(panels: &[Panel], axes: impl Fn(&[Line]) -> Axes<'static>) -> anyhow::Result<String> {
    let mut text = String::from("<div class=\"plots\">");
    for (name, lines) in panels {
        let _ = write!(text, "<div><h3>{name}</h3>{}</div>", plot(&axes(lines), lines)?);
    }
    text += "</div>";
    Ok(text)
}

/// How a plot's axes are drawn: what is told of them, where they end, and what stands at a mark.
struct Axes<'a> {
    across: &'a str,
    /// About how many marks there are.
    across_marks: usize,
    across_mark: fn(&f64) -> String,
    up: &'a str,
    up_range: Range<f64>,
    up_mark: fn(&f64) -> String,
}

/// Lines, and under the plot which is which.
fn plot(axes: &Axes<'_>, lines: &[Line]) -> anyhow::Result<String> {
    let right = lines.iter().flat_map(|(_, points)| points).map(|point| point.0).fold(1.0, f64::max);
    let mut svg = String::new();
    draw(&mut svg, axes, lines, right).map_err(|error| anyhow!("draw {}: {error}", axes.up))?;
    svg += "<p class=\"key\">";
    for ((name, _), place) in lines.iter().zip(0..) {
        let _ = write!(svg, "<span><i style=\"{}\"></i>{name}</span>", background(place));
    }
    svg += "</p>";
    Ok(svg)
}

fn draw<'svg>(
    svg: &'svg mut String,
    axes: &Axes<'_>,
    lines: &[Line],
    right: f64,
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'svg> as DrawingBackend>::ErrorType>> {
    let area = SVGBackend::with_string(svg, PLOT).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right, axes.up_range.clone())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(("sans-serif", 13).into_font())
        .x_desc(axes.across)
        .x_labels(axes.across_marks)
        .x_label_formatter(&axes.across_mark)
        .y_desc(axes.up)
        .y_label_formatter(&axes.up_mark)
        .draw()?;
    for ((_, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    area.present()
}

fn background(place: usize) -> String {
    let RGBColor(red, green, blue) = COLOURS[place % COLOURS.len()];
    format!("background:rgb({red},{green},{blue})")
}

/// A bar for each case, as long as the page, in the parts of its stages.
#[allow(clippy::float_arithmetic, reason = "a share of a bar, not money")]
fn stages(report: &Report) -> String {
    let mut text = String::from("<p class=\"key\">");
    for (place, stage) in STAGES.iter().enumerate() {
        let _ = write!(text, "<span><i style=\"{}\"></i>until {stage}</span>", background(place));
    }
    text += "</p>";
    for result in &report.cases {
        let stages = result.middle().stages_ms();
        let whole: f64 = stages.iter().sum::<f64>().max(0.001);
        let _ = write!(text, "<div>{}: {whole:.1} ms on the average</div><div class=\"bar\">", result.case);
        for (place, ms) in stages.iter().enumerate() {
            let share = ms / whole * 100.0;
            let title = format!("until {}: {ms:.1} ms", STAGES[place]);
            let _ = write!(text, "<span title=\"{title}\" style=\"width:{share:.1}%;{}\"></span>", background(place));
        }
        text += "</div>";
    }
    text
}
