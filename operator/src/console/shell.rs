//! What every page has around it: where one is, who looks, at which node, and when that was written.

use buslane_chassis::admin::{Principal, Role};
use buslane_chassis::clock;

use super::words;
use crate::seat::Seat;

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Traffic,
    Lanes,
    Status,
    Incidents,
    Incident,
    Users,
    Drills,
    Audit,
}

impl Page {
    /// Those that are in the row of pages.
    const TABS: [Self; 7] =
        [Self::Traffic, Self::Lanes, Self::Status, Self::Incidents, Self::Users, Self::Drills, Self::Audit];

    /// Whether it shows the node that is chosen. The others show what the node that serves them sees or keeps.
    fn is_of_a_node(self) -> bool {
        matches!(self, Self::Traffic | Self::Lanes | Self::Audit | Self::Users)
    }

    /// Its name for the scripts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Lanes => "lanes",
            Self::Status => "status",
            Self::Incidents => "incidents",
            Self::Incident => "incident",
            Self::Users => "users",
            Self::Drills => "drills",
            Self::Audit => "audit",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Traffic => "Traffic",
            Self::Lanes => "Lanes",
            Self::Status => "Status",
            Self::Incidents | Self::Incident => "Incidents",
            Self::Users => "Users",
            Self::Drills => "Drills",
            Self::Audit => "Audit",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Traffic => "/",
            Self::Lanes => "/lanes",
            Self::Status => "/status",
            Self::Incidents | Self::Incident => "/incidents",
            Self::Users => "/users",
            Self::Drills => "/drills",
            Self::Audit => "/audit",
        }
    }
}

/// A way to another page.
pub(super) struct Tab {
    pub(super) href: String,
    pub(super) name: &'static str,
    pub(super) current: bool,
}

/// The frame of a page.
pub(super) struct Shell {
    pub(super) page: &'static str,
    /// Number of the incident, on its page.
    pub(super) no: String,
    pub(super) title: &'static str,
    pub(super) version: &'static str,
    /// What the process is.
    pub(super) process: &'static str,
    /// The node that is looked at.
    pub(super) node: String,
    /// The node that was asked for; empty: this one.
    pub(super) asked: String,
    /// Who has seen what the page shows, where that is not the node that was asked for; else empty.
    pub(super) seen_by: String,
    pub(super) who: String,
    pub(super) role: &'static str,
    /// Whether who looks may change anything.
    pub(super) may_operate: bool,
    pub(super) at: String,
    pub(super) tabs: Vec<Tab>,
}

impl Shell {
    /// The frame of this page for whoever looks.
    pub(super) fn of(seat: &Seat, who: &Principal, page: Page, asked: &str) -> Self {
        let tabs = Page::TABS.into_iter().map(|tab| Tab {
            href: if asked.is_empty() {
                tab.path().to_owned()
            } else {
                format!("{}?node={}", tab.path(), words::in_query(asked))
            },
            name: tab.title(),
            current: tab.title() == page.title(),
        });
        Self {
            page: page.name(),
            no: String::new(),
            title: page.title(),
            version: seat.version,
            process: seat.role,
            node: if asked.is_empty() { format!("{} (this one)", seat.node) } else { asked.to_owned() },
            asked: asked.to_owned(),
            seen_by: if asked.is_empty() || asked == seat.node || page.is_of_a_node() {
                String::new()
            } else {
                seat.node.clone()
            },
            who: who.name.clone(),
            role: who.role.name(),
            may_operate: who.role >= Role::Operator,
            at: words::clock(clock::unix_ms()),
            tabs: tabs.collect(),
        }
    }
}

/// A path of this host, whatever was asked for: nobody is sent elsewhere after he has typed his token.
pub(super) fn local(wanted: &str) -> String {
    let rest = wanted.strip_prefix('/');
    let is_local = rest.is_some_and(|rest| !rest.starts_with(['/', '\\']))
        && !wanted.chars().any(|c| c.is_control() || c == '\\');
    if is_local { wanted.to_owned() } else { "/".to_owned() }
}
