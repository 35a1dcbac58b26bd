use super::*;

const MS: u64 = 1_000_000;

fn fates(conditions: Conditions, count: usize) -> Vec<Fate> {
    let mut net = Net::new(2, conditions);
    let mut choices = Choices::new(11);
    (0..count).map(|_| net.datagram(0, 1, 100, 0, &mut choices)).collect()
}

/// T10: no other randomness, and none that is not asked for.
#[test]
fn a_calm_link_asks_nothing_and_delays_by_its_least() {
    let mut net = Net::new(2, Conditions { delay_min: MS, ..Default::default() });
    let mut choices = Choices::new(1).recording();
    let before = machines::digest::Digest::of(&choices);
    let fate = net.datagram(0, 1, 100, 5, &mut choices);
    assert_eq!(fate, Fate::Arrives { at: 5 + MS, copy_at: None, corrupt: false });
    assert_eq!(machines::digest::Digest::of(&choices), before, "no question was asked");
}

#[test]
fn loss_duplication_and_corruption_strike_as_often_as_they_should() {
    let share = 300_000;
    let on = Conditions { loss: share, duplicate: share, corrupt: share, ..Default::default() };
    let fates = fates(on, 10_000);
    let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
    assert!((2_800..3_200).contains(&lost), "{lost} of 10000 lost");
    let struck = |what: fn(&Fate) -> bool| fates.iter().filter(|fate| what(fate)).count();
    let copied = struck(|fate| matches!(fate, Fate::Arrives { copy_at: Some(_), .. }));
    let corrupted = struck(|fate| matches!(fate, Fate::Arrives { corrupt: true, .. }));
    assert!((1_900..2_300).contains(&copied), "{copied} of 7000 copied");
    assert!((1_900..2_300).contains(&corrupted), "{corrupted} of 7000 corrupted");
}

/// T11.
#[test]
fn a_loss_of_everything_still_has_a_benign_answer() {
    let overrides =
        [machines::choices::Override { site: "net.loss".into(), who: None, nth: None, answer: 0 }];
    let overrides = std::sync::Arc::new(overrides.into_iter().collect());
    let mut choices = Choices::new(1).with_overrides(overrides);
    let mut net = Net::new(2, Conditions { loss: 1_000_000, ..Default::default() });
    assert_ne!(net.datagram(0, 1, 1, 0, &mut choices), Fate::Lost);
}

#[test]
fn delays_spread_over_the_range_and_so_reorder() {
    let on = Conditions { delay_min: MS, delay_span: 9 * MS, ..Default::default() };
    let times: Vec<u64> = fates(on, 1_000)
        .into_iter()
        .map(|fate| match fate {
            Fate::Arrives { at, .. } => at,
            Fate::Lost => panic!("nothing is lost here"),
        })
        .collect();
    assert!(times.iter().all(|at| (MS..=10 * MS).contains(at)));
    assert!(times.iter().any(|at| *at < 2 * MS) && times.iter().any(|at| *at > 9 * MS));
    assert!(times.windows(2).any(|pair| pair[0] > pair[1]));
}

#[test]
fn a_narrow_link_queues_and_then_drops() {
    // 1,000 bytes a second: each datagram of 100 bytes takes 100 ms; 300 bytes may wait.
    let on = Conditions { rate: 1_000, queue: 300, ..Default::default() };
    let fates = fates(on, 6);
    let at = |n: u64| Fate::Arrives { at: n * 100 * MS, copy_at: None, corrupt: false };
    assert_eq!(fates[..4], [at(1), at(2), at(3), at(4)]);
    assert_eq!(fates[4..], [Fate::Lost, Fate::Lost]);
}

#[test]
fn a_cut_concerns_only_its_links_and_only_one_direction() {
    let mut net = Net::new(3, Conditions::default());
    net.reshape(&[(|from, to| from == 0 && to == 1, |on: &mut Conditions| on.cut = true)]);
    assert!(!net.is_open(0, 1));
    assert!(net.is_open(1, 0) && net.is_open(0, 2));
    net.reshape(&[(|_, _| false, |on: &mut Conditions| on.cut = true)]);
    assert!(net.is_open(0, 1));
}

#[test]
fn a_datagram_over_the_mtu_is_dropped() {
    let fates = fates(Conditions { mtu: 99, ..Default::default() }, 1);
    assert_eq!(fates, [Fate::Lost]);
}

#[test]
fn corruption_changes_the_bytes() {
    for seed in 0..64 {
        let mut bytes = vec![0; 50];
        corrupt(&mut bytes, [0, 1], &mut Choices::new(seed));
        assert_ne!(bytes, vec![0; 50], "seed {seed}");
    }
}
