//! What does the gateway think of its nodes?
//!
//! The demo asks like any operator: ListNodes on the control port, several times a second. Changes
//! of health become events on the screen; the play waits here for nodes to come into rotation.

use super::screen::Screen;
use crate::{serve::address_file, verbs::operator::Operator, verbs::output};
use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};
use suiyue_proto::{
    region::Code,
    v1::{Health, ListNodesResponse},
};
use tokio::{sync::watch, task::JoinHandle};

const EVERY: Duration = Duration::from_millis(200);

/// A running watch; it ends with its last clone.
#[derive(Clone)]
pub(super) struct Watch {
    seen: watch::Receiver<ListNodesResponse>,
    _asking: Arc<AbortOnDrop>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Watch {
    pub(super) async fn start(
        addresses: &address_file::Gateway,
        screen: Arc<Screen>,
    ) -> anyhow::Result<Self> {
        let mut operator = Operator::connect(&[addresses.control.to_string()]).await?;
        let (seen, receiver) = watch::channel(ListNodesResponse::default());
        let asking = tokio::spawn(async move {
            let mut before = BTreeMap::new();
            loop {
                if let Ok(answer) = operator.nodes(0).await {
                    let now = healths(&answer);
                    for line in changes(&before, &now) {
                        screen.event(&line);
                    }
                    before = now;
                    seen.send_replace(answer);
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Ok(Self { seen: receiver, _asking: Arc::new(AbortOnDrop(asking)) })
    }

    /// Resolves when the endpoint at this address is in rotation and ready for these regions.
    pub(super) fn in_rotation(
        &self,
        address: SocketAddr,
        regions: &[Code],
    ) -> impl Future<Output = ()> + use<> {
        let (mut seen, address) = (self.seen.clone(), address.to_string());
        let regions: Vec<u32> = regions.iter().map(|region| region.get()).collect();
        async move {
            let there = |answer: &ListNodesResponse| {
                answer.nodes.iter().flat_map(|node| &node.endpoints).any(|endpoint| {
                    endpoint.address == address
                        && endpoint.health() == Health::Ok
                        && regions.iter().all(|region| endpoint.ready.contains(region))
                })
            };
            if seen.wait_for(there).await.is_err() {
                // Nobody asks any more: the demo is ending.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Health of a node in a few words.
    pub(super) fn says(&self, node: &str) -> String {
        healths(&self.seen.borrow()).get(node).cloned().unwrap_or_else(|| "not registered".to_owned())
    }

    /// Health of a node in a word.
    pub(super) fn word(&self, node: &str) -> String {
        let mut says = self.says(node);
        if let Some(reason) = says.find(" (") {
            says.truncate(reason);
        }
        says
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Health by node. The demo's nodes have one endpoint each.
fn healths(answer: &ListNodesResponse) -> BTreeMap<String, String> {
    let health = |node: &suiyue_proto::v1::NodeInfo| match node.endpoints.first() {
        None => "gone".to_owned(),
        Some(endpoint) => {
            let word = output::word(endpoint.health().as_str_name(), "HEALTH_").replace("unspecified", "new");
            match endpoint.health_reason.as_str() {
                "" => word,
                reason => format!("{word} ({reason})"),
            }
        }
    };
    answer.nodes.iter().map(|node| (node.node.clone(), health(node))).collect()
}

fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let mut lines = Vec::new();
    for (node, health) in now {
        match before.get(node) {
            Some(earlier) if earlier == health => {}
            Some(earlier) => lines.push(format!("the gateway sees {node}: {earlier} -> {health}")),
            None => lines.push(format!("the gateway sees {node}: {health}")),
        }
    }
    for node in before.keys().filter(|node| !now.contains_key(*node)) {
        lines.push(format!("the gateway sees {node}: gone"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(node, health)| ((*node).to_owned(), (*health).to_owned())).collect()
        };
        let before = map(&[("suikang", "ok"), ("xian", "ok"), ("old", "ok")]);
        let now = map(&[("suikang", "ejected"), ("xian", "ok"), ("yuekang", "new")]);
        let told = changes(&before, &now);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].ends_with("suikang: ok -> ejected"));
        assert!(told[1].ends_with("yuekang: new") && told[2].ends_with("old: gone"));
    }
}
