//! The kernel's accounts of a process: CPU time and resident memory, read from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// CPU time that all threads of the process have used so far, in nanoseconds' resolution where the kernel keeps it.
///
/// Source: first field of `/proc/PID/task/*/schedstat`. Threads that ended are not in it, so it is meant for servers whose
/// threads stay.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut total_ns = 0u64;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = match fs::read_to_string(task?.path().join("schedstat")) {
            // It has ended since the list was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            stat => stat?,
        };
        let first = stat.split_ascii_whitespace().next().unwrap_or_default();
        total_ns += first.parse::<u64>().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    }
    Ok(Duration::from_nanos(total_ns))
}

/// CPU time of the process so far, of threads that have ended too, in ticks of the kernel (10 ms, rounded down).
///
/// Source: `utime` and `stime` of `/proc/PID/stat`. One small file whatever the number of threads: cheap enough to be read
/// many times a second.
pub fn process_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks_used(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no times"))?;
    let each_s = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / each_s as f64))
}

/// Fields 14 and 15. The name in field 2 may hold anything, so it is counted from the last bracket.
fn ticks_used(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    user.checked_add(system)
}

/// Time for which these processors (empty: all) wanted to work and the host of a virtual machine did not let them, all of them together. Always
/// nothing where the host does not tell.
///
/// Source: `steal` in `/proc/stat`.
pub fn stolen_time(processors: &[usize]) -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = ticks_stolen(&stat, processors)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no `steal` for each processor"))?;
    let each_s = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / each_s as f64))
}

/// The eighth time of the lines of these processors; with none of them, of the line of all.
fn ticks_stolen(stat: &str, processors: &[usize]) -> Option<u64> {
    let of = |name: &str| {
        let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
        let (_, times) = lines.find(|(of, _)| *of == name)?;
        times.split_ascii_whitespace().nth(7)?.parse::<u64>().ok()
    };
    match processors {
        [] => of("cpu"),
        some => some.iter().map(|processor| of(&format!("cpu{processor}"))).sum(),
    }
}

/// Resident memory of the process in bytes (`VmRSS` of `/proc/PID/status`).
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|k| k * 1024).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no VmRSS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        let mut n = 0u64;
        while cpu_time(pid).unwrap() < before + Duration::from_millis(5) {
            n = std::hint::black_box(n.wrapping_add(1));
        }
        assert!(resident_bytes(pid).unwrap() > 100_000);
    }

    #[test]
    fn threads_that_ended_stay_in_the_account_of_the_process() {
        let pid = std::process::id();
        let before = process_time(pid).unwrap();
        let work = move || {
            while process_time(pid).unwrap() < before + Duration::from_millis(50) {
                std::hint::black_box(0);
            }
        };
        std::thread::spawn(work).join().unwrap();
        assert!(process_time(pid).unwrap() >= before + Duration::from_millis(50));
    }

    #[test]
    fn what_the_host_takes_is_read_by_processor() {
        let stat = "cpu  10 0 5 900 1 0 2 33 0 0\ncpu0 5 0 2 450 1 0 1 11 0 0\ncpu1 5 0 3 450 0 0 1 22 0 0\ncpu10 1 1 1 1 1 1 1 7 0 0\nintr 1";
        for (processors, ticks) in [
            (&[][..], Some(33)),
            (&[0], Some(11)),
            (&[1], Some(22)),
            (&[0, 1], Some(33)),
            (&[10], Some(7)),
            (&[2], None),
        ] {
            assert_eq!(ticks_stolen(stat, processors), ticks, "{processors:?}");
        }
        assert_eq!(ticks_stolen("cpu 1 2 3", &[]), None);
        assert!(stolen_time(&[]).is_ok());
    }

    #[test]
    fn names_cannot_shift_the_fields() {
        let behind = "S 1 2 3 4 5 6 7 8 9 10 1400 37 0 0 20 0 9 0 12345";
        for (name, found) in [("sh", Some(1437)), ("a) b (c 1 2", Some(1437)), ("", Some(1437))] {
            assert_eq!(ticks_used(&format!("7 ({name}) {behind}")), found, "{name}");
        }
        for broken in ["", "7 sh S 1", "7 (sh) S 1 2", "7 (sh) S 1 2 3 4 5 6 7 8 9 10 x 37"] {
            assert_eq!(ticks_used(broken), None, "{broken}");
        }
    }
}
