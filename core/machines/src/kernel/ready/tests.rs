//! Goal: every rule of K70–K74 by an example.

use super::*;

fn pid(name: &str) -> ProcessId {
    ProcessId::parse("pid", name).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse("user", name).unwrap()
}

const AGEING: Millis = 30_000;

/// A set to which processes are added in order: (name, user, priority, ready at).
fn set(entries: &[(&str, &str, Priority, u64)]) -> ReadySet {
    let mut set = ReadySet::new();
    for (number, (name, whose, priority, at)) in (0..).zip(entries) {
        let ready_at = Time::from_millis(*at);
        let entry = Entry { user: user(whose), priority: *priority, ready_at, number };
        set.push(pid(name), entry);
    }
    set
}

fn served(set: &mut ReadySet) -> Vec<String> {
    let mut order = Vec::new();
    while let Some(pid) = set.next(AGEING).cloned() {
        order.push(pid.to_string());
        set.serve(&pid);
    }
    order
}

use Priority::{High, Idle, Normal, Realtime};

#[test]
fn a_lower_band_goes_first_among_those_that_came_together() {
    let mut set =
        set(&[("idle", "a", Idle, 5), ("high", "a", High, 5), ("real", "a", Realtime, 5)]);
    assert_eq!(served(&mut set), ["real", "high", "idle"]);
}

#[test]
fn waiting_one_ageing_is_worth_one_band_and_a_tie_goes_to_the_lower() {
    let mut equal = set(&[("normal", "a", Normal, 0), ("high", "a", High, AGEING)]);
    assert_eq!(served(&mut equal), ["high", "normal"]);
    let mut older = set(&[("normal", "a", Normal, 0), ("high", "a", High, AGEING + 1)]);
    assert_eq!(served(&mut older), ["normal", "high"]);
}

#[test]
fn users_take_turns_however_many_processes_they_have() {
    let mut set = set(&[
        ("a1", "a", Normal, 0),
        ("a2", "a", Normal, 0),
        ("a3", "a", Normal, 0),
        ("b1", "b", Normal, 1),
        ("c1", "c", Normal, 2),
        ("b2", "b", Normal, 3),
    ]);
    assert_eq!(served(&mut set), ["a1", "b1", "c1", "a2", "b2", "a3"]);
}

#[test]
fn a_user_that_comes_back_waits_behind_those_who_stayed() {
    let mut set = set(&[("a1", "a", Normal, 0), ("b1", "b", Normal, 1), ("b2", "b", Normal, 1)]);
    set.serve(&pid("a1"));
    let entry = Entry { user: user("a"), priority: Normal, ready_at: Time::ZERO, number: 9 };
    set.push(pid("a2"), entry);
    assert_eq!(served(&mut set), ["b1", "a2", "b2"]);
}

#[test]
fn who_is_taken_out_of_turn_costs_its_user_no_turn() {
    let mut set = set(&[("a1", "a", Normal, 0), ("a2", "a", Normal, 0), ("b1", "b", Normal, 1)]);
    set.remove(&pid("a1"));
    assert_eq!(served(&mut set), ["a2", "b1"]);
}

#[test]
fn a_user_of_its_own_work_gets_its_oldest_by_band() {
    let set = set(&[
        ("b1", "b", Realtime, 0),
        ("a1", "a", Normal, 0),
        ("a2", "a", High, AGEING),
        ("a3", "a", High, AGEING),
    ]);
    assert_eq!(set.next_of(&user("a"), AGEING), Some(&pid("a2")));
    assert_eq!(set.next_of(&user("c"), AGEING), None);
}

/// K71, K74: that age has put one first is known, among all and among a user's own.
#[test]
fn what_goes_before_a_better_priority_does_so_by_its_age() {
    let set = set(&[
        ("old", "a", Normal, 0),
        ("new", "b", High, AGEING + 1),
        ("own", "a", Idle, AGEING + 1),
    ]);
    assert_eq!(set.next(AGEING), Some(&pid("old")));
    assert!(set.is_after_better(&pid("old"), None), "b's is better, and younger");
    assert!(!set.is_after_better(&pid("old"), Some(&user("a"))), "nothing of its own is");
    assert!(set.is_after_better(&pid("own"), Some(&user("a"))));
    assert!(!set.is_after_better(&pid("new"), None), "it is the best");
}

#[test]
fn a_process_is_in_the_set_once_and_keeps_its_place() {
    let mut set = set(&[("a1", "a", Normal, 0), ("b1", "b", Normal, 0)]);
    let later = Entry { user: user("a"), priority: Idle, ready_at: Time::FAR, number: 9 };
    set.push(pid("a1"), later);
    assert_eq!(set.len(), 2);
    assert_eq!(served(&mut set), ["a1", "b1"]);
    assert!(set.is_empty());
}
