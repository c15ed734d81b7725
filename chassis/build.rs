//! Generates the gRPC service of the internal schema. Its messages are those of the pure crate, so that a role in
//! another process and a role in this one speak the same types.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(["buslane/v1/internal.proto"], [&root])?;
    tonic_prost_build::configure()
        .extern_path(".buslane.v1", "::buslane_shared::wire")
        .compile_fds(descriptors)?;
    Ok(())
}
