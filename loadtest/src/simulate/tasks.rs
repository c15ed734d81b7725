//! The jobs at the node, by name.

use buslane_shared::Nanos;

use super::job::{Job, JobId};

/// A job and what only the model knows of it.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// What the policy sees.
    pub job: Job,
    /// Which call it is an attempt of.
    pub call: u32,
    /// Which attempt.
    pub attempt: u32,
    /// Time of a seat that it takes.
    pub cost: u32,
    /// When it came.
    pub came: Nanos,
    /// When the node took it.
    pub taken: Nanos,
    /// When a worker began with it.
    pub began: Nanos,
    /// Time of a worker that it takes from then on, were it alone.
    pub work: Nanos,
    /// Jobs at the node when it was taken.
    pub in_flight: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<u32>,
}

impl Tasks {
    /// The name that the next task will have.
    pub fn next_id(&self) -> JobId {
        JobId(self.free.last().copied().unwrap_or(self.slots.len() as u32))
    }

    /// Keeps a task under the name of [`Tasks::next_id`].
    pub fn insert(&mut self, task: Task) {
        let place = self.next_id().0 as usize;
        self.free.pop();
        match self.slots.get_mut(place) {
            Some(slot) => *slot = Some(task),
            None => self.slots.push(Some(task)),
        }
    }

    /// The task of this name.
    pub fn find(&mut self, id: JobId) -> Option<&mut Task> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    /// Takes it out.
    pub fn remove(&mut self, id: JobId) -> Option<Task> {
        let task = self.slots.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        Some(task)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
