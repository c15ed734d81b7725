//! On what a run was made, for whoever reads its figures.

use std::fs;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Processor, number of processors, memory, kernel: what is known of them.
pub fn describe() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let model = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = line_of("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map(|kib| format!(", {} GiB", (kib as f64 / (1024.0 * 1024.0)).round()));
    let kernel =
        fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| format!(", Linux {}", text.trim()));
    format!(
        "{processors} x {model}{}{}",
        memory.unwrap_or_default(),
        kernel.unwrap_or_else(|_| format!(", {}", std::env::consts::OS))
    )
}

/// What stands behind a word at the beginning of a line.
fn line_of(path: &str, word: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

/// Now, RFC 3339, in UTC.
pub fn now_text() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    let seconds = now.replace_nanosecond(0).unwrap_or(now);
    seconds.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let text = describe();
        assert!(text.contains(" x ") && !text.starts_with('0'), "{text}");
        assert!(now_text().ends_with('Z'), "{}", now_text());
    }
}
