//! Which regions are served? (`suiyue region list`)
//!
//! One region with its policy is described by [`describe`], its policy is replaced by [`set`]; as a
//! file it looks as in [`mod@file`].

pub mod describe;
pub mod file;
pub mod set;

use super::{
    operator::Operator,
    output::{self, Format},
};
use serde::Serialize;
use suiyue_proto::v1::RegionInfo;

/// The document of `region list -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// Regions, by code.
    pub regions: Vec<Region>,
}

/// A region.
#[derive(Debug, Serialize)]
pub struct Region {
    /// GB/T 2260 code.
    pub region: u32,
    /// Chinese name.
    pub name_zh: String,
    /// English name.
    pub name_en: String,
    /// Its province; absent for a province.
    pub province: Option<u32>,
    /// Somebody is configured or registered to serve it.
    pub joined: bool,
    /// Somebody can answer right now.
    pub available: bool,
    /// Nodes that serve it, best tier first.
    pub nodes: Vec<String>,
}

impl From<RegionInfo> for Region {
    fn from(info: RegionInfo) -> Self {
        Self {
            region: info.region,
            name_zh: info.name_zh,
            name_en: info.name_en,
            province: (info.province > 0).then_some(info.province),
            joined: info.joined,
            available: info.available,
            nodes: info.nodes,
        }
    }
}

/// Lists regions.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn list(gateways: &[String], all: bool, format: Format) -> anyhow::Result<()> {
    let answer = Operator::connect(gateways).await?.regions(all).await?;
    let document = Document { regions: answer.regions.into_iter().map(Region::from).collect() };
    if format == Format::Json {
        return output::json(&document);
    }
    let mut table = output::table(["region", "name", "", "province", "joined", "available", "nodes"]);
    for region in &document.regions {
        table.add_row([
            region.region.to_string(),
            region.name_zh.clone(),
            region.name_en.clone(),
            region.province.map_or("-".to_owned(), |code| code.to_string()),
            yes_or_no(region.joined).to_owned(),
            yes_or_no(region.available).to_owned(),
            region.nodes.join(", "),
        ]);
    }
    output::line(&table.to_string())
}

const fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
