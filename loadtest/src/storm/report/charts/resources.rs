//! What it took: memory and processors of the server and of the driver, and the packets of a flood.

use super::{Chart, Key, Reading, absent};
use crate::storm::report::axis::{Scale, amount_label};
use crate::storm::report::plot::{Plot, Size, TIME_AXIS, picture};
use crate::storm::report::timeline::Timeline;
use crate::storm::result::{Run, Second};

/// One line of a chart.
struct Line {
    name: &'static str,
    class: &'static str,
    values: Vec<Option<f64>>,
}

impl Line {
    fn of(
        timeline: &Timeline,
        name: &'static str,
        class: &'static str,
        of: fn(&Second) -> Option<f64>,
    ) -> Self {
        Self { name, class, values: timeline.most(of) }
    }

    fn is_measured(&self) -> bool {
        self.values.iter().any(Option::is_some)
    }
}

/// Memory, processors, lateness of the driver, and a flood if there was one.
pub fn charts(run: &Run, timeline: &Timeline) -> String {
    let memory = [Line::of(timeline, "memory of the server", "l-memory", |second| second.server_rss_mib)];
    let processors = [
        Line::of(timeline, "server", "l-server", |second| second.server_processors),
        Line::of(timeline, "driver", "l-driver", |second| second.driver_processors),
    ];
    let late =
        [Line::of(timeline, "lateness of the driver itself", "l-driver", |second| second.driver_lateness_ms)];
    let mut charts = vec![
        chart(run, timeline, ("Memory of the server", "MiB, resident."), "MiB", &memory),
        chart(
            run,
            timeline,
            ("Processors kept busy", "How many, from the kernel's accounts."),
            "",
            &processors,
        ),
        chart(
            run,
            timeline,
            (
                "How late the driver was itself",
                "Milliseconds, the worst of each second: it is contained in the latencies above.",
            ),
            "ms",
            &late,
        ),
    ];
    if run.plan.flood.is_some() {
        let flood = [Line::of(timeline, "first packets a second", "l-server", |second| {
            second.flood_packets.map(|n| n as f64)
        })];
        charts.push(chart(
            run,
            timeline,
            ("First packets from strangers", "Sent by the driver, a second."),
            "/s",
            &flood,
        ));
    }
    format!("<div class=\"pair\">{}</div>", charts.concat())
}

fn chart(
    run: &Run,
    timeline: &Timeline,
    (title, note): (&str, &str),
    unit: &'static str,
    lines: &[Line],
) -> String {
    let measured: Vec<&Line> = lines.iter().filter(|line| line.is_measured()).collect();
    if measured.is_empty() {
        return absent(title, "Not measured.");
    }
    let chart = Chart {
        title,
        note,
        keys: measured.iter().map(|line| Key::new(line.class, line.name)).collect(),
        readings: measured.iter().map(|line| Reading::measured(line.name, unit, &line.values)).collect(),
    };
    chart.figure(timeline, &drawn(run, timeline, title, &measured))
}

/// Two of these stand side by side, so all are drawn narrow.
fn drawn(run: &Run, timeline: &Timeline, title: &str, lines: &[&Line]) -> String {
    let values = lines.iter().flat_map(|line| line.values.iter().filter_map(|value| *value));
    let span_s = (timeline.from_s, timeline.to_s);
    let plot = Plot::new(Size::Narrow, 8.0, 110.0, span_s, Scale::linear(values));
    let begins_s = timeline.begins_s();
    let step_s = timeline.step as f64;
    let body = [
        plot.storm(f64::from(run.plan.phases.storm_s)),
        plot.grid(3, amount_label),
        lines.iter().map(|line| plot.line(&begins_s, step_s, &line.values, line.class)).collect(),
        plot.time_axis(Size::Narrow),
    ]
    .concat();
    // It has no other drawing, so it is shown on every screen.
    picture(Size::Narrow, plot.bottom() + TIME_AXIS, &plot, title, &body).replacen(
        "class=\"narrow\"",
        "class=\"small\"",
        1,
    )
}
