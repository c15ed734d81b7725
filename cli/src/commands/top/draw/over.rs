//! What lies over the picture: help, and the dialogue of an order.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::{Block, Clear, Paragraph, Widget, Wrap};

use super::super::keys::{Over, Ui};
use super::super::order::{Dialogue, Step};
use crate::output::printable;

const HELP: &str = "\
?      this
s      sort classes: by class, by what is asked for, by what is turned away
f      all classes, foreground (C0 to C3), background (C4 to C7)
/      only nodes and protocols with this in their name; Esc clears it
o      give an order: EMERGENCY, NORMAL, or back to what is measured.
       It is previewed, and only given when its word is typed
q      quit (also Ctrl-C)

█ served   ▒ deferred: told to come back at a time of its own   x refused
seats+w: seats that the class has + jobs that wait for one.
STALE: nothing was heard lately; what is shown is what held then.";

/// Draws it, if there is anything.
pub fn draw(area: Rect, to: &mut Buffer, ui: &Ui) {
    match &ui.over {
        Over::Help => window(area, to, " help ", HELP.to_owned(), 14),
        Over::Order(dialogue) => window(area, to, " order ", said(dialogue), 9),
        Over::Nothing | Over::Filter => {}
    }
}

fn said(dialogue: &Dialogue) -> String {
    let mut text = printable_lines(&dialogue.question());
    if let Some(wrong) = &dialogue.wrong {
        text += &format!("\n! {wrong}");
    }
    match dialogue.step {
        Step::Previewing(_) | Step::Giving | Step::Said(_) => text,
        _ => format!("{text}\n\n> {}_\n\nEnter goes on, Esc gives it up", dialogue.typed),
    }
}

fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn window(area: Rect, to: &mut Buffer, title: &'static str, text: String, rows: u16) {
    let width = area.width.saturating_sub(4).min(84);
    let height = rows.min(area.height);
    let window =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(window, to);
    Paragraph::new(text).wrap(Wrap { trim: false }).block(Block::bordered().title(title)).render(window, to);
}
