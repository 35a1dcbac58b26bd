use proptest::prelude::*;

use super::*;
use crate::kernel::json::Json;
use crate::kernel::json::document::read;
use crate::kernel::pipeline::names::{AgentName, PipelineName};

fn name(at: usize) -> StageName {
    StageName::parse("name", &format!("s{at}")).unwrap()
}

/// Stages `s0`, `s1`, … with what each requires, and what it comes after.
fn pipeline(needs: &[(Vec<usize>, Vec<usize>, JoinStrategy)]) -> PipelineConfig {
    let names = |places: &Vec<usize>| places.iter().map(|at| name(*at)).collect::<Vec<_>>();
    let agent = AgentName::parse("agent", "a").unwrap();
    let stages = needs.iter().enumerate().map(|(at, (requires, after, join))| PipelineStage {
        requires: names(requires),
        after: names(after),
        join: *join,
        ..PipelineStage::agent(name(at), agent.clone())
    });
    let bare = Json::object([("name", Json::from("p")), ("stages", Json::list(Vec::new()))]);
    let config: PipelineConfig = read(&bare, "pipeline").unwrap();
    assert_eq!(config.name, PipelineName::parse("name", "p").unwrap());
    PipelineConfig { stages: stages.collect(), ..config }
}

fn ready(config: &PipelineConfig, done: &[usize]) -> Vec<String> {
    let done = done.iter().map(|at| name(*at)).collect();
    config.ready(&done).into_iter().map(ToString::to_string).collect()
}

/// K427: after a denial, what needs the stage for that may follow it, and nothing else.
#[test]
fn what_needs_a_stage_follows_from_it() {
    let all = JoinStrategy::All;
    let config = pipeline(&[
        (Vec::new(), Vec::new(), all),
        (vec![3], Vec::new(), all),
        (Vec::new(), vec![1], all),
        (Vec::new(), Vec::new(), all),
    ]);
    assert_eq!(config.following(&name(3)), [1, 2, 3].map(name).into());
    assert_eq!(config.following(&name(0)), [0].map(name).into());
}

/// K265.
#[test]
fn a_move_to_the_same_or_an_earlier_stage_goes_back() {
    let config = pipeline(&vec![(Vec::new(), Vec::new(), JoinStrategy::All); 3]);
    for from in 0..3 {
        for to in 0..3 {
            assert_eq!(config.is_back_edge(&name(from), &name(to)), to <= from, "{from} {to}");
        }
    }
    assert!(!config.is_back_edge(&name(0), &name(7)), "unknown");
}

/// K278.
#[test]
fn a_stage_is_ready_when_what_it_needs_is_done() {
    let all = JoinStrategy::All;
    let config = pipeline(&[
        (vec![], vec![], all),
        (vec![], vec![], JoinStrategy::First),
        (vec![0, 1], vec![], all),
        (vec![0, 1], vec![], JoinStrategy::First),
        (vec![0], vec![1], JoinStrategy::First),
    ]);
    assert_eq!(ready(&config, &[]), ["s0", "s1"], "no needs are met, whatever the join");
    assert_eq!(ready(&config, &[0]), ["s1", "s3"]);
    assert_eq!(ready(&config, &[0, 1]), ["s2", "s3", "s4"]);
    assert_eq!(ready(&config, &[0, 1, 2, 3, 4]), Vec::<String>::new());
}

/// Stages that all need each other have as many rings as there are pairs of them.
#[test]
fn of_very_many_rings_some_are_told() {
    let all: Vec<usize> = (0..256).collect();
    let config = pipeline(&vec![(all, Vec::new(), JoinStrategy::All); 256]);
    let told = cycles(&config);
    let stages: usize = told.iter().map(Vec::len).sum();
    assert!((TOLD_MAX..TOLD_MAX + 256).contains(&stages), "{stages} stages");
}

#[test]
fn rings_are_told_from_where_they_close() {
    let all = JoinStrategy::All;
    let config = pipeline(&[
        (vec![1], vec![], all),
        (vec![], vec![2], all),
        (vec![0, 3], vec![], all),
        (vec![3], vec![], all),
    ]);
    assert_eq!(cycles(&config), [vec![0, 1, 2], vec![3]]);
    // A chain as long as configuration allows takes none of the thread's stack.
    let chain: Vec<_> = (0..2_560).map(|at| (vec![at + 1], vec![], all)).collect();
    assert_eq!(cycles(&pipeline(&chain)), Vec::<Vec<usize>>::new());
}

proptest! {
    /// There is a ring exactly if running in rounds, all that is ready at once, does not get
    /// through; and every ring told is one.
    #[test]
    fn a_pipeline_without_rings_gets_through(
        needs in prop::collection::vec(prop::collection::vec(0_usize..8, 0..3), 1..8),
        after in any::<bool>(),
    ) {
        let needs: Vec<_> = needs
            .iter()
            .map(|needs| {
                let needs: Vec<usize> =
                    needs.iter().map(|at| at % (needs.len() * 3)).collect();
                match after {
                    true => (vec![], needs, JoinStrategy::First),
                    false => (needs, vec![], JoinStrategy::All),
                }
            })
            .collect();
        let config = pipeline(&needs);
        let known = |at: &usize| *at < needs.len();
        let mut done = BTreeSet::new();
        loop {
            let ready: Vec<StageName> = config.ready(&done).into_iter().cloned().collect();
            if ready.is_empty() {
                break;
            }
            done.extend(ready);
        }
        let rings = cycles(&config);
        // Unknown needs are never met, and are told by another rule.
        let all_known = needs.iter().all(|(a, b, _)| a.iter().chain(b).all(known));
        if all_known {
            prop_assert_eq!(rings.is_empty(), done.len() == needs.len());
        }
        for ring in rings {
            for (nth, at) in ring.iter().enumerate() {
                let next = ring[(nth + 1) % ring.len()];
                prop_assert!(needs[*at].0.contains(&next) || needs[*at].1.contains(&next));
            }
        }
    }
}
