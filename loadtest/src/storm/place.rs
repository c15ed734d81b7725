//! Which processors the server and the driver may use, and what the driver's threads ask of the scheduler.
//!
//! Why it exists: a server that shares a processor with the program that measures it is measured together with it. What may be
//! used is what this process was given, which in a container is not all there is.
//!
//! It must never widen what was given, nor leave a thread where the caller did not ask for it to be.

use std::io;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::process::{Child, Command};

use super::stage::Place;
use crate::parent;

/// How processors are divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Of the server; empty: any.
    server: Vec<usize>,
    /// Of the driver; empty: any.
    driver: Vec<usize>,
    /// How many processors the server may use.
    server_count: usize,
}

impl Layout {
    /// Server and driver use whatever there is.
    pub fn shared() -> anyhow::Result<Self> {
        Ok(Self { server: Vec::new(), driver: Vec::new(), server_count: allowed()?.len() })
    }

    /// The server has the first processor to itself, the driver has the others.
    pub fn pinned() -> anyhow::Result<Self> {
        Self::divided(&allowed()?)
    }

    fn divided(allowed: &[usize]) -> anyhow::Result<Self> {
        let (first, others) = allowed.split_first().context("no processor may be used")?;
        anyhow::ensure!(
            !others.is_empty(),
            "server and driver cannot have processors of their own: this process may use processor {first} only; \
             leave out --pin, or give it a second one"
        );
        Ok(Self { server: vec![*first], driver: others.to_vec(), server_count: 1 })
    }

    /// Whether server and driver have processors of their own.
    pub fn is_pinned(&self) -> bool {
        !self.server.is_empty()
    }

    /// Processors of the server; empty: any.
    pub fn server(&self) -> Vec<usize> {
        self.server.clone()
    }

    /// Processors that the server may use.
    pub fn server_may_use(&self) -> anyhow::Result<Vec<usize>> {
        if self.is_pinned() { Ok(self.server()) } else { allowed() }
    }

    /// How many processors the server may use.
    pub fn server_processors(&self) -> f64 {
        self.server_count as f64
    }

    /// Where threads of the driver run whose latency is measured.
    pub fn driver(&self) -> Place {
        Place { processors: self.driver.clone(), runs_last: false }
    }
}

impl Place {
    /// Moves the calling thread there.
    pub fn take(&self) -> anyhow::Result<()> {
        if !self.processors.is_empty() {
            confine(&self.processors)?;
        }
        if self.runs_last {
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
                .context("a thread cannot be made to run last")?;
        }
        Ok(())
    }
}

/// Starts a program that may use these processors only (empty: any), and sees no others. It ends with this process, or with the
/// thread that calls this. Must be called on a runtime.
pub fn spawn_on(processors: &[usize], command: &mut Command) -> io::Result<Child> {
    parent::bind(command);
    if processors.is_empty() {
        return command.spawn();
    }
    // A child begins with what the thread has that makes it.
    let before = sched_getaffinity(None)?;
    let _back = Back(before);
    sched_setaffinity(None, &set(processors))?;
    command.spawn()
}

/// Puts the calling thread back.
struct Back(CpuSet);

impl Drop for Back {
    fn drop(&mut self) {
        // It was allowed a moment ago.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// Processors that this thread may use, in order.
pub fn allowed() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("the system does not say which processors may be used")?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect())
}

fn confine(processors: &[usize]) -> anyhow::Result<()> {
    sched_setaffinity(None, &set(processors)).with_context(|| {
        format!("processors {processors:?} cannot be used; see `taskset -p {}`", std::process::id())
    })
}

fn set(processors: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for processor in processors {
        if *processor < CpuSet::MAX_CPU {
            set.set(*processor);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Pid;
    use thread_priority::thread_schedule_policy;

    #[test]
    fn processors_are_divided_as_they_are_given() {
        for (allowed, server, driver) in
            [(&[0, 1][..], 0, &[1][..]), (&[2, 5, 7], 2, &[5, 7]), (&[3, 4], 3, &[4])]
        {
            let layout = Layout::divided(allowed).unwrap();
            assert_eq!(layout.server(), [server]);
            assert_eq!(layout.driver(), Place { processors: driver.to_vec(), runs_last: false });
            assert!(layout.is_pinned() && layout.server_may_use().unwrap() == [server]);
        }
        let error = Layout::divided(&[6]).unwrap_err().to_string();
        assert!(error.contains("processor 6 only") && error.contains("--pin"), "{error}");
        assert!(Layout::divided(&[]).is_err());
        let shared = Layout::shared().unwrap();
        assert!(!shared.is_pinned() && shared.server().is_empty());
        assert_eq!(shared.server_may_use().unwrap(), allowed().unwrap());
        assert_eq!(shared.server_processors(), allowed().unwrap().len() as f64);
    }

    #[test]
    fn a_thread_goes_where_it_is_told() {
        let last = *allowed().unwrap().last().unwrap();
        let place = Place { processors: vec![last], runs_last: true };
        let seen = std::thread::spawn(move || {
            place.take().unwrap();
            (allowed().unwrap(), thread_schedule_policy().unwrap())
        });
        let (processors, policy) = seen.join().unwrap();
        assert_eq!(processors, [last]);
        assert_eq!(policy, ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
        let nowhere = Place { processors: vec![CpuSet::MAX_CPU - 1], runs_last: false };
        let error = std::thread::spawn(move || nowhere.take().unwrap_err().to_string()).join().unwrap();
        assert!(error.contains("cannot be used"), "{error}");
    }

    /// What a child of this test process may use.
    fn processors_of(pid: u32) -> Vec<usize> {
        let set = sched_getaffinity(Pid::from_raw(pid as i32)).unwrap();
        (0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect()
    }

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("60").kill_on_drop(true);
        command
    }

    #[tokio::test]
    async fn a_child_begins_where_it_is_told_and_the_parent_stays() {
        let before = allowed().unwrap();
        let last = *before.last().unwrap();
        let mut child = spawn_on(&[last], &mut sleeper()).unwrap();
        assert_eq!(processors_of(child.id().unwrap()), [last]);
        assert_eq!(allowed().unwrap(), before);
        assert!(spawn_on(&[CpuSet::MAX_CPU - 1], &mut sleeper()).is_err());
        assert_eq!(allowed().unwrap(), before);
        child.kill().await.unwrap();
    }
}
