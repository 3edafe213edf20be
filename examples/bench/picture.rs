//! The measurements as a page of pictures, for a browser. The page is one file and loads nothing.

use super::Result;
use super::report::{Report, Samples};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// Width and height of a picture, in pixels.
const SIZE: (u32, u32) = (960, 400);
/// Room for the names at the left of a picture.
const NAMES: u32 = 170;
const TEXT: (&str, u32) = ("sans-serif", 14);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the page to `file`.
#[expect(clippy::disallowed_methods, reason = "where the user says")]
pub(super) fn write(file: &Path, report: &Report) -> Result<()> {
    std::fs::write(file, page(report)?).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn page(report: &Report) -> Result<String> {
    let pictures = [
        ("One run of true: every sample is a dot, the bar is the median", draw(|area| runs(report, area))?),
        ("The phases of our run, by their medians", draw(|area| phases(report, area))?),
        ("CPU time of all processes of a run against its wall time", draw(|area| costs(report, area))?),
        ("What grows with the containers that live", draw(|area| alive(report, area))?),
        ("Runs per second from several threads", draw(|area| threads(report, area))?),
    ];
    let figures: String = pictures
        .iter()
        .map(|(title, svg)| format!("<figure><figcaption>{title}</figcaption>{svg}</figure>\n"))
        .collect();
    let table = report.table().replace('&', "&amp;").replace('<', "&lt;");
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>What a container costs</title>\n\
         <style>body {{ font-family: sans-serif; max-width: 60rem; margin: 2rem auto }} figure {{ margin: 2rem 0 }} \
         figcaption {{ font-weight: bold }} svg {{ max-width: 100%; height: auto }}</style></head>\n\
         <body><h1>What a container costs</h1>\n{figures}<pre>{table}</pre></body></html>\n"
    ))
}

fn draw(picture: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    picture(&area)?;
    area.present()?;
    drop(area);
    Ok(svg)
}

/// What took part in the loop of runs: name, samples, and mean CPU time where it was measured.
fn participants(report: &Report) -> Vec<(&'static str, &Samples, f64)> {
    let costs = &report.costs;
    let mut all = vec![
        ("floor", &report.floor, costs.floor.cpu()),
        ("cofferdam", &report.run, costs.run.cpu()),
        ("without an init", &report.run_without_init, costs.run_without_init.cpu()),
        ("with a zygote", &report.forked.run, costs.forked_run.cpu()),
    ];
    let peers = report.peers.iter().filter(|peer| peer.left_out.is_none());
    all.extend(peers.map(|peer| (peer.name, &peer.times, peer.costs.cpu())));
    all
}

/// The range that shows all `values` on a logarithmic axis.
fn range(values: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
    let least = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let most = values.fold(0.0, f64::max);
    if least < most { least / 1.2..most * 1.2 } else { 0.1..1.0 }
}

fn runs(report: &Report, area: &Area<'_>) -> Result<()> {
    let rows = participants(report);
    let times = range(rows.iter().flat_map(|(_, samples, _)| samples.all().iter().copied()));
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(times.log_scale(), rows.len() as f64..0.0)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_desc("ms").draw()?;
    for (row, (name, samples, _)) in rows.iter().enumerate() {
        let middle = row as f64 + 0.5;
        let color = Palette99::pick(row);
        // Next to each other, so that equal times do not hide each other.
        let places = samples.all().iter().enumerate();
        chart.draw_series(places.map(|(number, time)| {
            let beside = (number % 11) as f64 / 11.0 - 0.5;
            Circle::new((*time, middle + beside * 0.6), 2, color.mix(0.4).filled())
        }))?;
        let median = samples.median();
        chart.draw_series([PathElement::new(
            [(median, middle - 0.4), (median, middle + 0.4)],
            BLACK.stroke_width(2),
        )])?;
        let (_, y) = chart.backend_coord(&(median, middle));
        area.draw(&Text::new(*name, (10, y - 7), TEXT))?;
    }
    Ok(())
}

fn phases(report: &Report, area: &Area<'_>) -> Result<()> {
    let phases: Vec<_> = report.phases.medians().collect();
    let sum: f64 = phases.iter().map(|(_, median)| median).sum();
    let mut chart =
        ChartBuilder::on(area).margin(10).x_label_area_size(40).build_cartesian_2d(0.0..sum, 0.0..1.0)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_desc("ms").draw()?;
    let mut from = 0.0;
    for (number, (name, median)) in phases.into_iter().enumerate() {
        let to = from + median;
        let color = Palette99::pick(number).mix(0.7);
        chart
            .draw_series([Rectangle::new([(from, 0.25), (to, 0.75)], color.filled())])?
            .label(format!("{name}: {median:.3} ms"))
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        from = to;
    }
    key(&mut chart, SeriesLabelPosition::UpperLeft)
}

fn costs(report: &Report, area: &Area<'_>) -> Result<()> {
    let rows = participants(report);
    let points: Vec<_> = rows.iter().map(|(name, samples, cpu)| (*name, samples.median(), *cpu)).collect();
    let (wall, cpu) =
        (range(points.iter().map(|(_, wall, _)| *wall)), range(points.iter().map(|(_, _, cpu)| *cpu)));
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(wall.log_scale(), cpu.log_scale())?;
    chart.configure_mesh().x_desc("wall time, ms").y_desc("CPU time, ms").draw()?;
    for (number, (name, wall, cpu)) in points.into_iter().enumerate() {
        let color = Palette99::pick(number);
        chart
            .draw_series([Circle::new((wall, cpu), 6, color.filled())])?
            .label(format!("{name}: {wall:.2} ms, {cpu:.2} ms of CPU"))
            .legend(move |(x, y)| Circle::new((x + 6, y), 5, color.filled()));
    }
    key(&mut chart, SeriesLabelPosition::UpperLeft)
}

fn alive(report: &Report, area: &Area<'_>) -> Result<()> {
    let points = &report.scale.alive;
    let most = points.iter().map(|alive| alive.count as f64).fold(2.0, f64::max);
    let memory =
        points.iter().filter_map(|alive| Some((alive.count as f64, *alive.helpers_pss_mib.as_ref().ok()?)));
    let create = points.iter().map(|alive| (alive.count as f64, alive.create_ms));
    let list = points.iter().map(|alive| (alive.count as f64, alive.list_ms));
    let all = range(memory.clone().chain(create.clone()).chain(list.clone()).map(|(_, value)| value));
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..most).log_scale(), all.log_scale())?;
    chart.configure_mesh().x_desc("containers alive").x_label_formatter(&whole).y_desc("ms, MiB").draw()?;
    curve(&mut chart, "create to running, ms", 0, create)?;
    curve(&mut chart, "list all, ms", 1, list)?;
    curve(&mut chart, "memory of all helpers, PSS, MiB", 2, memory)?;
    key(&mut chart, SeriesLabelPosition::LowerRight)
}

fn threads(report: &Report, area: &Area<'_>) -> Result<()> {
    let points = &report.scale.threads;
    let most = points.iter().map(|threads| threads.count as f64).fold(2.0, f64::max);
    let ours = points.iter().map(|threads| (threads.count as f64, threads.runs_per_second));
    let theirs: Vec<_> = points
        .iter()
        .filter_map(|threads| Some((threads.count as f64, threads.bubblewrap_per_second?)))
        .collect();
    let top = ours.clone().chain(theirs.iter().copied()).map(|(_, rate)| rate).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..most).log_scale().base(2.0), 0.0..top * 1.1)?;
    chart.configure_mesh().x_desc("threads").x_label_formatter(&whole).y_desc("runs per second").draw()?;
    curve(&mut chart, "cofferdam", 0, ours)?;
    if !theirs.is_empty() {
        curve(&mut chart, "bubblewrap", 1, theirs.into_iter())?;
    }
    key(&mut chart, SeriesLabelPosition::UpperLeft)
}

/// A number of containers or threads.
fn whole(count: &f64) -> String {
    format!("{count:.0}")
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// A line through `points`, with a dot at each.
fn curve<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    name: &str,
    number: usize,
    points: impl Iterator<Item = (f64, f64)> + Clone,
) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let color = Palette99::pick(number).to_rgba();
    chart
        .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(4))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
    Ok(())
}

/// The names of what the chart has, in a corner of it.
fn key<'a, 'b: 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>, corner: SeriesLabelPosition) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(corner)
        .label_font(TEXT)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
