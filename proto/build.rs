//! Compiles `suiyue/v1/*.proto` with protox (no `protoc` needed) and keeps the descriptor set, with
//! comments, for reflection and for the method table.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir("suiyue/v1")? {
        files.push(entry?.path());
    }
    files.sort();
    println!("cargo:rerun-if-changed=suiyue/v1");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    // Encoded by the compiler: prost's own descriptor types would drop our method options.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor_set.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
