//! Other programs on the server's machine: one that takes processor time, one that keeps the disk busy.
//!
//! Each is a process of its own, so that what it uses is neither the server's nor the driver's in the kernel's accounts, and it
//! ends by itself, or with the driver: nothing goes on when that one dies.
//!
//! It must never fill the disk, nor leave files behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::process::{Child, Command};

use super::place::spawn_on;

/// Threads that write, each to a file of its own.
const WRITERS: usize = 2;

/// What is written before the disk is waited for.
const WRITE_BYTES: usize = 1 << 20;

/// A file is written from its beginning again when it is as large as this: 64 MiB for all of them.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Turns of a busy loop between two looks at the clock.
const TURNS: u32 = 10_000;

/// Starts a program that takes its share of these processors (of one thread each: half, beside one busy thread of the
/// server) and ends after `for_`, or with the child that is returned. `program` is this program.
pub fn busy_neighbour(program: &Path, processors: &[usize], for_: Duration) -> anyhow::Result<Child> {
    start(program, processors, &["load", "hog", "cpu"], for_)
}

/// Starts a program that writes to files in `folder` without end and waits for the disk each time. It ends as
/// [`busy_neighbour`] does.
pub fn busy_disk(program: &Path, folder: &Path, for_: Duration) -> anyhow::Result<Child> {
    let folder = folder.to_str().context("the folder's name is not UTF-8")?;
    start(program, &[], &["load", "hog", "disk", "--dir", folder], for_)
}

fn start(program: &Path, processors: &[usize], what: &[&str], for_: Duration) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(what)
        .args(["--for-s", &for_.as_secs_f64().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    spawn_on(processors, &mut command)
        .with_context(|| format!("cannot start {} as a neighbour", program.display()))
}

/// Keeps every processor busy that this process may use, for so long.
pub fn burn(for_: Duration) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().context("how many processors are there?")?.get();
    let end = Instant::now() + for_;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || burn_until(end));
        }
    });
    Ok(())
}

fn burn_until(end: Instant) {
    let mut n = 0u64;
    while Instant::now() < end {
        for _ in 0..TURNS {
            n = std::hint::black_box(n.wrapping_mul(31).wrapping_add(1));
        }
    }
}

/// Keeps the disk of `folder` busy for so long: megabytes, each waited for. The files are removed at the end.
pub fn write(folder: &Path, for_: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + for_;
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|n| scope.spawn(move || write_until(Scratch::new(folder, n)?, end))).collect();
        for writer in writers {
            let written = writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            written.with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        Ok(())
    })
}

fn write_until(mut scratch: Scratch, end: Instant) -> io::Result<()> {
    let bytes = vec![0x5a; WRITE_BYTES];
    while Instant::now() < end {
        scratch.write(&bytes)?;
        scratch.file.sync_data()?;
    }
    Ok(())
}

/// A file that is removed with the value.
struct Scratch {
    file: File,
    path: PathBuf,
    at: u64,
}

impl Scratch {
    fn new(folder: &Path, n: usize) -> io::Result<Self> {
        let path = folder.join(format!("busy-disk-{}-{n}.tmp", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path, at: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at >= FILE_BYTES_MAX {
            self.at = self.file.seek(SeekFrom::Start(0))?;
        }
        self.file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whoever cannot remove it cannot do more about it; the folder belongs to the run.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::process_time;

    #[test]
    fn burning_uses_the_processors_and_ends() {
        let pid = std::process::id();
        let (before, began) = (process_time(pid).unwrap(), Instant::now());
        burn(Duration::from_millis(200)).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(200));
        assert!(process_time(pid).unwrap() - before >= Duration::from_millis(20));
    }

    #[test]
    fn writing_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("buslane-hog-{}", uuid::Uuid::new_v4()));
        let error = write(&folder, Duration::from_millis(50)).unwrap_err();
        assert!(format!("{error:#}").contains("cannot write to"), "{error:#}");
        std::fs::create_dir_all(&folder).unwrap();
        write(&folder, Duration::from_millis(50)).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_file_is_bounded() {
        let mut scratch = Scratch::new(&std::env::temp_dir(), 7).unwrap();
        assert!(Scratch::new(&std::env::temp_dir(), 7).is_err());
        let bytes = vec![1; WRITE_BYTES];
        for _ in 0..FILE_BYTES_MAX / WRITE_BYTES as u64 + 2 {
            scratch.write(&bytes).unwrap();
        }
        assert_eq!(scratch.file.metadata().unwrap().len(), FILE_BYTES_MAX);
        assert_eq!(scratch.at, 2 * WRITE_BYTES as u64);
        let path = scratch.path.clone();
        drop(scratch);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_neighbour_is_told_what_to_do_and_where() {
        // `echo` says nothing here, but takes any argument and ends well.
        let last = *super::super::place::allowed().unwrap().last().unwrap();
        let mut child =
            busy_neighbour(Path::new("/bin/echo"), &[last], Duration::from_secs_f64(2.5)).unwrap();
        assert!(child.wait().await.unwrap().success());
        let mut child = busy_disk(Path::new("/bin/echo"), Path::new("/tmp"), Duration::from_secs(1)).unwrap();
        assert!(child.wait().await.unwrap().success());
        let error = busy_disk(Path::new("/no/such/program"), Path::new("/tmp"), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
