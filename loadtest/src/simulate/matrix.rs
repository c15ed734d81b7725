//! Scenarios by policies by seeds, on all processors of the machine that runs the model.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::measure::Row;
use super::{Course, workers};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Scenarios by name.
    pub scenarios: Vec<&'static str>,
    /// Policies by name.
    pub policies: Vec<&'static str>,
    /// The first seed.
    pub seed: u64,
    /// How many seeds.
    pub seeds: u64,
    /// Size of the node, as a multiple of the usual one.
    pub scale: f64,
}

impl Plan {
    /// How many runs it is.
    pub fn runs(&self) -> u64 {
        self.scenarios.len() as u64 * self.policies.len() as u64 * self.seeds
    }
}

/// Runs a plan, and gives each row to `found` in the plan's order: scenario, seed, policy. Ends with the first error.
pub fn run(plan: &Plan, found: impl FnMut(Row) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut courses = Vec::new();
    for scenario in &plan.scenarios {
        courses.extend((0..plan.seeds).map(|n| (*scenario, plan.seed.wrapping_add(n))));
    }
    let workers = workers(plan.scale);
    let make = |n: usize| {
        let (scenario, seed) = courses.get(n)?;
        Course::new(scenario, workers, *seed)
    };
    on_all_processors(courses.len(), &plan.policies, make, found)
}

/// Runs policies over one course.
pub fn run_course(
    course: &Course,
    policies: &[&'static str],
    mut found: impl FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for policy in policies {
        found(course.run(policy)?)?;
    }
    Ok(())
}

fn on_all_processors(
    courses: usize,
    policies: &[&'static str],
    make: impl Fn(usize) -> Option<Course> + Sync,
    mut found: impl FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(courses.max(1));
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (rows, results) = mpsc::channel();
    let rows = Mutex::new(rows);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let Ok(rows) = rows.lock().map(|r| r.clone()) else { continue };
            let (next, stopped, make) = (&next, &stopped, &make);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(course) = (number < courses).then(|| make(number)).flatten() else { return };
                    for (place, policy) in policies.iter().enumerate() {
                        let result = course.run(policy);
                        let is_heard = rows.send((number * policies.len() + place, result)).is_ok();
                        if !is_heard || stopped.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                }
            });
        }
        drop(rows);
        let ended = in_order(&results, &mut found);
        stopped.store(true, Ordering::Relaxed);
        ended
    })
}

fn in_order(
    results: &mpsc::Receiver<(usize, anyhow::Result<Row>)>,
    found: &mut impl FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut early = std::collections::BTreeMap::new();
    let mut due = 0;
    for (number, row) in results {
        early.insert(number, row?);
        while let Some(row) = early.remove(&due) {
            found(row)?;
            due += 1;
        }
    }
    Ok(())
}
