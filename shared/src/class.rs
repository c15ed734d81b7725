//! Classes of importance, protocols, and which protocol in which app state is of which class.

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

/// One kind of request: the unit that is counted and capped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

impl Protocol {
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
        }
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

/// The class of a request of a session in this app state.
pub fn classify(protocol: Protocol, app_state: AppState) -> Class {
    let foreground = app_state == AppState::Foreground;
    match protocol {
        Protocol::AppState => Class::Control,
        Protocol::Ping => Class::Pulse,
        Protocol::MessageSend if foreground => Class::Talk,
        Protocol::RoomOpen
        | Protocol::RoomList
        | Protocol::MessageSync
        | Protocol::RoomChange
        | Protocol::Account
            if foreground =>
        {
            Class::Look
        }
        Protocol::MessageHistory | Protocol::RoomMembers if foreground => Class::Bulk,
        Protocol::ReceiptMark | Protocol::ReceiptCounts if foreground => Class::Social,
        _ => Class::Wake,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn background_never_reaches_a_foreground_class_but_by_its_app_state() {
        let all = [
            Protocol::MessageSend,
            Protocol::MessageSync,
            Protocol::MessageHistory,
            Protocol::ReceiptMark,
            Protocol::ReceiptCounts,
            Protocol::RoomOpen,
            Protocol::RoomChange,
            Protocol::RoomList,
            Protocol::RoomMembers,
            Protocol::Account,
        ];
        for protocol in all {
            assert_eq!(classify(protocol, AppState::Background), Class::Wake, "{}", protocol.name());
            assert_eq!(classify(protocol, AppState::Unspecified), Class::Wake, "{}", protocol.name());
            assert!(classify(protocol, AppState::Foreground) < Class::Wake, "{}", protocol.name());
        }
        assert_eq!(classify(Protocol::MessageSend, AppState::Foreground), Class::Talk);
        assert_eq!(classify(Protocol::AppState, AppState::Background), Class::Control);
    }
}
