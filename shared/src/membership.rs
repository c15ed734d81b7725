//! Who is in a room, and what that allows: the fold of a room's membership events, and every decision made from it.
//!
//! Why it exists: the same fold runs when an event is sequenced, when a room is loaded, and in the test that compares the
//! two; and every read, write and fan-out asks the same few questions here. It must never answer differently for the same
//! sequence of events.

use std::collections::BTreeMap;

use crate::id::UserId;
use crate::limits::ROOM_MEMBERS_MAX;
use crate::refusal::{Code, Refusal};
use crate::wire::membership::Change;
use crate::wire::{self, Role, RoomKind};

#[cfg(test)]
mod tests;

/// What a user is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Member, owner, or invited (which allows nothing but to join or to decline).
    pub role: Role,
    /// Sequence of the event that made the user so; 0 in a direct room.
    pub since: u64,
}

/// A change of who is in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The group was made; its creator owns it.
    Created {
        /// Who made it.
        creator: UserId,
        /// Its title.
        title: String,
        /// Members from the start, without the creator.
        members: Vec<UserId>,
    },
    /// Users were invited.
    Invited(Vec<UserId>),
    /// An invited user became a member.
    Joined(UserId),
    /// A user left, or declined an invitation.
    Left(UserId),
    /// A user was removed by the owner.
    Kicked(UserId),
}

/// A stored membership event is not one that this release knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a membership event of this release: {0}")]
pub struct UnknownEvent(&'static str);

impl Event {
    /// The event as it is stored and delivered. The creator is the sender of the message that carries it.
    pub fn to_wire(&self) -> wire::Membership {
        let (change, users, title) = match self {
            Self::Created { creator, title, members } => {
                (Change::Created, std::iter::once(creator).chain(members).collect(), title.clone())
            }
            Self::Invited(users) => (Change::Invited, users.iter().collect::<Vec<_>>(), String::new()),
            Self::Joined(user) => (Change::Joined, vec![user], String::new()),
            Self::Left(user) => (Change::Left, vec![user], String::new()),
            Self::Kicked(user) => (Change::Kicked, vec![user], String::new()),
        };
        let users = users.into_iter().map(|u| u.as_str().to_owned()).collect();
        wire::Membership { change: change.into(), users, title }
    }

    /// The event of a stored message.
    pub fn from_wire(stored: &wire::Membership) -> Result<Self, UnknownEvent> {
        let users: Result<Vec<UserId>, _> = stored.users.iter().map(|u| u.parse()).collect();
        let mut users = users.map_err(|_| UnknownEvent("a user name is not valid"))?.into_iter();
        let mut one = || users.next().ok_or(UnknownEvent("it names no user"));
        Ok(match stored.change() {
            Change::Created => {
                let creator = one()?;
                Self::Created { creator, title: stored.title.clone(), members: users.collect() }
            }
            Change::Invited => Self::Invited(users.collect()),
            Change::Joined => Self::Joined(one()?),
            Change::Left => Self::Left(one()?),
            Change::Kicked => Self::Kicked(one()?),
            Change::Unspecified => return Err(UnknownEvent("its change is unknown")),
        })
    }
}

/// Who is in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomState {
    kind: RoomKind,
    title: String,
    members: BTreeMap<UserId, Member>,
}

impl RoomState {
    /// The room of two users. It has no membership events: both are members for ever.
    pub fn direct(a: UserId, b: UserId) -> Self {
        let member = Member { role: Role::Member, since: 0 };
        let members = BTreeMap::from([(a, member), (b, member)]);
        Self { kind: RoomKind::Direct, title: String::new(), members }
    }

    /// A group before its first event.
    pub fn empty_group() -> Self {
        Self { kind: RoomKind::Group, title: String::new(), members: BTreeMap::new() }
    }

    /// The state that [`Self::to_stored`] wrote.
    pub fn from_stored(stored: &wire::StoredRoom) -> Result<Self, UnknownEvent> {
        let mut members = BTreeMap::new();
        for m in &stored.members {
            let user = m.user.parse().map_err(|_| UnknownEvent("a member's name is not valid"))?;
            members.insert(user, Member { role: m.role(), since: m.since });
        }
        match stored.kind() {
            RoomKind::Unspecified => Err(UnknownEvent("the kind of the room is unknown")),
            kind => Ok(Self { kind, title: stored.title.clone(), members }),
        }
    }

    /// The state as it is stored: events up to `folded` are in it, messages from `first` are kept.
    pub fn to_stored(&self, folded: u64, first: u64) -> wire::StoredRoom {
        let member = |(user, m): (&UserId, &Member)| wire::StoredMember {
            user: user.as_str().to_owned(),
            role: m.role.into(),
            since: m.since,
        };
        wire::StoredRoom {
            kind: self.kind.into(),
            title: self.title.clone(),
            members: self.members.iter().map(member).collect(),
            folded,
            first,
        }
    }

    /// Folds one event into the state.
    pub fn apply(&mut self, seq: u64, event: &Event) {
        match event {
            Event::Created { creator, title, members } => {
                self.title.clone_from(title);
                for user in members {
                    self.members.insert(user.clone(), Member { role: Role::Member, since: seq });
                }
                self.members.insert(creator.clone(), Member { role: Role::Owner, since: seq });
            }
            Event::Invited(users) => {
                for user in users {
                    self.members.entry(user.clone()).or_insert(Member { role: Role::Invited, since: seq });
                }
            }
            Event::Joined(user) => {
                let member =
                    self.members.entry(user.clone()).or_insert(Member { role: Role::Invited, since: seq });
                if member.role == Role::Invited {
                    *member = Member { role: Role::Member, since: seq };
                }
            }
            Event::Left(user) | Event::Kicked(user) => {
                self.members.remove(user);
            }
        }
        self.crown();
    }

    /// A group with members has an owner: when it has none, the longest member becomes it.
    fn crown(&mut self) {
        if self.members.values().any(|m| m.role == Role::Owner) {
            return;
        }
        let members = self.members.iter_mut().filter(|(_, m)| m.role == Role::Member);
        if let Some((_, heir)) = members.min_by_key(|(_, m)| m.since) {
            heir.role = Role::Owner;
        }
    }

    /// Direct or group.
    pub fn kind(&self) -> RoomKind {
        self.kind
    }

    /// The title; empty in a direct room.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Everybody who is a member or invited, by name.
    pub fn everybody(&self) -> impl Iterator<Item = (&UserId, Member)> {
        self.members.iter().map(|(u, m)| (u, *m))
    }

    /// The members, by name; nobody who is only invited.
    pub fn members(&self) -> impl Iterator<Item = (&UserId, Member)> {
        self.everybody().filter(|(_, m)| m.role != Role::Invited)
    }

    /// What a user is here: member, owner, invited, or nothing.
    pub fn role(&self, who: &UserId) -> Role {
        self.members.get(who).map_or(Role::Unspecified, |m| m.role)
    }

    /// The other one of a direct room.
    pub fn peer(&self, of: &UserId) -> Option<&UserId> {
        match self.kind {
            RoomKind::Direct => self.members.keys().find(|u| *u != of),
            _ => None,
        }
    }

    /// A member may send, and may mention members.
    pub fn may_send(&self, who: &UserId, mentions: &[UserId]) -> Result<(), Refusal> {
        self.member(who)?;
        match mentions.iter().find(|m| self.member(m).is_err()) {
            Some(stranger) => Err(Refusal::field("mentions", format!("{stranger} is not a member"))),
            None => Ok(()),
        }
    }

    /// A member may read from the event that made him one, that event included; in a direct room everything. The answer is
    /// the lowest sequence.
    pub fn may_read(&self, who: &UserId) -> Result<u64, Refusal> {
        Ok(self.member(who)?.since.max(1))
    }

    /// Members and those who are invited may see what room it is.
    pub fn may_describe(&self, who: &UserId) -> Result<Member, Refusal> {
        self.members.get(who).copied().ok_or_else(|| self.stranger())
    }

    /// A member may invite. The answer is the event; `None`: all of them are here or invited already.
    pub fn may_invite(&self, who: &UserId, users: &[UserId]) -> Result<Option<Event>, Refusal> {
        self.member(who)?;
        self.group_only()?;
        let mut fresh: Vec<UserId> =
            users.iter().filter(|u| !self.members.contains_key(*u)).cloned().collect();
        fresh.sort_unstable();
        fresh.dedup();
        if self.members.len() + fresh.len() > ROOM_MEMBERS_MAX {
            return Err(Refusal::of(Code::RoomFull));
        }
        Ok((!fresh.is_empty()).then_some(Event::Invited(fresh)))
    }

    /// An invited user may join. `None`: he is a member already.
    pub fn may_join(&self, who: &UserId) -> Result<Option<Event>, Refusal> {
        match self.role(who) {
            Role::Invited => Ok(Some(Event::Joined(who.clone()))),
            Role::Member | Role::Owner => Ok(None),
            Role::Unspecified if self.kind == RoomKind::Direct => Err(self.stranger()),
            Role::Unspecified => Err(Refusal::of(Code::NotInvited)),
        }
    }

    /// A member may leave a group, and an invited user may decline.
    pub fn may_leave(&self, who: &UserId) -> Result<Event, Refusal> {
        self.may_describe(who)?;
        self.group_only()?;
        Ok(Event::Left(who.clone()))
    }

    /// The owner may remove anybody but himself.
    pub fn may_kick(&self, who: &UserId, whom: &UserId) -> Result<Event, Refusal> {
        let member = self.member(who)?;
        self.group_only()?;
        if member.role != Role::Owner {
            return Err(Refusal::of(Code::NotAllowed));
        }
        if who == whom {
            return Err(Refusal::field("user", "the owner cannot remove himself; leave the room instead"));
        }
        match self.members.contains_key(whom) {
            true => Ok(Event::Kicked(whom.clone())),
            false => {
                Err(Refusal::new(Code::UnknownUser, format!("{whom} is not in this room; list its members")))
            }
        }
    }

    fn member(&self, who: &UserId) -> Result<Member, Refusal> {
        match self.members.get(who) {
            Some(m) if m.role != Role::Invited => Ok(*m),
            Some(_) => Err(Refusal::new(Code::NotAMember, "you are invited; join the room first")),
            None => Err(self.stranger()),
        }
    }

    /// The id of a direct room follows from the two names, so a stranger must not learn that it exists.
    fn stranger(&self) -> Refusal {
        match self.kind {
            RoomKind::Direct => Refusal::of(Code::UnknownRoom),
            _ => Refusal::of(Code::NotAMember),
        }
    }

    fn group_only(&self) -> Result<(), Refusal> {
        match self.kind {
            RoomKind::Group => Ok(()),
            _ => Err(Refusal::new(
                Code::NotAllowed,
                "a direct room has its two members for ever; block the user instead",
            )),
        }
    }
}

#[cfg(test)]
pub(crate) fn group(creator: &str, members: &[&str]) -> RoomState {
    let user = |name: &&str| name.parse().unwrap();
    let mut state = RoomState::empty_group();
    let members = members.iter().map(user).collect();
    state.apply(1, &Event::Created { creator: user(&creator), title: "title".into(), members });
    state
}
