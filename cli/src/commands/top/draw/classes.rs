//! What became of each class's requests: a bar of what was served, deferred and refused, and the figures.

use buslane_shared::class::Class;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::super::keys::{Shown, Sort, Ui};
use super::super::picture::{Picture, Split};
use super::{GREEN, Ink, ORANGE, RED};

/// Columns of everything but the bar.
const FIGURES: u16 = 61;

/// Rows of the table with its header.
pub fn rows(ui: &Ui) -> u16 {
    u16::try_from(shown(ui).count()).unwrap_or(u16::MAX).saturating_add(1)
}

/// Draws the table.
pub fn draw(area: Rect, to: &mut Buffer, picture: &Picture, ui: &Ui, ink: Ink) {
    let width = usize::from(area.width.saturating_sub(FIGURES));
    let mut rows: Vec<(usize, Class, Split)> =
        shown(ui).map(|(n, class)| (n, class, picture.split(n))).collect();
    let away = |split: &Split| split.deferred + split.refused;
    match ui.sort {
        Sort::Class => {}
        Sort::Offered => rows.sort_by(|a, b| b.2.offered.total_cmp(&a.2.offered)),
        Sort::TurnedAway => rows.sort_by(|a, b| away(&b.2).total_cmp(&away(&a.2))),
    }
    let most = rows.iter().map(|(_, _, split)| total(split)).fold(0.0, f64::max);
    let header = format!(
        "{:<11}{:width$}{:>8}{:>8}{:>9}{:>8}{:>9}{:>8}",
        "class", "", "asked/s", "served", "deferred", "refused", "p99 ms", "seats+w"
    );
    let mut lines = vec![Line::styled(header, Style::new().add_modifier(Modifier::BOLD))];
    lines.extend(rows.iter().map(|(n, class, split)| row(picture, *n, *class, split, most, width, ink)));
    Paragraph::new(lines).render(area, to);
}

fn shown(ui: &Ui) -> impl Iterator<Item = (usize, Class)> {
    let shown = ui.shown;
    Class::ALL.into_iter().enumerate().filter(move |(_, class)| match shown {
        Shown::All => true,
        Shown::Foreground => class.is_foreground(),
        Shown::Background => !class.is_foreground(),
    })
}

fn total(split: &Split) -> f64 {
    split.served + split.deferred + split.refused
}

fn row<'a>(
    picture: &Picture,
    n: usize,
    class: Class,
    split: &Split,
    most: f64,
    width: usize,
    ink: Ink,
) -> Line<'a> {
    let [served, deferred, refused] = parts(split, most, width);
    let rest = width.saturating_sub(served + deferred + refused);
    let p99 = picture.p99_us(n).map_or_else(
        || "-".to_owned(),
        |us| format!("{:.1}", f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1e3),
    );
    let seats =
        picture.lane(n).map_or_else(|| "-".to_owned(), |lane| format!("{}+{}", lane.in_use, lane.waiting));
    let figures = format!(
        "{:>8.1}{:>8.1}{:>9.1}{:>8.1}{p99:>9}{seats:>8}",
        split.offered, split.served, split.deferred, split.refused
    );
    Line::from(vec![
        Span::raw(format!("{:<11}", format!("{} {}", class.name(), class.title()))),
        Span::styled("█".repeat(served), ink.of(GREEN)),
        Span::styled("▒".repeat(deferred), ink.of(ORANGE)),
        Span::styled("x".repeat(refused), ink.of(RED)),
        Span::raw(" ".repeat(rest)),
        Span::raw(figures),
    ])
}

/// Columns of what was served, deferred and refused. What happens at all has at least one, where there is room.
fn parts(split: &Split, most: f64, width: usize) -> [usize; 3] {
    let mut left = width;
    [split.served, split.deferred, split.refused].map(|rate| {
        let columns = columns(rate, most, width).min(left);
        left -= columns;
        columns
    })
}

fn columns(rate: f64, most: f64, width: usize) -> usize {
    if rate <= 0.0 || most <= 0.0 {
        return 0;
    }
    let share = rate / most;
    // Columns are few; counting them says what a cast would.
    let width_f = f64::from(u32::try_from(width).unwrap_or(u32::MAX));
    (1..=width)
        .take_while(|n| {
            f64::from(u32::try_from(*n).unwrap_or(u32::MAX)) <= (share * width_f).round().max(1.0)
        })
        .count()
}
