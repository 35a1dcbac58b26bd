//! The command line of both peers.

use std::process::ExitCode;
use std::time::Duration;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bench {
    /// A ring of three.
    Ring {
        /// Datagrams in flight, one run each.
        in_flight: Vec<u32>,
        /// Datagrams to receive before the end.
        datagrams: u64,
    },
    /// foca.
    Gossip {
        /// Members.
        members: u32,
        /// How long, in virtual time.
        duration: Duration,
    },
}

/// The whole command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What to run.
    pub bench: Bench,
    /// The seed of the simulator and of foca.
    pub seed: u64,
}

/// How to call the peers.
const USAGE: &str = "usage: PEER ring [--in-flight N] [--datagrams N] [--seed N]\n       \
                         PEER gossip [--members N] [--virtual-seconds N] [--seed N]";

impl Options {
    /// Parses the arguments of this program.
    ///
    /// # Errors
    ///
    /// How to end: what is wrong with them was printed.
    pub fn of_program() -> Result<Self, ExitCode> {
        Self::parse(std::env::args().skip(1)).map_err(|why| {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        })
    }

    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let bench = arguments.next().ok_or("what to run?")?;
        let (mut in_flight, mut datagrams) = (vec![1, 64], 300_000);
        let (mut members, mut seconds, mut seed) = (100, 3_600, 1);

        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or(format!("{flag} needs a value"))?;
            let number: u32 = value.parse().map_err(|_| format!("{flag}: not {value}"))?;
            match flag.as_str() {
                "--in-flight" => in_flight = vec![number],
                "--datagrams" => datagrams = number.into(),
                "--members" => members = number,
                "--virtual-seconds" => seconds = number,
                "--seed" => seed = number.into(),
                _ => return Err(format!("unknown: {flag}")),
            }
        }
        let bench = match bench.as_str() {
            "ring" => Bench::Ring { in_flight, datagrams },
            "gossip" if members < 2 => return Err("--members: at least 2".to_owned()),
            "gossip" => Bench::Gossip { members, duration: Duration::from_secs(seconds.into()) },
            _ => return Err(format!("unknown: {bench}")),
        };
        Ok(Self { bench, seed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_flag_changes_what_it_names() {
        let options = parse("gossip --members 5 --virtual-seconds 60 --seed 9").unwrap();
        let duration = Duration::from_secs(60);
        assert_eq!(options.seed, 9);
        assert_eq!(options.bench, Bench::Gossip { members: 5, duration });
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "walk", "ring --seed", "ring --seed x", "gossip --members 1"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
