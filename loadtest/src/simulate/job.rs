//! What clients ask of a node: calls as they are intended, and the jobs that their attempts become.
//!
//! A policy sees a [`Job`] and never a cost: on a real node nobody knows beforehand what a request will take.

use buslane_shared::Nanos;
use buslane_shared::class::{Class, Protocol};

/// Who is behind a call, in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A person who looks at the screen.
    Person,
    /// A phone that acts alone.
    Phone,
    /// A phone that acts alone and claims that a person looks.
    Liar,
}

/// What a client does with an answer that tells it to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It comes back when it is told to, and backs off where it is told nothing.
    Obedient,
    /// It tries again every one to two seconds, whatever it is told.
    Naive,
}

/// A call at the moment when it is first wanted. What follows from refusals is up to the client's manner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// When it is wanted.
    pub at: Nanos,
    /// Time of a seat that it takes.
    pub cost: u32,
    /// Who asks.
    pub user: u32,
    /// What for.
    pub protocol: Protocol,
    /// The class that the client's claim gives it.
    pub class: Class,
    /// The truth about it.
    pub sender: Sender,
    /// How it takes a refusal.
    pub manner: Manner,
}

impl Call {
    /// Whether it opens a connection, so that it can be turned away before the handshake.
    pub fn is_login(&self) -> bool {
        is_login(self.protocol)
    }
}

/// Whether this protocol opens a connection.
pub fn is_login(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Login | Protocol::Resume)
}

/// Names a job while it is at the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u32);

/// What an attempt has to show before anything is spent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// It comes over an open session.
    Session,
    /// The slot that it was given, at this time.
    Slot(Nanos),
    /// A pass.
    Pass,
    /// Nothing.
    Nothing,
}

/// An attempt, as a policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Who asks.
    pub user: u32,
    /// What for.
    pub protocol: Protocol,
    /// The class that the client's claim gives it.
    pub class: Class,
    /// What it shows.
    pub shows: Shows,
    /// When the client stops waiting.
    pub deadline: Nanos,
}

impl Job {
    /// Whether it opens a connection.
    pub fn is_login(&self) -> bool {
        is_login(self.protocol)
    }
}
