//! How a storm is run: what the command line says about it, and the plan that comes of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buslane_loadtest::storm::place::Layout;
use buslane_loadtest::storm::result::{Capacity, Costs};
use buslane_loadtest::storm::run::Plan;
use buslane_loadtest::storm::scenario::Scenario;
use buslane_loadtest::storm::stage::Target;
use clap::Args;

use super::share;
use crate::failure::{Exit, Failure};

/// Policies that a server can be started with.
pub const POLICIES: [&str; 3] = ["buslane", "static", "none"];

/// A day: longer than any run that is watched.
const STORM_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How a storm is run.
#[derive(Debug, Clone, Args)]
pub struct StormArgs {
    /// Factor on the load
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = share)]
    pub scale: f64,
    /// How long the storm lasts, in place of what the scenario says: 20s, 5m
    #[arg(long, value_name = "TIME", value_parser = storm_time)]
    pub duration: Option<Duration>,
    /// Give the server the first processor to itself, and this program the others
    #[arg(long)]
    pub pin: bool,
    /// The same seed makes the same plan of load
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Folder for the servers' data, on the disk that is to be measured [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Gateway of a system that runs already, in place of one that is started
    #[arg(long, value_name = "HOST:PORT", requires_all = ["ca", "logins_per_s", "messages_per_s"])]
    pub against: Option<String>,
    /// Its certificate authority
    #[arg(long, value_name = "FILE", requires = "against")]
    pub ca: Option<PathBuf>,
    /// Logins a second that it can do
    #[arg(long, value_name = "N", requires = "against", value_parser = rate)]
    pub logins_per_s: Option<f64>,
    /// Messages a second that it can do
    #[arg(long, value_name = "N", requires = "against", value_parser = rate)]
    pub messages_per_s: Option<f64>,
}

impl StormArgs {
    /// The plan; `policy`: of a server that is started.
    pub fn plan(
        &self,
        scenario: Scenario,
        policy: Option<&str>,
        work: &Path,
        layout: Layout,
    ) -> Result<Plan, Failure> {
        let mut scenario = scenario;
        if let Some(duration) = self.duration {
            scenario = scenario.lasting(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX));
        }
        Ok(Plan {
            scenario,
            policy: policy.map(str::to_owned),
            scale: self.scale,
            seed: self.seed,
            layout,
            program: this_program()?,
            work: work.to_owned(),
            against: self.target()?,
            capacity: self.capacity(),
            command: command_line(std::env::args()),
        })
    }

    /// Which processors are the server's, and which this program's.
    pub fn layout(&self) -> Result<Layout, Failure> {
        let layout = if self.pin { Layout::pinned() } else { Layout::shared() };
        layout.map_err(|e| Failure::usage(format!("{e:#}")))
    }

    /// A system that runs already, if one is to be put under load.
    pub fn target(&self) -> Result<Option<Target>, Failure> {
        let (Some(gate), Some(ca)) = (&self.against, &self.ca) else { return Ok(None) };
        if let Err(error) = std::fs::metadata(ca) {
            return Err(Failure::usage(format!("--ca {}: {error}", ca.display())));
        }
        Ok(Some(Target { gate: gate.clone(), ca: ca.clone() }))
    }

    fn capacity(&self) -> Option<(Capacity, Costs)> {
        let (logins_per_s, messages_per_s) = (self.logins_per_s?, self.messages_per_s?);
        // How many processors it has cannot be seen; nothing is computed from it for such a system.
        Some((
            Capacity {
                processors: 0.0,
                logins_per_s,
                sessions_per_s: logins_per_s,
                messages_per_s,
                messages_full_per_s: None,
            },
            Costs::default(),
        ))
    }

    /// A folder of this process below the one that was named.
    pub fn work_folder(&self) -> PathBuf {
        let parent = self.work.clone().unwrap_or_else(std::env::temp_dir);
        parent.join(format!("buslane-load-{}", std::process::id()))
    }
}

/// The program that is measured: this one.
pub fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| {
        Failure::new(Exit::NotMeasured, "not_measured", format!("this program does not find itself: {e}"))
    })
}

/// What repeats this, as it may be pasted into a shell.
fn command_line(args: impl Iterator<Item = String>) -> String {
    let safe = |arg: &str| {
        !arg.is_empty() && arg.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c))
    };
    let quoted =
        args.skip(1).map(|arg| if safe(&arg) { arg } else { format!("'{}'", arg.replace('\'', r"'\''")) });
    std::iter::once("buslane".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

fn storm_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|e| format!("{e}: write a time such as 30s or 5m"))?;
    if (Duration::from_secs(1)..=STORM_MAX).contains(&time) {
        Ok(time)
    } else {
        Err("write a time from 1s to 24h".to_owned())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "write a number such as 2000".to_owned())?;
    if rate > 0.0 && rate <= 1e7 {
        Ok(rate)
    } else {
        Err("write a number above 0, up to 10000000".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_told_so_that_a_shell_understands_it() {
        let args = ["/usr/bin/buslane", "load", "run", "my file.toml", "--out", "it's"];
        assert_eq!(
            command_line(args.into_iter().map(str::to_owned)),
            r"buslane load run 'my file.toml' --out 'it'\''s'"
        );
    }

    #[test]
    fn times_and_rates_have_bounds() {
        assert_eq!(storm_time("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["0s", "2d", "soon", ""] {
            assert!(storm_time(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rate("12.5"), Ok(12.5));
        for wrong in ["0", "-1", "NaN", "inf", "x"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
