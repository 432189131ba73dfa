//! How does a build script that insists on `protoc` work on a machine that has none?
//!
//! This program takes the few arguments that `prost-build` passes (`-o FILE`, `-I DIR`,
//! `--include_imports`, `--include_source_info`, files) and compiles with `protox`.
//! Anything else is refused by name: a build must not succeed with an option ignored.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("protoc (suiyue, over protox): {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut out, mut includes, mut files) = (None, Vec::new(), Vec::<PathBuf>::new());
    let (mut imports, mut source_info) = (false, false);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "-o" => out = Some(value()?),
            "-I" => includes.push(value()?),
            "--include_imports" => imports = true,
            "--include_source_info" => source_info = true,
            "--experimental_allow_proto3_optional" => {}
            "--version" => {
                println!("libprotoc 29.0 (protox)");
                return Ok(());
            }
            _ if arg.starts_with("--descriptor_set_out=") => {
                out = arg.split_once('=').map(|(_, file)| file.to_owned());
            }
            _ if arg.starts_with("-I") => includes.push(arg[2..].to_owned()),
            _ if arg.starts_with('-') => return Err(format!("option {arg} is not supported")),
            _ => files.push(arg.into()),
        }
    }
    let out = out.ok_or("-o FILE is missing")?;
    let mut compiler = protox::Compiler::new(includes).map_err(|e| e.to_string())?;
    compiler.include_imports(imports).include_source_info(source_info);
    compiler.open_files(files).map_err(|e| e.to_string())?;
    std::fs::write(&out, compiler.encode_file_descriptor_set()).map_err(|e| format!("{out}: {e}"))
}
