//! Progress of long work: a bar on a terminal, nothing elsewhere.
//!
//! It goes to stderr, so that results stay alone on stdout.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::output::Output;

/// The bar of one piece of work; it disappears when this is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar with a title; hidden with `--json` and where stderr is no terminal.
    pub fn new(output: &Output, title: &'static str) -> Self {
        let visible = !output.json && io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(title);
        // The template is a constant; were it wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {elapsed}")
        {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So much is done of so much.
    pub fn set(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }

    /// As [`Progress::set`], from a line of the admin surface: `{"done", "total"}`.
    pub fn set_from(&self, line: &Value) {
        let number = |name: &str| line.get(name).and_then(Value::as_u64);
        self.set(number("done").unwrap_or(0), number("total"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
