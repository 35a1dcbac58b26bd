//! Random pipelines that pass the checks.

use proptest::prelude::*;

use crate::kernel::pipeline::kinds::NodeKind;
use crate::kernel::sessions::Pipeline;
use crate::kernel::sessions::rig::{agent, pipeline};

/// A stage: its kind, where it leads, and numbers for the rest.
type Part = (u8, [u8; 3], [u8; 6]);

/// What a pipeline is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    parallel: bool,
    parts: Vec<Part>,
    bounds: [u8; 4],
}

pub(super) fn shape() -> impl Strategy<Value = Shape> {
    let part = (0..10_u8, prop::array::uniform3(0..8_u8), prop::array::uniform6(0..12_u8));
    let parts = prop::collection::vec(part, 1..6);
    (prop::bool::weighted(0.2), parts, prop::array::uniform4(0..12_u8))
        .prop_map(|(parallel, parts, bounds)| Shape { parallel, parts, bounds })
}

fn name(at: usize) -> String {
    format!("s{at}")
}

impl Shape {
    /// The first and the last stage run agents, so that every Fork has one to lead to.
    fn kind(&self, at: usize) -> NodeKind {
        let edge = at == 0 || at + 1 == self.parts.len();
        match self.parts[at].0 {
            _ if edge || self.parallel => NodeKind::Agent,
            0..=5 => NodeKind::Agent,
            6 => NodeKind::Gate,
            7 | 8 => NodeKind::Fork,
            _ => NodeKind::Router,
        }
    }

    fn to(&self, number: u8) -> String {
        let at = usize::from(number) % (self.parts.len() + 1);
        if at == self.parts.len() { "end".to_owned() } else { name(at) }
    }

    fn agents(&self) -> Vec<usize> {
        (0..self.parts.len()).filter(|at| self.kind(*at) == NodeKind::Agent).collect()
    }

    fn rule(number: u8, to: &str) -> String {
        let expr = match number % 4 {
            3 => "{'op': 'Always'}".to_owned(),
            value => {
                let field = "{'scope': 'Current', 'path': 'v'}";
                format!("{{'op': 'Eq', 'field': {field}, 'value': {value}}}")
            }
        };
        format!("{{'expr': {expr}, 'target': '{to}'}}")
    }

    fn stage(&self, at: usize) -> String {
        let (_, to, numbers) = self.parts[at];
        let next = format!("'default_next': '{}'", self.to(to[0]));
        let error = match self.to(to[1]).as_str() {
            "end" => String::new(),
            stage => format!(", 'error_next': '{stage}'"),
        };
        let visits = match numbers[0] {
            visits @ 1..4 => format!(", 'max_visits': {visits}"),
            _ => String::new(),
        };
        let retry = format!(
            ", 'retry': {{'max_retries': {}, 'initial_backoff_ms': {}, 'jitter_pct': {}}}",
            numbers[1] % 3,
            u32::from(numbers[2] % 3) * 700,
            numbers[3]
        );
        let lost = if numbers[4] < 3 { ", 'on_lost': 'Fail'" } else { "" };
        let timeout = format!(", 'timeout_ms': {}", 3_000 + u32::from(numbers[5]) * 10_000);
        let join = if numbers[5] % 2 == 0 { "All" } else { "First" };
        let of_agent = format!("{retry}{lost}{timeout}");
        match self.kind(at) {
            NodeKind::Agent if self.parallel => {
                let before = (0..at).filter(|before| numbers[before % 6] % 3 == 0).map(name);
                let before: Vec<String> = before.map(|name| format!("'{name}'")).collect();
                let requires = format!("'requires': [{}], 'join': '{join}'", before.join(", "));
                agent(&name(at), &format!("{requires}{of_agent}"))
            }
            NodeKind::Agent => {
                let rule = Self::rule(numbers[2] % 3, &self.to(to[2]));
                let more = format!("{next}, 'routing': [{rule}]{error}{visits}{of_agent}");
                agent(&name(at), &more)
            }
            NodeKind::Gate => {
                let rule = Self::rule(numbers[2], &self.to(to[2]));
                let fields = format!("'routing': [{rule}], {next}{visits}");
                format!("{{'name': '{}', 'node_kind': 'Gate', {fields}}}", name(at))
            }
            NodeKind::Fork => {
                let agents = self.agents();
                let rules = agents.iter().take(3).zip(numbers);
                let rules = rules.map(|(to, number)| Self::rule(number, &name(*to)));
                let rules = rules.collect::<Vec<_>>().join(", ");
                let fields = format!("'routing': [{rules}], {next}{error}{visits}");
                let fields = format!("{fields}, 'join': '{join}'");
                format!("{{'name': '{}', 'node_kind': 'Fork', {fields}}}", name(at))
            }
            NodeKind::Router => {
                let mut targets = vec![self.to(to[1]), self.to(to[2])];
                targets.dedup();
                let targets: Vec<String> =
                    targets.iter().map(|to| format!("{{'target': '{to}'}}")).collect();
                let targets = format!("'router_targets': [{}]", targets.join(", "));
                let fields = format!("'node_kind': 'Router', {next}{error}{visits}{of_agent}");
                agent(&name(at), &format!("{fields}, {targets}"))
            }
        }
    }

    pub(super) fn pipeline(&self) -> Pipeline {
        let stages: Vec<String> = (0..self.parts.len()).map(|at| self.stage(at)).collect();
        let [iterations, hops, calls, limit] = self.bounds;
        let mut more = format!(
            "'max_iterations': {}, 'max_agent_hops': {}, 'max_llm_calls': {}",
            iterations % 5,
            hops + 1,
            calls + 1
        );
        more += ", 'state_schema': [{'key': 'notes', 'merge': 'Append'}]";
        more += &format!(", 'checkpoints': {}", limit == 0);
        if !self.parallel {
            let last = name(self.parts.len() - 1);
            more += &format!(", 'loop_reset': ['s0', '{last}']").replace("'s0', 's0'", "'s0'");
            let limit = u32::from(limit % 3) + 1;
            let edge = format!("{{'from': '{last}', 'to': 's0', 'max_count': {limit}}}");
            more += &format!(", 'edge_limits': [{edge}]");
        } else {
            more += ", 'run_mode': 'Parallel'";
        }
        pipeline(&format!("{{'name': 'r', {more}, 'stages': [{}]}}", stages.join(", ")))
    }
}
