//! Classes of importance, protocols, and which protocol in which app state is of which class.
//!
//! The table is configuration with a default; nothing a client says about itself but its app state takes part in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::{AppState, request::Op};

/// The importance of a piece of traffic, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Control of live foreground sessions.
    Control = 0,
    /// A person sends or receives a message.
    Talk = 1,
    /// A person opens something.
    Look = 2,
    /// A person asks for much.
    Bulk = 3,
    /// What others see of a person: read receipts and the like.
    Social = 4,
    /// A phone acts alone.
    Wake = 5,
    /// Pings.
    Pulse = 6,
    /// Everything else.
    Spare = 7,
}

/// How many classes there are.
pub const CLASSES: usize = 8;

impl Class {
    /// All of them, most important first.
    pub const ALL: [Self; CLASSES] = [
        Self::Control,
        Self::Talk,
        Self::Look,
        Self::Bulk,
        Self::Social,
        Self::Wake,
        Self::Pulse,
        Self::Spare,
    ];

    /// Its place in [`Class::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The class of this number; what is beyond the last is the last.
    pub fn of_number(number: u32) -> Self {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n).copied()).unwrap_or(Self::Spare)
    }

    /// Whether a person is looking at it: C0 to C3.
    pub fn is_foreground(self) -> bool {
        self <= Self::Bulk
    }

    /// Its short name, metric label and configuration value: "C0" to "C7".
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "C0",
            Self::Talk => "C1",
            Self::Look => "C2",
            Self::Bulk => "C3",
            Self::Social => "C4",
            Self::Wake => "C5",
            Self::Pulse => "C6",
            Self::Spare => "C7",
        }
    }

    /// What it is, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Talk => "talk",
            Self::Look => "look",
            Self::Bulk => "bulk",
            Self::Social => "social",
            Self::Wake => "wake",
            Self::Pulse => "pulse",
            Self::Spare => "spare",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.title())
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(text) || c.title() == text);
        known.ok_or_else(|| format!("there is no class {text:?}; write C0 to C7"))
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// One kind of work: the unit that is counted and capped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// `ping`
    Ping,
    /// `app_state.set`
    AppState,
    /// `message.send`
    MessageSend,
    /// `message.sync`
    MessageSync,
    /// `message.history`
    MessageHistory,
    /// `receipt.mark`
    ReceiptMark,
    /// `receipt.counts`
    ReceiptCounts,
    /// `room.open`: open or describe one room
    RoomOpen,
    /// `room.change`: create, invite, join, leave, kick, settings
    RoomChange,
    /// `room.list`
    RoomList,
    /// `room.members`
    RoomMembers,
    /// `account`: blocks, devices, codes
    Account,
    /// `login`: a new session
    Login,
    /// `login.resume`: a session that is continued
    Resume,
    /// `delivery`: an event on its way to a device
    Delivery,
    /// `unknown`: a request of a later version
    Unknown,
}

/// How many protocols there are.
pub const PROTOCOLS: usize = 16;

impl Protocol {
    /// All of them.
    pub const ALL: [Self; PROTOCOLS] = [
        Self::Ping,
        Self::AppState,
        Self::MessageSend,
        Self::MessageSync,
        Self::MessageHistory,
        Self::ReceiptMark,
        Self::ReceiptCounts,
        Self::RoomOpen,
        Self::RoomChange,
        Self::RoomList,
        Self::RoomMembers,
        Self::Account,
        Self::Login,
        Self::Resume,
        Self::Delivery,
        Self::Unknown,
    ];

    /// Its place in [`Protocol::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The protocol of a request.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Ping(_) => Self::Ping,
            Op::SetAppState(_) => Self::AppState,
            Op::Send(_) => Self::MessageSend,
            Op::Sync(_) => Self::MessageSync,
            Op::History(_) => Self::MessageHistory,
            Op::Mark(_) => Self::ReceiptMark,
            Op::ReadCounts(_) => Self::ReceiptCounts,
            Op::OpenDirect(_) | Op::DescribeRoom(_) => Self::RoomOpen,
            Op::CreateRoom(_)
            | Op::Invite(_)
            | Op::Join(_)
            | Op::Leave(_)
            | Op::Kick(_)
            | Op::SetNotify(_) => Self::RoomChange,
            Op::ListRooms(_) => Self::RoomList,
            Op::ListMembers(_) => Self::RoomMembers,
            Op::SetBlock(_)
            | Op::ListBlocked(_)
            | Op::ListDevices(_)
            | Op::RevokeDevice(_)
            | Op::MakeCode(_) => Self::Account,
        }
    }

    /// Its stable name: metric label and configuration key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::AppState => "app_state.set",
            Self::MessageSend => "message.send",
            Self::MessageSync => "message.sync",
            Self::MessageHistory => "message.history",
            Self::ReceiptMark => "receipt.mark",
            Self::ReceiptCounts => "receipt.counts",
            Self::RoomOpen => "room.open",
            Self::RoomChange => "room.change",
            Self::RoomList => "room.list",
            Self::RoomMembers => "room.members",
            Self::Account => "account",
            Self::Login => "login",
            Self::Resume => "login.resume",
            Self::Delivery => "delivery",
            Self::Unknown => "unknown",
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|p| p.name() == text);
        known.ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|p| p.name()).collect();
            format!("there is no protocol {text:?}; there are {}", all.join(", "))
        })
    }
}

/// Whether the request may change what is stored. Where its answer is lost, a write may have been done all the same.
pub fn is_write(op: &Op) -> bool {
    match op {
        Op::Ping(_)
        | Op::SetAppState(_)
        | Op::Sync(_)
        | Op::History(_)
        | Op::ReadCounts(_)
        | Op::ListMembers(_)
        | Op::ListRooms(_)
        | Op::DescribeRoom(_)
        | Op::ListBlocked(_)
        | Op::ListDevices(_) => false,
        Op::Send(_)
        | Op::Mark(_)
        | Op::OpenDirect(_)
        | Op::CreateRoom(_)
        | Op::Invite(_)
        | Op::Join(_)
        | Op::Leave(_)
        | Op::Kick(_)
        | Op::SetNotify(_)
        | Op::SetBlock(_)
        | Op::RevokeDevice(_)
        | Op::MakeCode(_) => true,
    }
}

/// The classes of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ByAppState {
    /// While a person is looking at the app.
    pub foreground: Class,
    /// While the phone acts alone.
    pub background: Class,
}

/// Which protocol in which app state is of which class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes([ByAppState; PROTOCOLS]);

impl Default for Classes {
    fn default() -> Self {
        Self(Protocol::ALL.map(default_classes))
    }
}

impl Classes {
    /// Sets the classes of one protocol.
    pub fn set(&mut self, protocol: Protocol, classes: ByAppState) {
        if let Some(known) = self.0.get_mut(protocol.index()) {
            *known = classes;
        }
    }

    /// The class of this protocol in a session with this app state.
    pub fn of(&self, protocol: Protocol, app_state: AppState) -> Class {
        let Some(classes) = self.0.get(protocol.index()) else { return Class::Spare };
        if app_state == AppState::Foreground { classes.foreground } else { classes.background }
    }
}

fn default_classes(protocol: Protocol) -> ByAppState {
    let both = |class| ByAppState { foreground: class, background: class };
    let foreground = |class| ByAppState { foreground: class, background: Class::Wake };
    match protocol {
        Protocol::AppState => both(Class::Control),
        Protocol::Ping => both(Class::Pulse),
        Protocol::MessageSend => foreground(Class::Talk),
        Protocol::RoomOpen
        | Protocol::RoomList
        | Protocol::MessageSync
        | Protocol::RoomChange
        | Protocol::Account
        | Protocol::Login
        | Protocol::Resume => foreground(Class::Look),
        Protocol::MessageHistory | Protocol::RoomMembers => foreground(Class::Bulk),
        Protocol::ReceiptMark | Protocol::ReceiptCounts => foreground(Class::Social),
        Protocol::Delivery => ByAppState { foreground: Class::Talk, background: Class::Social },
        Protocol::Unknown => both(Class::Spare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn background_never_reaches_a_foreground_class_but_by_its_app_state() {
        let classes = Classes::default();
        for protocol in Protocol::ALL.into_iter().filter(|p| *p != Protocol::AppState) {
            for state in [AppState::Background, AppState::Unspecified] {
                assert!(classes.of(protocol, state) > Class::Bulk, "{}", protocol.name());
            }
        }
        assert_eq!(classes.of(Protocol::MessageSend, AppState::Foreground), Class::Talk);
        assert_eq!(classes.of(Protocol::AppState, AppState::Background), Class::Control);
    }

    /// The whole default table, as it stands in docs/overload.md.
    #[test]
    fn the_default_table() {
        let classes = Classes::default();
        let rows: Vec<String> = Protocol::ALL
            .into_iter()
            .map(|p| {
                let of = |state| classes.of(p, state).name();
                format!("{} {} {}", p.name(), of(AppState::Foreground), of(AppState::Background))
            })
            .collect();
        let expected = [
            "ping C6 C6",
            "app_state.set C0 C0",
            "message.send C1 C5",
            "message.sync C2 C5",
            "message.history C3 C5",
            "receipt.mark C4 C5",
            "receipt.counts C4 C5",
            "room.open C2 C5",
            "room.change C2 C5",
            "room.list C2 C5",
            "room.members C3 C5",
            "account C2 C5",
            "login C2 C5",
            "login.resume C2 C5",
            "delivery C1 C4",
            "unknown C7 C7",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn names_are_read_back() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.name().parse(), Ok(protocol));
            assert_eq!(Protocol::ALL.get(protocol.index()), Some(&protocol));
        }
        for class in Class::ALL {
            assert_eq!(class.name().parse(), Ok(class));
            assert_eq!(Class::of_number(class as u32), class);
        }
        assert!("C8".parse::<Class>().unwrap_err().contains("C0 to C7"));
        assert!("message.sned".parse::<Protocol>().unwrap_err().contains("message.send"));
    }
}
