//! Every metric of every part, together: told to `/metrics` at the start, and printed as docs/metrics.md.
//!
//! Why it exists: each crate lists its own metrics and knows no other crate; only the binary has all of them. The document is made
//! here and nowhere else, so it never says what the program does not.

use std::fmt::Write;

use buslane_chassis::telemetry::{self, Metric};

/// The metrics of one part of the system.
struct Part {
    title: &'static str,
    lead: &'static str,
    metrics: &'static [Metric],
}

const PARTS: &[Part] = &[
    Part {
        title: "Session manager",
        lead: "Its connections and sessions, and the control of its load. `port` is `front` or `wake`, `class` is `C0` to `C7`, and \
               [the decisions](overload.md#admission) are those of the admission.",
        metrics: buslane_session_manager::registry::METRICS,
    },
    Part {
        title: "Gateway",
        lead: "Enrolment, tickets and passes, and what is put off for session managers that are full.",
        metrics: buslane_gateway::meters::METRICS,
    },
    Part {
        title: "Backend",
        lead: "The data path, from the request to the receipt.",
        metrics: buslane_backend::meters::METRICS,
    },
    Part { title: "Store", lead: "What is written to the disk.", metrics: buslane_store::meters::METRICS },
    Part {
        title: "Operator's seat",
        lead: "Status, probe, trends, incidents and who is told of them.",
        metrics: buslane_operator::meters::METRICS,
    },
    Part {
        title: "Every process",
        lead: "Orders, audit, admin address, calls between roles, and what the system says about the process.",
        metrics: telemetry::METRICS,
    },
];

const OPENING: &str = "\
# Metrics

Made by `buslane docs metrics` from the lists in the code; a test compares this page with them, and them with what is counted. How they are
watched: [operations.md](operations.md#watching). Alert rules and a dashboard that use them lie in `deploy/`.

`GET /metrics` at the admin address of each process answers in Prometheus' text form. Counters end in `_total` and begin at 0 when the process
starts. Times are in seconds; a histogram of seconds has the bounds 50 µs to 60 s. A histogram that is not of seconds has quantiles in place of
bounds. Labels come from closed sets of the code (classes, protocols, codes) and never from clients, so the number of series has a bound. A metric
appears when it is counted for the first time.
";

/// Tells the recorder what every metric says.
pub fn describe() {
    for part in PARTS {
        telemetry::describe(part.metrics);
    }
}

/// The whole of docs/metrics.md.
pub fn markdown() -> String {
    let mut page = OPENING.to_owned();
    for Part { title, lead, metrics } in PARTS {
        // Writing into a string does not fail.
        let _ = write!(
            page,
            "\n## {title}\n\n{lead}\n\n| metric | kind | unit | labels | what |\n|---|---|---|---|---|\n"
        );
        for metric in *metrics {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (kind, unit) = (metric.kind.name(), metric.unit.name());
            let labels = labels.join(", ");
            let _ = writeln!(page, "| `{}` | {kind} | {unit} | {labels} | {} |", metric.name, metric.help);
        }
    }
    page
}

#[cfg(test)]
mod tests;
