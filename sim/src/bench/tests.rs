use super::*;
use machines::node::Node;

/// T81: which side of a bar is the right one depends on what is measured.
#[test]
fn a_rate_must_reach_its_bar_and_a_time_must_not_pass_it() {
    let rate = Measured::rate("r".into(), "r".into(), &mut [30.0, 10.0, 20.0]);
    assert_eq!((rate.value, rate.range), (20.0, [10.0, 30.0]));
    assert!(rate.against("T90", "peer", 2.0, 10.0).held);
    assert!(!rate.against("T90", "peer", 2.1, 10.0).held);
    assert!(rate.within("C170", 20.0).held && !rate.within("C170", 21.0).held);
    let time = Measured::of("t".into(), "t".into(), &mut [20.0], "ns");
    assert!(time.within("T92", 20.0).held && !time.within("T92", 19.0).held);
}

#[test]
fn the_run_that_t92_measures_ends_with_three_nodes_that_know_each_other() {
    for cipher in [Cipher::Null, Cipher::Real] {
        let mut world = World::new(Arc::new(calm::<Node>(3, SECOND, cipher, ())), Vec::new());
        assert_eq!(world.run().ended, Ended::Passed);
        for node in 0..3 {
            let guest = world.guest(node).expect("it runs");
            assert_eq!(guest.swim().snapshot().members.len(), 3, "of node {node}");
            assert_eq!(guest.links().up(), 2, "of node {node}");
        }
    }
}

#[test]
fn a_peer_that_is_not_built_says_so() {
    let missing = peers::PEERS[0].ring(std::path::Path::new("/nowhere"), 1);
    assert!(missing.expect_err("there is none").contains("not built"));
}
