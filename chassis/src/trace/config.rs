//! Settings of the traces: `[traces]` in a configuration file.
//!
//! Why it exists: traces go to somebody else's machine, so nothing is sent anywhere unless this table is written. It is read with and
//! without the feature `otel`: a binary that has no traces says so, and how to get one that has, instead of being silent.

use std::path::{Path, PathBuf};

use garde::Validate;
use serde::{Deserialize, Serialize};

/// Spans that wait at most: some 2 MiB, and four seconds of a node that traces one in a hundred of 10,000 requests a second.
const QUEUE_SPANS_MAX: u32 = 4_096;

/// Settings: `[traces]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the collector takes OTLP over gRPC. None: as the environment says, or `http://localhost:4317`.
    #[garde(inner(custom(is_endpoint)))]
    pub endpoint: Option<String>,
    /// File with `name: value` lines that go with every export; a secret, so for its owner only. Paths are relative to the configuration file.
    #[garde(skip)]
    pub headers: Option<PathBuf>,
    /// PEM file with the authority of the collector's certificate. None: those that browsers know.
    #[garde(skip)]
    pub ca: Option<PathBuf>,
    /// Part of logins and requests that is traced. None: as the environment says, or 0.01.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    pub sample_ratio: Option<f64>,
    /// Part of those that are refused for lack of capacity that is traced: they are what a storm has most of. Of what had begun
    /// by then (a ticket, what waited for a seat) no more than `sample_ratio`.
    #[garde(range(min = 0.0, max = 1.0))]
    pub refused_sample_ratio: f64,
    /// `service.name`. None: as the environment says, or `buslane-` and the role.
    #[garde(inner(length(min = 1, max = 64)))]
    pub service_name: Option<String>,
    /// Spans that wait for their export; more are dropped and counted.
    #[garde(range(min = 64, max = 1_048_576))]
    pub queue_spans_max: u32,
    /// Milliseconds that one export may take. None: as the environment says, or 10,000.
    #[garde(inner(range(min = 100, max = 60_000)))]
    pub export_timeout_ms: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: None,
            ca: None,
            sample_ratio: None,
            refused_sample_ratio: 0.0,
            service_name: None,
            queue_spans_max: QUEUE_SPANS_MAX,
            export_timeout_ms: None,
        }
    }
}

impl Config {
    /// Makes the paths relative to the folder of the configuration file.
    pub fn relative_to(&mut self, folder: &Path) {
        for path in [&mut self.headers, &mut self.ca].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
}

/// Whether this binary can do what the table asks for.
pub fn is_built_in(traces: &Option<Config>, (): &()) -> garde::Result {
    if traces.is_some() && cfg!(not(feature = "otel")) {
        return Err(garde::Error::new(
            "this binary was built without traces: take the table out, or build one with them: \
             cargo build --release -p buslane-cli --features otel",
        ));
    }
    Ok(())
}

fn is_endpoint(endpoint: &str, (): &()) -> garde::Result {
    let complain = |what| Err(garde::Error::new(what));
    let Some(rest) = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://")) else {
        return complain("write the address of the collector's gRPC port, such as \"http://127.0.0.1:4317\"");
    };
    if rest.is_empty() || rest.starts_with(['/', ':']) || endpoint.contains(char::is_whitespace) {
        return complain("it has no host; write http://HOST:PORT");
    }
    if rest.contains('@') {
        return complain("a password has no place here: put it into the file of `headers`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_a_host_and_no_secret() {
        for good in ["http://127.0.0.1:4317", "https://collector.example.org", "http://[::1]:4317"] {
            is_endpoint(good, &()).unwrap();
        }
        for bad in
            ["collector:4317", "http://", "http://:4317", "http:///x", "https://me:word@host", "http://a b"]
        {
            assert!(is_endpoint(bad, &()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_table_is_valid_and_a_ratio_is_no_percentage() {
        let read = |text: &str| crate::config::parse::<Config>(text, Path::new("x.toml"));
        assert_eq!(read("").unwrap(), Config::default());
        let wrong = read("sample_ratio = 5.0\n").unwrap_err().to_string();
        assert!(wrong.contains("x.toml:1: sample_ratio"), "{wrong}");
    }

    #[test]
    fn a_binary_without_traces_says_how_to_get_one() {
        is_built_in(&None, &()).unwrap();
        let said = is_built_in(&Some(Config::default()), &());
        assert_eq!(said.is_ok(), cfg!(feature = "otel"));
        assert!(said.err().is_none_or(|e| e.to_string().contains("--features otel")));
    }
}
