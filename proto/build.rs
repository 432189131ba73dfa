//! Compiles `suiyue/v1/*.proto` with protox (no `protoc` needed) and keeps the descriptor set, with
//! comments, for reflection and for the method table.

use prost::Message as _;
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir("suiyue/v1")? {
        files.push(entry?.path());
    }
    files.sort();
    println!("cargo:rerun-if-changed=suiyue/v1");
    let set = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor_set.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(set)?;
    Ok(())
}
