//! Unit tests of the registry: registering, conflicts, hints, look-ups, syncs, retention.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks what it asks about")]

use super::*;
use crate::cluster::ids::{Incarnation, Life};
use crate::cluster::swim::io::{DeadCause, SyncStep};
use crate::cluster::wire::{Meta, NameDigest};

const A: NodeId = NodeId::from_bytes([1; 16]);
const B: NodeId = NodeId::from_bytes([2; 16]);
const C: NodeId = NodeId::from_bytes([3; 16]);
const TTL: u32 = 60_000;

/// A registry with a clock, and short words for what happens to it.
struct Bench {
    now: Instant,
    registry: Registry,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn node(id: NodeId, actor: u64) -> Ref {
    Ref { node: id, session: Session(1), actor: ActorId(actor) }
}

fn entry(text: &str, owner: NodeId, version: u32, serial: u32) -> NameEntry {
    NameEntry {
        name: name(text),
        owner,
        session: Session(1),
        actor: Some(ActorId(9)),
        version,
        serial,
        ttl_ms: TTL,
        age_ms: 0,
    }
}

fn gone(text: &str, owner: NodeId, version: u32, serial: u32) -> NameEntry {
    NameEntry { actor: None, ..entry(text, owner, version, serial) }
}

fn digest(owner: NodeId, serial: u32, age_ms: u32) -> NameDigest {
    NameDigest { owner, session: Session(1), serial, age_ms }
}

impl Bench {
    /// Node A, with B and C as members.
    fn new() -> Self {
        Self::with(RegistryConfig::standard())
    }

    fn with(config: RegistryConfig) -> Self {
        let mut bench = Self {
            now: Instant::from_millis(1_000),
            registry: Registry::new(A, Session(1), config, Choices::new(7)),
        };
        bench.member(B, 1, MemberEventKind::Join);
        bench.member(C, 1, MemberEventKind::Join);
        bench
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.registry.handle(self.now, input);
        std::iter::from_fn(|| self.registry.poll()).collect()
    }

    fn wait(&mut self, ms: u64) -> Vec<Output> {
        self.now = self.now + Duration::from_millis(ms);
        self.input(Input::Tick)
    }

    fn member(&mut self, node: NodeId, session: u32, kind: MemberEventKind) -> Vec<Output> {
        self.input(Input::Member(MemberEvent {
            index: 0,
            node,
            life: Life { session: Session(session), incarnation: Incarnation(0) },
            addr: None,
            meta: Meta::EMPTY,
            kind,
        }))
    }

    fn register(&mut self, text: &str, actor: u64) -> Result<(), RegisterError> {
        self.register_as(text, actor, None, false)
    }

    fn register_as(
        &mut self,
        text: &str,
        actor: u64,
        ttl: Option<Duration>,
        manual: bool,
    ) -> Result<(), RegisterError> {
        let outputs = self.input(Input::Register {
            call: CallId(1),
            name: name(text),
            actor: ActorId(actor),
            ttl,
            manual,
        });
        registered(&outputs)
    }

    fn entry(&mut self, entry: NameEntry) -> Vec<Output> {
        self.input(Input::Entry { from: B, entry })
    }

    fn lookup(&mut self, call: u64, text: &str) -> Vec<Output> {
        self.input(Input::Lookup { call: CallId(call), name: name(text) })
    }

    fn holder(&self, text: &str) -> Option<Ref> {
        let name = name(text);
        let holder = self.registry.holder(&name);
        assert_eq!(self.registry.live(&name, self.now), holder, "one answer");
        holder
    }

    /// A sync that this node began with B, which answers with `digests` and `entries`.
    fn sync(&mut self, digests: Vec<NameDigest>, entries: Vec<NameEntry>) -> Vec<Output> {
        self.registry.digests(self.now, B);
        self.input(Input::Synced { from: B, step: SyncStep::Second, digests, entries })
    }
}

fn registered(outputs: &[Output]) -> Result<(), RegisterError> {
    let answer = outputs.iter().find_map(|output| match output {
        Output::Registered { result, .. } => Some(*result),
        _ => None,
    });
    answer.expect("it is answered at once")
}

fn gossip(outputs: &[Output]) -> Vec<NameEntry> {
    let gossip = outputs.iter().filter_map(|output| match output {
        Output::Gossip(entry) => Some(entry.clone()),
        _ => None,
    });
    gossip.collect()
}

fn events(outputs: &[Output]) -> Vec<(NameEventKind, Ref)> {
    let events = outputs.iter().filter_map(|output| match output {
        Output::Event(event) => Some((event.kind, event.holder)),
        _ => None,
    });
    events.collect()
}

fn found(outputs: &[Output]) -> Vec<(u64, Option<Ref>)> {
    let found = outputs.iter().filter_map(|output| match output {
        Output::Found { call, found } => Some((call.0, *found)),
        _ => None,
    });
    found.collect()
}

fn queries(outputs: &[Output]) -> Vec<(NodeId, u32)> {
    let queries = outputs.iter().filter_map(|output| match output {
        Output::Query { to, query, .. } => Some((*to, *query)),
        _ => None,
    });
    queries.collect()
}

// Registering (C70–C72).

/// C71: each change takes the next serial.
#[test]
fn a_registration_is_gossiped_with_the_next_serial_and_can_be_looked_up() {
    let mut bench = Bench::new();
    bench.register("other", 4).unwrap();
    let outputs = bench.input(Input::Register {
        call: CallId(1),
        name: name("clock"),
        actor: ActorId(9),
        ttl: None,
        manual: false,
    });
    assert_eq!(gossip(&outputs), [entry("clock", A, 1, 2)]);
    let event = (NameEventKind::Registered, node(A, 9));
    assert_eq!(events(&outputs), [event]);
    assert_eq!(found(&bench.lookup(5, "clock")), [(5, Some(node(A, 9)))]);
}

#[test]
fn registering_again_is_idempotent_for_the_same_actor_and_taken_for_others() {
    let mut bench = Bench::new();
    bench.register("clock", 9).unwrap();
    assert_eq!(bench.register("clock", 9), Ok(()));
    assert_eq!(bench.registry.known_through(A), 1, "nothing changed");
    let taken = Err(RegisterError::NameTaken(node(A, 9)));
    assert_eq!(bench.register("clock", 8), taken);
    bench.entry(entry("lamp", B, 1, 1));
    let taken = Err(RegisterError::NameTaken(node(B, 9)));
    assert_eq!(bench.register("lamp", 9), taken);
}

#[test]
fn a_version_is_above_all_versions_held_live_or_gone() {
    let mut bench = Bench::new();
    bench.entry(gone("clock", B, 4, 1));
    bench.register("clock", 9).unwrap();
    let held = bench.registry.entries(bench.now);
    let own = held.iter().find(|e| e.owner == A).unwrap();
    assert_eq!(own.version, 5);
}

#[test]
fn a_ttl_outside_1_s_to_1_h_is_refused() {
    let mut bench = Bench::new();
    for secs in [0, 3_601] {
        let ttl = Some(Duration::from_secs(secs));
        let refused = Err(RegisterError::TtlRange);
        assert_eq!(bench.register_as("clock", 9, ttl, false), refused);
    }
    let ttl = Some(Duration::from_secs(3_600));
    assert_eq!(bench.register_as("clock", 9, ttl, false), Ok(()));
}

/// C70, C114: `names_full`.
#[test]
fn caps_refuse_own_names_and_drop_those_of_others() {
    let config =
        RegistryConfig { names_per_node_max: 2, names_max: 3, ..RegistryConfig::standard() };
    let mut bench = Bench::with(config);
    bench.register("a", 1).unwrap();
    bench.register("b", 1).unwrap();
    assert_eq!(bench.register("c", 1), Err(RegisterError::NodeFull));
    bench.entry(entry("d", B, 1, 1));
    bench.entry(entry("e", B, 1, 2));
    assert_eq!(bench.holder("e"), None);
    assert_eq!(bench.registry.counters().get(Counter::NamesFull), 1);
    assert_eq!(bench.registry.known_through(B), 1, "what was dropped is not known");
}

#[test]
fn a_full_table_refuses() {
    let config =
        RegistryConfig { names_per_node_max: 2, names_max: 2, ..RegistryConfig::standard() };
    let mut bench = Bench::with(config);
    bench.entry(entry("a", B, 1, 1));
    bench.entry(entry("b", C, 1, 1));
    assert_eq!(bench.register("c", 1), Err(RegisterError::TableFull));
}

#[test]
fn a_manual_registration_lives_while_it_is_renewed_in_time() {
    let mut bench = Bench::new();
    let ttl = Some(Duration::from_secs(1));
    bench.register_as("clock", 9, ttl, true).unwrap();
    bench.wait(900);
    let renew = Input::Renew { call: CallId(2), name: name("clock") };
    assert_eq!(registered(&bench.input(renew.clone())), Ok(()));
    bench.wait(999);
    assert_eq!(bench.holder("clock"), Some(node(A, 9)));
    let outputs = bench.wait(1);
    assert_eq!(gossip(&outputs).len(), 1);
    assert_eq!(gossip(&outputs)[0].actor, None);
    assert_eq!(bench.holder("clock"), None);
    assert_eq!(registered(&bench.input(renew)), Err(RegisterError::NotHeld));
}

#[test]
fn an_automatic_registration_needs_no_renewal() {
    let mut bench = Bench::new();
    bench.register_as("clock", 9, Some(Duration::from_secs(1)), false).unwrap();
    assert_eq!(bench.registry.deadline(), Instant::FAR);
    bench.wait(10_000_000);
    assert_eq!(bench.holder("clock"), Some(node(A, 9)));
}

#[test]
fn an_ended_actor_loses_its_names_and_no_others() {
    let mut bench = Bench::new();
    for (text, actor) in [("a", 1), ("b", 1), ("c", 2)] {
        bench.register(text, actor).unwrap();
    }
    let outputs = bench.input(Input::ActorEnded(ActorId(1)));
    let ended: Vec<_> = gossip(&outputs).iter().map(|e| e.serial).collect();
    assert_eq!(ended, [4, 5]);
    assert_eq!(gossip(&outputs)[0].version, 1, "the version stays");
    assert_eq!((bench.holder("a"), bench.holder("c")), (None, Some(node(A, 2))));
}

#[test]
fn unregister_withdraws_own_names_only() {
    let mut bench = Bench::new();
    bench.register("a", 1).unwrap();
    bench.entry(entry("b", B, 1, 1));
    let unregister = |text| Input::Unregister { call: CallId(3), name: name(text) };
    let outputs = bench.input(unregister("a"));
    assert_eq!(registered(&outputs), Ok(()));
    assert_eq!(events(&outputs), [(NameEventKind::Withdrawn, node(A, 1))]);
    for text in ["a", "b", "c"] {
        let not_held = Err(RegisterError::NotHeld);
        assert_eq!(registered(&bench.input(unregister(text))), not_held);
    }
}

#[test]
fn leaving_withdraws_all_and_registers_nothing() {
    let mut bench = Bench::new();
    bench.register("a", 1).unwrap();
    bench.register("b", 2).unwrap();
    assert_eq!(gossip(&bench.input(Input::Leave)).len(), 2);
    assert_eq!(bench.register("c", 1), Err(RegisterError::Draining));
}

#[test]
fn a_renewed_session_registers_what_is_held_anew() {
    let mut bench = Bench::new();
    bench.register("a", 1).unwrap();
    bench.register("b", 2).unwrap();
    bench.input(Input::ActorEnded(ActorId(2)));
    let outputs = bench.input(Input::Renewed(Session(4)));
    let said = gossip(&outputs);
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].session, said[0].serial, said[0].version), (Session(4), 1, 1));
    assert_eq!(events(&outputs)[0].0, NameEventKind::Replaced);
    assert_eq!(bench.registry.known_through(A), 1);
}

// Order and conflicts (C73, C74).

#[test]
fn the_greatest_version_then_owner_is_the_registration_in_any_order_of_arrival() {
    for reversed in [false, true] {
        let mut entries = [entry("x", B, 2, 1), entry("x", C, 1, 1), entry("x", C, 2, 2)];
        if reversed {
            entries.reverse();
        }
        let mut bench = Bench::new();
        for entry in entries {
            bench.entry(entry);
        }
        assert_eq!(bench.holder("x"), Some(node(C, 9)));
    }
}

#[test]
fn an_outranked_registration_is_withdrawn_and_lost() {
    let mut bench = Bench::new();
    bench.register("x", 5).unwrap();
    let outputs = bench.entry(entry("x", B, 1, 1)); // The same version; B is greater.
    let told = [(NameEventKind::Lost, node(A, 5)), (NameEventKind::Replaced, node(B, 9))];
    assert_eq!(events(&outputs), told);
    let said = gossip(&outputs);
    assert_eq!((said[0].owner, said[0].actor, said[0].serial), (A, None, 2));
    assert_eq!(bench.registry.counters().get(Counter::NameConflicts), 1);
    assert_eq!(bench.registry.held().count(), 0);
}

#[test]
fn a_registration_that_outranks_stays() {
    let mut bench = Bench::new();
    bench.entry(gone("x", C, 1, 1));
    bench.register("x", 5).unwrap(); // Version 2.
    bench.entry(entry("x", B, 1, 1));
    assert_eq!(bench.holder("x"), Some(node(A, 5)));
}

#[test]
fn a_hidden_rival_wins_only_when_its_owner_is_a_member() {
    let d = NodeId::from_bytes([4; 16]);
    let mut bench = Bench::new();
    bench.register("x", 5).unwrap();
    bench.entry(entry("x", d, 1, 1));
    assert_eq!(bench.holder("x"), Some(node(A, 5)));
    let outputs = bench.member(d, 1, MemberEventKind::Join);
    assert_eq!(events(&outputs)[0], (NameEventKind::Lost, node(A, 5)));
    assert_eq!(bench.holder("x"), Some(node(d, 9)));
}

#[test]
fn an_own_entry_that_is_not_held_is_contradicted() {
    let mut bench = Bench::new();
    let said = gossip(&bench.entry(entry("x", A, 3, 8)));
    assert_eq!(said, [gone("x", A, 3, 9)]);
    let again = gossip(&bench.entry(entry("x", A, 3, 8)));
    assert_eq!(again, [gone("x", A, 3, 9)], "the same end, not another");
    let other = NameEntry { session: Session(9), ..entry("x", A, 3, 8) };
    assert_eq!(bench.entry(other), [], "of another session it knows nothing");
}

// Copies (C75, C78).

#[test]
fn a_copy_is_live_for_its_ttl_then_a_hint_then_nothing() {
    let mut bench = Bench::new();
    let aged = NameEntry { age_ms: 20_000, ..entry("x", B, 1, 1) };
    bench.entry(aged);
    bench.wait(39_999);
    assert_eq!(bench.holder("x"), Some(node(B, 9)));
    let outputs = bench.wait(1);
    assert_eq!(events(&outputs), [(NameEventKind::Withdrawn, node(B, 9))]);
    assert_eq!(bench.registry.entries(bench.now)[0].age_ms, 60_000);
    bench.wait(3_600_000 - 1);
    assert_eq!(bench.registry.sizes().0, 1);
    bench.wait(1);
    assert_eq!(bench.registry.sizes().0, 0);
}

#[test]
fn copies_of_the_dead_and_the_left_are_dropped() {
    for kind in [MemberEventKind::Dead(DeadCause::Timeout), MemberEventKind::Left] {
        let mut bench = Bench::new();
        bench.entry(entry("x", B, 1, 1));
        let outputs = bench.member(B, 1, kind);
        assert_eq!(events(&outputs), [(NameEventKind::Withdrawn, node(B, 9))]);
        assert_eq!((bench.registry.sizes().0, bench.registry.known_through(B)), (0, 0));
    }
}

#[test]
fn a_new_session_ends_the_names_of_the_old_one() {
    let mut bench = Bench::new();
    bench.entry(entry("x", B, 1, 1));
    bench.member(B, 1, MemberEventKind::Dead(DeadCause::Restarted));
    bench.member(B, 2, MemberEventKind::Join);
    bench.entry(entry("x", B, 7, 9));
    assert_eq!(bench.holder("x"), None, "late gossip of the old session");
}

#[test]
fn a_dead_name_does_not_come_back_while_its_gone_is_kept() {
    let mut bench = Bench::new();
    bench.entry(gone("x", B, 1, 2));
    assert_eq!(bench.entry(entry("x", B, 1, 1)), []);
    bench.wait(69_999);
    assert_eq!(bench.registry.sizes().0, 1);
    bench.wait(1);
    assert_eq!(bench.registry.sizes().0, 0, "ttl and 10 s");
}

#[test]
fn what_was_known_and_ended_stays_ended_when_its_gone_is_forgotten() {
    let mut bench = Bench::new();
    bench.entry(entry("x", B, 1, 1));
    bench.entry(gone("x", B, 1, 2));
    bench.wait(70_000);
    assert_eq!(bench.registry.sizes().0, 0);
    bench.entry(entry("x", B, 1, 1));
    assert_eq!(bench.holder("x"), None);
}

// Gossip and syncs (C76).

#[test]
fn news_is_gossiped_on_and_old_news_is_not() {
    let mut bench = Bench::new();
    let outputs = bench.entry(entry("x", B, 1, 1));
    assert_eq!(gossip(&outputs), [entry("x", B, 1, 1)]);
    assert_eq!(gossip(&bench.entry(entry("x", B, 1, 1))), []);
}

#[test]
fn gossip_raises_what_is_known_only_in_turn() {
    let mut bench = Bench::new();
    bench.entry(entry("x", B, 1, 2));
    assert_eq!(bench.registry.known_through(B), 0);
    bench.entry(entry("y", B, 1, 1));
    assert_eq!(bench.registry.known_through(B), 1);
}

#[test]
fn a_complete_delta_raises_what_is_known_and_an_equal_digest_vouches_for_all() {
    let mut bench = Bench::new();
    let all = vec![entry("x", B, 1, 2), entry("y", B, 1, 5)];
    bench.sync(vec![digest(B, 5, 0)], all);
    assert_eq!(bench.registry.known_through(B), 5);
    bench.wait(50_000);
    let first = Input::Synced {
        from: C,
        step: SyncStep::First,
        digests: vec![digest(B, 5, 1_000)],
        entries: vec![],
    };
    bench.input(first);
    bench.wait(58_999);
    assert_eq!(bench.holder("x"), Some(node(B, 9)));
    bench.wait(1);
    assert_eq!(bench.holder("x"), None, "a ttl after it was vouched for");
}

#[test]
fn an_equal_digest_makes_hints_live_again() {
    let mut bench = Bench::new();
    bench.entry(entry("x", B, 1, 1));
    bench.wait(60_000);
    assert_eq!(bench.holder("x"), None);
    let outputs = bench.sync(vec![digest(B, 1, 10)], vec![]);
    assert_eq!(events(&outputs), [(NameEventKind::Registered, node(B, 9))]);
}

#[test]
fn a_first_message_proves_nothing_about_what_it_does_not_carry() {
    let mut bench = Bench::new();
    bench.registry.digests(bench.now, B);
    bench.input(Input::Synced {
        from: B,
        step: SyncStep::First,
        digests: vec![digest(B, 5, 0)],
        entries: vec![],
    });
    assert_eq!(bench.registry.known_through(B), 0);
}

#[test]
fn a_delta_above_what_was_forgotten_proves_nothing() {
    let mut bench = Bench::new();
    bench.sync(vec![digest(C, 3, 0)], vec![entry("x", C, 1, 3)]);
    bench.registry.digests(bench.now, B); // B is told: C up to 3.
    bench.member(C, 1, MemberEventKind::Dead(DeadCause::Timeout));
    bench.member(C, 1, MemberEventKind::Join);
    bench.input(Input::Synced {
        from: B,
        step: SyncStep::Second,
        digests: vec![digest(C, 4, 0)],
        entries: vec![entry("y", C, 1, 4)],
    });
    assert_eq!(bench.registry.known_through(C), 0, "x is missing");
    bench.sync(vec![digest(C, 4, 0)], vec![entry("x", C, 1, 3), entry("y", C, 1, 4)]);
    assert_eq!(bench.registry.known_through(C), 4);
}

#[test]
fn a_delta_revives_no_hint_whose_end_may_be_forgotten() {
    let mut bench = Bench::new();
    bench.entry(entry("x", B, 1, 1));
    bench.wait(100_000); // x became a hint; its NameGone, 2, may be forgotten by everyone.
    bench.sync(vec![digest(B, 3, 0)], vec![entry("y", B, 1, 3)]);
    assert_eq!(bench.holder("x"), None);
    assert_eq!(bench.registry.known_through(B), 0, "the next delta starts from nothing");
    bench.sync(vec![digest(B, 3, 0)], vec![entry("y", B, 1, 3)]);
    assert_eq!(bench.registry.known_through(B), 3);
    assert_eq!(bench.registry.sizes().0, 1, "what a full delta does not name has ended");
}

/// C78, C52: nobody keeps it, so that each who hears of it again would take it for news.
#[test]
fn a_name_gone_that_nobody_keeps_is_not_gossiped_on() {
    let mut bench = Bench::new();
    let aged = |text, serial, age_ms| NameEntry { age_ms, ..gone(text, B, 1, serial) };
    assert_eq!(gossip(&bench.entry(aged("x", 1, TTL + 9_999))).len(), 1);
    assert_eq!(gossip(&bench.entry(aged("y", 2, TTL + 10_000))), []);
    assert_eq!(bench.registry.known_through(B), 2, "it is known all the same");
    bench.entry(entry("z", B, 1, 3));
    let outputs = bench.entry(aged("z", 4, TTL + 10_000));
    assert_eq!(events(&outputs), [(NameEventKind::Withdrawn, node(B, 9))]);
    assert_eq!(gossip(&outputs), []);
    // Of an owner that is no member, nothing is known that could tell the second time.
    let stranger = NodeId::from_bytes([9; 16]);
    let outputs = bench.entry(NameEntry { owner: stranger, ..aged("s", 1, TTL + 10_000) });
    assert_eq!(gossip(&outputs), []);
}

/// C24: what is heard of an owner that is not allowed here goes no further.
#[test]
fn names_of_owners_that_are_not_allowed_are_neither_applied_nor_passed_on() {
    let key = [7; 32];
    let friend = NodeId::of_key(&key);
    let stranger = NodeId::from_bytes([9; 16]);
    let mut bench = Bench::new();
    let of = |owner, text, serial| NameEntry { owner, ..entry(text, B, 1, serial) };
    assert_eq!(gossip(&bench.entry(of(stranger, "s", 1))).len(), 1, "everyone is allowed");
    bench.input(Input::Allowed(Arc::new(Allowed::only([key]))));
    assert_eq!(bench.registry.sizes().0, 0, "what was heard of it went");
    assert_eq!(bench.entry(of(stranger, "s", 2)), []);
    assert_eq!(bench.sync(vec![digest(stranger, 3, 0)], vec![of(stranger, "t", 3)]), []);
    assert_eq!(bench.registry.sizes().0, 0);
    assert_eq!(bench.registry.counters().get(Counter::FactNotAllowed), 2);
    assert_eq!(gossip(&bench.entry(of(friend, "f", 1))).len(), 1);
    assert_eq!(bench.registry.sizes().0, 1);
}

#[test]
fn a_delta_has_all_above_the_digest_and_nothing_for_equals() {
    let mut bench = Bench::new();
    for (text, actor) in [("a", 1), ("b", 1), ("c", 2)] {
        bench.register(text, actor).unwrap();
    }
    let now = bench.now;
    let delta = |serial| bench.registry.delta(now, &[digest(A, serial, 0)]);
    assert_eq!(delta(3), []);
    let serials: Vec<_> = delta(1).iter().map(|e| e.serial).collect();
    assert_eq!(serials, [2, 3]);
    assert_eq!(bench.registry.delta(now, &[]).len(), 3, "who knows nothing gets all");
}

#[test]
fn a_forwarded_entry_has_grown_older_by_the_time_it_was_held() {
    let mut bench = Bench::new();
    bench.entry(NameEntry { age_ms: 5_000, ..entry("x", B, 1, 1) });
    bench.wait(700);
    assert_eq!(bench.registry.delta(bench.now, &[])[0].age_ms, 5_700);
}

// Look-ups (C77).

#[test]
fn a_hint_asks_its_owner_whose_word_counts() {
    for held in [true, false] {
        let mut bench = Bench::new();
        bench.entry(entry("x", B, 1, 1));
        bench.wait(60_000);
        let outputs = bench.lookup(1, "x");
        let [(to, query)] = queries(&outputs)[..] else {
            panic!("the owner is asked: {outputs:?}");
        };
        assert_eq!(to, B);
        let outputs = bench.input(Input::QueryReply {
            from: B,
            query,
            entry: held.then(|| entry("x", B, 1, 1)),
        });
        let answer = held.then(|| node(B, 9));
        assert_eq!(found(&outputs), [(1, answer)]);
        assert_eq!(bench.holder("x"), answer);
    }
}

/// C77, C114: a reply that nobody asked for is `name_unexpected`.
#[test]
fn an_unknown_name_asks_three_members_and_the_first_live_answer_wins() {
    let mut bench = Bench::new();
    for id in 4..=9 {
        bench.member(NodeId::from_bytes([id; 16]), 1, MemberEventKind::Join);
    }
    bench.member(B, 1, MemberEventKind::Suspect);
    let asked = queries(&bench.lookup(1, "x"));
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(to, _)| *to != B), "only Alive ones are asked");
    let reply =
        |at: usize, entry| Input::QueryReply { from: asked[at].0, query: asked[at].1, entry };
    assert_eq!(found(&bench.input(reply(0, None))), []);
    let outputs = bench.input(reply(1, Some(entry("x", C, 1, 1))));
    assert_eq!(found(&outputs), [(1, Some(node(C, 9)))]);
    assert_eq!(bench.holder("x"), Some(node(C, 9)), "and is kept");
    assert_eq!(bench.input(reply(2, None)), []);
    assert_eq!(bench.registry.counters().get(Counter::NameUnexpected), 1);
}

#[test]
fn a_lookup_ends_when_nobody_knows_or_the_time_is_over() {
    let mut bench = Bench::new();
    let asked = queries(&bench.lookup(1, "x"));
    assert_eq!(asked.len(), 2, "there are two others");
    for (at, (from, query)) in asked.into_iter().enumerate() {
        let outputs = bench.input(Input::QueryReply { from, query, entry: None });
        assert_eq!(found(&outputs).len(), at);
    }
    bench.lookup(2, "x");
    assert_eq!(found(&bench.wait(999)), []);
    assert_eq!(found(&bench.wait(1)), [(2, None)]);
    assert_eq!(bench.registry.sizes().1, 0);
}

#[test]
fn lookups_of_one_name_share_a_query_and_gossip_answers_them() {
    let mut bench = Bench::new();
    assert_eq!(queries(&bench.lookup(1, "x")).len(), 2);
    assert_eq!(queries(&bench.lookup(2, "x")), []);
    let outputs = bench.entry(entry("x", B, 1, 1));
    let both = [(1, Some(node(B, 9))), (2, Some(node(B, 9)))];
    assert_eq!(found(&outputs), both);
}

#[test]
fn a_member_that_dies_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.lookup(1, "x");
    bench.member(B, 1, MemberEventKind::Left);
    let outputs = bench.member(C, 1, MemberEventKind::Left);
    assert_eq!(found(&outputs), [(1, None)]);
    assert_eq!(found(&bench.lookup(2, "x")), [(2, None)], "nobody is left to ask");
}

#[test]
fn lookups_in_flight_have_a_cap() {
    let config = RegistryConfig { lookups_max: 1, ..RegistryConfig::standard() };
    let mut bench = Bench::with(config);
    bench.lookup(1, "x");
    assert_eq!(found(&bench.lookup(2, "y")), [(2, None)]);
}

#[test]
fn a_query_is_answered_from_the_own_table() {
    let mut bench = Bench::new();
    bench.entry(entry("x", B, 1, 1));
    bench.wait(100);
    let mut query = |text| bench.input(Input::Query { from: C, query: 5, name: name(text) });
    let entry = Some(NameEntry { age_ms: 100, ..entry("x", B, 1, 1) });
    let reply = |entry| Output::QueryReply { to: C, query: 5, entry };
    assert_eq!(query("x"), [reply(entry)]);
    assert_eq!(query("y"), [reply(None)]);
}

// Watching (C79).

#[test]
fn the_snapshot_and_the_events_after_it_have_no_gap() {
    let mut bench = Bench::new();
    bench.register("a/1", 1).unwrap();
    bench.register("b/1", 1).unwrap();
    let (next, names) = bench.registry.snapshot("a/");
    assert_eq!(names, [(name("a/1"), node(A, 1))]);
    let outputs = bench.entry(entry("a/2", B, 1, 1));
    let index = outputs.iter().find_map(|output| match output {
        Output::Event(event) => Some(event.index),
        _ => None,
    });
    assert_eq!(index, Some(next));
}

#[test]
fn an_entry_with_an_impossible_ttl_changes_nothing() {
    let mut bench = Bench::new();
    let before = crate::digest::Digest::of(&bench.registry);
    let bad = NameEntry { ttl_ms: 999, ..entry("x", B, 1, 1) };
    assert_eq!(bench.entry(bad), []);
    assert_eq!(crate::digest::Digest::of(&bench.registry), before);
}
