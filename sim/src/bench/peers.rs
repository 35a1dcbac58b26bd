//! The simulators that ours is measured against: programs of `benches/peers`, if they are built.
//!
//! Each prints one line of JSON a measurement. Its time is its process's time on a core, as ours
//! is; where the system does not tell that, the time that it says it took.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::stopwatch::of_children;

/// A peer, how much faster ours must be, and how long its members gossip here.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// What it is called; its program is `peer-` and that.
    pub name: &'static str,
    /// What T90 asks for.
    pub ring_bar: f64,
    /// What T91 asks for.
    pub gossip_bar: f64,
    /// Virtual seconds of gossip that it can do within a minute or so.
    pub gossip_seconds: u32,
}

/// Both.
pub const PEERS: [Peer; 2] = [
    Peer { name: "madsim", ring_bar: 10.0, gossip_bar: 5.0, gossip_seconds: 3_600 },
    Peer { name: "turmoil", ring_bar: 10.0, gossip_bar: 100.0, gossip_seconds: 10 },
];

impl Peer {
    /// Returns its simulated datagrams per second on a ring of three with `in_flight`.
    ///
    /// # Errors
    ///
    /// Why there is no figure: most likely it is not built.
    pub fn ring(&self, folder: &Path, in_flight: u32) -> Result<f64, String> {
        let (line, took) = self.run(folder, &["ring", "--in-flight", &in_flight.to_string()])?;
        Ok(number(&line, "datagrams")? / took)
    }

    /// Returns its virtual seconds per second of `members` instances of foca.
    ///
    /// # Errors
    ///
    /// Why there is no figure: most likely it is not built.
    pub fn gossip(&self, folder: &Path, members: u32) -> Result<f64, String> {
        let seconds = self.gossip_seconds.to_string();
        let members = members.to_string();
        let wanted = ["gossip", "--members", &members, "--virtual-seconds", &seconds];
        let (line, took) = self.run(folder, &wanted)?;
        Ok(number(&line, "virtual_seconds")? / took)
    }

    /// Runs it; returns what it printed and the seconds that it took.
    fn run(&self, folder: &Path, wanted: &[&str]) -> Result<(serde_json::Value, f64), String> {
        let program = folder.join(format!("peer-{}", self.name));
        if !program.is_file() {
            return Err(format!("{} is not built (`cargo peers`)", program.display()));
        }
        let before = of_children();
        let output = Command::new(&program).args(wanted).output().map_err(|e| e.to_string())?;
        let spent = before.and_then(|before| of_children()?.checked_sub(before));
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().ok_or_else(|| format!("{} said nothing", self.name))?;
        let line = serde_json::from_str(line).map_err(|e| format!("{}: {e}", self.name))?;
        let took = match spent.filter(|spent| *spent > Duration::ZERO) {
            Some(spent) => spent.as_secs_f64(),
            None => number(&line, "wall_seconds")?,
        };
        Ok((line, took))
    }
}

fn number(line: &serde_json::Value, name: &str) -> Result<f64, String> {
    let value = line.get(name).and_then(serde_json::Value::as_f64);
    value.ok_or_else(|| format!("a peer's line has no number `{name}`"))
}
