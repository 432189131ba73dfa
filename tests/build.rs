//! Compiles `proto/echo.proto` and `proto/faults.proto` with protox, and keeps the descriptor set of the
//! former for registration and reflection.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../proto/suiyue/v1/options.proto");
    let mut compiler = protox::Compiler::new(["proto", "../proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file("echo.proto")?;
    // Encoded by the compiler: prost's own descriptor types would drop our method options.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("echo_descriptor_set.bin"), compiler.encode_file_descriptor_set())?;
    // Not a service of the federation: nodes do not register it.
    compiler.open_file("faults.proto")?;
    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
