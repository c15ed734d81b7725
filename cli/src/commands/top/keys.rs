//! What a key does: the state of the surface, and the one function that changes it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::failure::Failure;

use super::order::{Dialogue, Step, Wanted};

/// Longest text that is typed here.
const TYPED_CHARS_MAX: usize = 200;

/// What is to be done outside of the surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// End.
    Quit,
    /// Ask what an order would do.
    Preview(Wanted),
    /// Give an order.
    Give(Wanted),
}

/// By what rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Most important first.
    #[default]
    Class,
    /// Most asked for first.
    Offered,
    /// Most refused and deferred first.
    TurnedAway,
}

impl Sort {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Offered => "offered",
            Self::TurnedAway => "turned away",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Class => Self::Offered,
            Self::Offered => Self::TurnedAway,
            Self::TurnedAway => Self::Class,
        }
    }
}

/// Which classes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown {
    /// All.
    #[default]
    All,
    /// C0 to C3.
    Foreground,
    /// C4 to C7.
    Background,
}

impl Shown {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all classes",
            Self::Foreground => "foreground",
            Self::Background => "background",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::All => Self::Foreground,
            Self::Foreground => Self::Background,
            Self::Background => Self::All,
        }
    }
}

/// What lies over the picture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Over {
    /// Nothing.
    #[default]
    Nothing,
    /// What the keys do.
    Help,
    /// The filter is being typed.
    Filter,
    /// An order.
    Order(Dialogue),
}

/// The state of the surface.
#[derive(Debug, Clone, Default)]
pub struct Ui {
    /// How rows are sorted.
    pub sort: Sort,
    /// Which classes are shown.
    pub shown: Shown,
    /// Only nodes and protocols with this in their name.
    pub filter: String,
    /// What lies over the picture.
    pub over: Over,
}

impl Ui {
    /// What a key does.
    pub fn on_key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Action::Quit;
        }
        match &mut self.over {
            Over::Nothing => self.on_command(key.code),
            Over::Help => {
                self.over = Over::Nothing;
                Action::Nothing
            }
            Over::Filter => {
                match key.code {
                    KeyCode::Esc => (self.filter, self.over) = (String::new(), Over::Nothing),
                    KeyCode::Enter => self.over = Over::Nothing,
                    code => edit(&mut self.filter, code),
                }
                Action::Nothing
            }
            Over::Order(_) => self.on_order(key.code),
        }
    }

    fn on_command(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?' | 'h') => self.over = Over::Help,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('f') => self.shown = self.shown.next(),
            KeyCode::Char('/') => self.over = Over::Filter,
            KeyCode::Char('o') => self.over = Over::Order(Dialogue::new()),
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        Action::Nothing
    }

    fn on_order(&mut self, code: KeyCode) -> Action {
        let Over::Order(dialogue) = &mut self.over else { return Action::Nothing };
        match (&dialogue.step, code) {
            (Step::Said(_), _) | (_, KeyCode::Esc) => self.over = Over::Nothing,
            (_, KeyCode::Enter) => {
                let wanted = match &dialogue.step {
                    Step::Confirm(wanted, _) => Some(wanted.clone()),
                    _ => None,
                };
                dialogue.enter();
                match &dialogue.step {
                    Step::Previewing(wanted) => return Action::Preview(wanted.clone()),
                    Step::Giving => {
                        if let Some(wanted) = wanted {
                            return Action::Give(wanted);
                        }
                    }
                    _ => {}
                }
            }
            (_, code) => edit(&mut dialogue.typed, code),
        }
        Action::Nothing
    }

    /// What the order would do, as the server says.
    pub fn on_preview(&mut self, said: Result<String, Failure>) {
        let Over::Order(dialogue) = &mut self.over else { return };
        let Step::Previewing(wanted) = dialogue.step.clone() else { return };
        dialogue.step = match said {
            Ok(preview) => Step::Confirm(wanted, preview),
            Err(why) => Step::Said(format!("not possible: {why}")),
        };
    }

    /// What came of the order.
    pub fn on_given(&mut self, said: Result<String, Failure>) {
        let Over::Order(dialogue) = &mut self.over else { return };
        dialogue.step = Step::Said(said.unwrap_or_else(|why| format!("NOT GIVEN: {why}")));
    }
}

fn edit(text: &mut String, code: KeyCode) {
    match code {
        KeyCode::Char(c) if !c.is_control() && text.chars().count() < TYPED_CHARS_MAX => text.push(c),
        KeyCode::Backspace => {
            text.pop();
        }
        _ => {}
    }
}
