//! The smaller tables: protocols, nodes, alerts.

use buslane_operator::view::{NodeView, Severity, State};
use buslane_shared::UnixMs;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};

use super::super::keys::Ui;
use super::super::picture::Picture;
use super::{GREEN, Ink, ORANGE, RED};
use crate::commands::ctl::status::word;
use crate::output::printable;
use crate::time_text::span;

fn header<'a>(text: String) -> Line<'a> {
    Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

/// Shows as many lines as there is room for, and says how many there are besides.
fn list(area: Rect, to: &mut Buffer, mut lines: Vec<Line<'_>>) {
    let room = usize::from(area.height);
    if lines.len() > room && room > 0 {
        let hidden = lines.len() + 1 - room;
        lines.truncate(room.saturating_sub(1));
        lines.push(Line::raw(format!("and {hidden} more: make this larger, or filter with /")));
    }
    Paragraph::new(lines).render(area, to);
}

/// Seats by protocol, the busiest first.
pub fn protocols(area: Rect, to: &mut Buffer, picture: &Picture, ui: &Ui) {
    let all = picture.lanes.as_ref().map(|lanes| lanes.protocols.as_slice()).unwrap_or_default();
    let mut rows: Vec<_> = all.iter().filter(|row| row.protocol.contains(&ui.filter)).collect();
    rows.sort_by(|a, b| b.in_use.cmp(&a.in_use).then_with(|| a.protocol.cmp(&b.protocol)));
    let mut lines = vec![header(format!("{:<17}{:>6}{:>6}{:>6}", "protocol", "seats", "cap", "us"))];
    lines.extend(rows.iter().map(|row| {
        Line::raw(format!(
            "{:<17.17}{:>6}{:>6}{:>6}",
            printable(&row.protocol),
            row.in_use,
            row.cap,
            row.cost_us
        ))
    }));
    list(area, to, lines);
}

/// All processes.
pub fn nodes(area: Rect, to: &mut Buffer, picture: &Picture, ui: &Ui, ink: Ink) {
    let mut lines = vec![header(format!("{:<18}{:<8}{:<10}{:>8}", "node", "state", "posture", "sessions"))];
    let shown = picture.nodes.iter().filter(|node| node.node.contains(&ui.filter));
    lines.extend(shown.map(|node| Line::styled(node_row(node), ink.of(colour(node.state)))));
    list(area, to, lines);
}

fn node_row(node: &NodeView) -> String {
    let known = !matches!(node.state, State::Unknown | State::Down);
    let state = if node.draining { "drains" } else { word(node.state) };
    let posture = node.posture.as_deref().filter(|_| known).unwrap_or("-");
    let sessions = node.sessions.filter(|_| known).map_or_else(|| "-".to_owned(), |n| n.to_string());
    let why = node.why.as_deref().unwrap_or_default();
    format!(
        "{:<18.17}{state:<8.7}{:<10.9}{sessions:>8} {}",
        printable(&node.node),
        printable(posture),
        printable(why)
    )
}

fn colour(state: State) -> ratatui::style::Color {
    match state {
        State::Up => GREEN,
        State::Warning | State::Maintenance => ORANGE,
        State::Unknown => ratatui::style::Color::Gray,
        State::Down => RED,
    }
}

/// How many lines the alerts need.
pub fn alert_count(picture: &Picture) -> usize {
    picture.status.as_ref().map_or(0, |status| status.alerts.len())
}

/// What is wrong, the worst first.
pub fn alerts(area: Rect, to: &mut Buffer, picture: &Picture, now_ms: UnixMs, ink: Ink) {
    let Some(status) = &picture.status else { return list(area, to, vec![Line::raw("alerts: not known")]) };
    let mut alerts: Vec<_> = status.alerts.iter().collect();
    alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
    let mut lines: Vec<Line<'_>> = alerts
        .iter()
        .map(|alert| {
            let bad = matches!(alert.severity, Severity::High | Severity::Critical);
            let since = span(now_ms.saturating_sub(alert.since_ms));
            let severity = crate::commands::ctl::status::severity(alert.severity).to_uppercase();
            let text = format!("{severity} {} ({since}): {}", printable(&alert.title), printable(&alert.why));
            Line::styled(text, ink.of(if bad { RED } else { ORANGE }))
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::raw("no alerts"));
    }
    list(area, to, lines);
}
