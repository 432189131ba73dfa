//! How does a synthetic population get into a file? (`suiyue node seed`)
//!
//! One holder a line, the same for the same region, seed and number. The file appears under its name
//! when it is complete, so that a node never loads half a city.

use crate::cli;
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};
use suiyue_node::population;

const STEP: u64 = 10_000;

/// Writes the population.
///
/// # Errors
/// When the file cannot be written.
pub fn seed(flags: &cli::Seed) -> anyhow::Result<()> {
    let partial = partial(&flags.out);
    write(flags, &partial).with_context(|| format!("{} cannot be written", partial.display()))?;
    std::fs::rename(&partial, &flags.out)
        .with_context(|| format!("{} cannot be renamed to {}", partial.display(), flags.out.display()))?;
    Ok(())
}

fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn write(flags: &cli::Seed, path: &Path) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let bar = bar(flags.holders)?;
    for index in 0..flags.holders {
        population::write_line(&mut out, &population::holder(flags.region, index, flags.seed))?;
        if index % STEP == 0 {
            bar.set_position(index);
        }
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    bar.finish_and_clear();
    Ok(())
}

/// A bar on stderr; it draws nothing where stderr is no terminal.
fn bar(holders: u64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} holders, {eta} left")?;
    Ok(ProgressBar::new(holders).with_style(style))
}
