use super::*;

#[test]
fn an_extra_question_moves_no_other_answer() {
    // T13: the second source asks two questions more, elsewhere.
    let mut plain = Choices::new(7);
    let mut extra = Choices::new(7);
    for step in 0..1_000 {
        extra.choose("test.unused", [step, 0], 10);
        extra.choose("test.used", [99, 0], 10);
        let expected = plain.choose("test.used", [step % 5, 0], 1 << 40);
        assert_eq!(extra.choose("test.used", [step % 5, 0], 1 << 40), expected);
    }
}

/// T10.
#[test]
fn answers_spread_evenly_over_the_bound() {
    let mut choices = Choices::new(1);
    let mut hits = [0_u32; 10];
    for _ in 0..10_000 {
        hits[usize::try_from(choices.choose("test", [0, 0], 10)).unwrap()] += 1;
    }
    assert!(hits.iter().all(|&n| (850..1_150).contains(&n)), "{hits:?}");
}

/// T10: an answer is of a seed; another seed or scope gives another.
#[test]
fn scopes_and_seeds_are_independent() {
    let draw = |mut c: Choices| (0..8).map(|_| c.choose("t", [1, 2], 1 << 60)).collect::<Vec<_>>();
    assert_ne!(draw(Choices::new(1)), draw(Choices::new(2)));
    assert_ne!(draw(Choices::new(1)), draw(Choices::new(1).scoped(1)));
    assert_eq!(draw(Choices::new(1).scoped(3)), draw(Choices::new(1).scoped(3)));
}

/// T10: the answer below the bound, or its override.
#[test]
fn the_most_particular_override_wins() {
    let entry = |who, nth, answer| Override { site: "t".into(), who, nth, answer };
    let who = [0, 1, 0];
    let overrides: Overrides =
        [entry(None, None, 3), entry(Some(who), None, 4), entry(Some(who), Some(1), 99)]
            .into_iter()
            .collect();
    let mut choices = Choices::new(1).with_overrides(Arc::new(overrides.clone()));
    assert_eq!(choices.choose("t", [2, 0], 10), 3);
    assert_eq!(choices.choose("t", [1, 0], 10), 4);
    assert_eq!(choices.choose("t", [1, 0], 10), 9, "an answer is cut to the bound");
    assert_eq!(overrides.list().into_iter().collect::<Overrides>(), overrides);
}

#[test]
fn a_record_shows_which_overrides_were_asked_for() {
    let zero = |site: &str| Override { site: site.into(), who: None, nth: None, answer: 0 };
    let overrides = Arc::new([zero("asked"), zero("never")].into_iter().collect());
    let mut choices = Choices::new(1).with_overrides(overrides).recording();
    assert_eq!(choices.choose("asked", [7, 0], 4), 0);
    let answers = choices.take_recorded();
    let sites: Vec<_> = answers.iter().map(|answer| (answer.site, answer.answer)).collect();
    assert_eq!(sites, [("asked", 0)]);
}

#[test]
fn a_replayed_record_gives_the_same_answers() {
    let mut recorded = Choices::new(5).recording();
    let first: Vec<u64> = (0..100).map(|n| recorded.choose("t", [n % 3, 0], 4)).collect();
    let answers = recorded.take_recorded();
    let zero = Override { site: "t".into(), who: None, nth: None, answer: 0 };
    let overrides = answers
        .into_iter()
        .map(|a| Override {
            site: a.site.into(),
            who: Some(a.who),
            nth: Some(a.nth),
            answer: a.answer,
        })
        .chain([zero])
        .collect();
    let mut replayed = Choices::new(6).with_overrides(Arc::new(overrides));
    let second: Vec<u64> = (0..100).map(|n| replayed.choose("t", [n % 3, 0], 4)).collect();
    assert_eq!(first, second);
}

/// The answers of one stream are independent: after a rare answer the next is as rare as ever, at
/// any distance. Evenly spaced answers would pass a test of frequencies and fail this one.
#[test]
fn an_answer_does_not_foretell_the_next() {
    for seed in 1..6 {
        let mut choices = Choices::new(seed);
        let rare: Vec<bool> = (0..20_000).map(|_| choices.choose("t", [0, 0], 10) == 9).collect();
        for lag in 1..12 {
            let pairs = rare.iter().zip(&rare[lag..]);
            let both = pairs.filter(|(a, b)| **a && **b).count();
            assert!((120..280).contains(&both), "seed {seed}, lag {lag}: {both} of 200");
        }
    }
}
