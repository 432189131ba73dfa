//! How does a test cut a network without touching the machine's own?
//!
//! A network namespace with one virtual cable to it. Nodes run inside, the gateway and the test outside:
//! pulling the cable takes all nodes away from the gateway at once, and packets vanish as they do when
//! a gateway loses its network. Needs root; [`Namespace::create`] says whether it can be done here.

use anyhow::{Context as _, ensure};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
};

/// A network of its own, gone when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// End of the cable on the machine's side.
    cable: String,
    /// Third byte of its addresses: tests at the same time get different ones.
    subnet: u8,
}

impl Namespace {
    /// Makes a namespace with a cable to it.
    ///
    /// # Errors
    /// When this machine or this user cannot.
    pub fn create() -> anyhow::Result<Self> {
        let subnet: u8 = rand::random_range(1..=250);
        let id = std::process::id();
        // Names of interfaces have 15 characters at most.
        let made = Self { name: format!("suiyue-{id}"), cable: format!("sy{id}"), subnet };
        let Self { name, cable, .. } = &made;
        let inner = format!("sz{id}");
        ip(&["netns", "add", name])?;
        ip(&["link", "add", cable, "type", "veth", "peer", "name", &inner, "netns", name])?;
        ip(&["addr", "add", &format!("{}/24", made.address(1)), "dev", cable])?;
        ip(&["link", "set", cable, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{}/24", made.address(2)), "dev", &inner])?;
        ip(&["-n", name, "link", "set", &inner, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Where programs inside can listen.
    #[must_use]
    pub fn inside(&self) -> IpAddr {
        self.address(2).into()
    }

    /// A command that runs `program` inside.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Pulls the cable: packets vanish, nobody is told.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut(&self) -> anyhow::Result<()> {
        // Inside: the gateway's machine keeps its route, so that nothing there says "unreachable".
        ip(&["-n", &self.name, "link", "set", &format!("sz{}", std::process::id()), "down"])
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn mend(&self) -> anyhow::Result<()> {
        ip(&["-n", &self.name, "link", "set", &format!("sz{}", std::process::id()), "up"])
    }

    const fn address(&self, last: u8) -> Ipv4Addr {
        // Of 198.18.0.0/15, which is reserved for tests of networks (RFC 2544).
        Ipv4Addr::new(198, 18, self.subnet, last)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.cable]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip cannot be run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments:?}: {said}");
    Ok(())
}
