//! Compiles the wire schema with protox: no protoc is needed on the machine that builds.

use std::error::Error;

const FILES: [&str; 6] =
    ["common.proto", "gate.proto", "session.proto", "token.proto", "internal.proto", "stored.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES.map(|f| format!("buslane/v1/{f}")), [&root])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
