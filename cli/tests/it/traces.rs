//! Traces: three processes and a collector. And what happens where there is no collector, or no such feature.

#[cfg(not(feature = "otel"))]
use crate::support::Home;

/// Somebody who wrote the table believes that there are traces.
#[cfg(not(feature = "otel"))]
#[test]
fn a_binary_without_traces_says_so() {
    let home = Home::new();
    let file = home.path().join("config.toml");
    std::fs::write(&file, "\n[traces]\nendpoint = \"http://127.0.0.1:4317\"\n").unwrap();
    let (code, error) = home.error(&["config", "check", file.to_str().unwrap()]);
    let said = error.to_string();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("config.toml:2") && said.contains("--features otel"), "{said}");
}

#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod export;
