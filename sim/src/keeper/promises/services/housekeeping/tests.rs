use machines::kernel::event::Subject;

use super::*;

fn pid() -> ProcessId {
    ProcessId::parse("pid", "p").expect("a name is an id")
}

fn envelope() -> EnvelopeId {
    EnvelopeId::parse("id", "e").expect("a name is an id")
}

fn asked() -> InterruptId {
    InterruptId::parse("id", "q").expect("a name is an id")
}

/// A process that has ended, with a session, its envelope, and a question that was closed as it
/// ended.
fn ended() -> Kept {
    let at = Time::from_millis(1_000);
    Kept {
        retention: Some(Retention::DEFAULT),
        ended: [(pid(), at)].into(),
        sessions: [pid()].into(),
        envelopes: [(envelope(), (Some(pid()), at))].into(),
        asked: [(asked(), (pid(), Some(at)))].into(),
        ..Kept::default()
    }
}

fn live() -> Kept {
    Kept { live: [pid()].into(), ended: BTreeMap::new(), ..ended() }
}

fn gone() -> [Body; 3] {
    [
        Body::Session { event: SessionEvent::Removed },
        Body::Envelope { event: EnvelopeEvent::Removed { ids: vec![envelope()] } },
        Body::Interrupt { event: InterruptEvent::Removed { ids: vec![asked()] } },
    ]
}

fn buried() -> Body {
    let (from, to) = (ProcessState::Terminated, ProcessState::Zombie);
    let (cause, lease, block, wait) = (Cause::Asked, None, None, None);
    let event = ProcessEvent::StateChanged { from, to, cause, lease, block, wait };
    Body::Process { event }
}

/// Shows a decision at such a time.
fn decide(kept: &mut Kept, now: u64, bodies: impl IntoIterator<Item = Body>) -> Result<(), String> {
    for body in bodies {
        let subject = Subject { pid: Some(pid()), ..Subject::default() };
        kept.add(&Event { time: Time::from_millis(now), subject, body })?;
    }
    kept.decided()
}

/// K85, K175: what is of a process goes with it, however early.
#[test]
fn all_goes_with_its_process() {
    assert_eq!(decide(&mut ended(), 2_000, gone().into_iter().chain([buried()])), Ok(()));
}

/// K447, section 3: none of it goes while its process stays or lives, and none stays.
#[test]
fn what_goes_alone_and_what_stays_behind_is_caught() {
    for place in 0..3 {
        let one = || [gone()[place].clone()];
        let alone = decide(&mut ended(), 2_000, one()).expect_err("the process stays");
        assert!(alone.ends_with("of p went, and p did not"), "{alone}");
        let early = decide(&mut live(), 2_000, one()).expect_err("the process lives");
        assert!(early.ends_with("of p went, which was live"), "{early}");
        let others = (0..3).filter(|other| *other != place).map(|other| gone()[other].clone());
        let kept = decide(&mut ended(), 2_000, others.chain([buried()]));
        assert!(kept.expect_err("one is left").contains("left behind"));
        let again = decide(&mut ended(), 2_000, one().into_iter().chain(one()));
        assert!(again.is_err(), "it goes once");
    }
}

/// K175, K360: closed questions, and envelopes that serve nobody, go after their time.
#[test]
fn what_is_kept_no_longer_goes_by_itself() {
    let kept = Retention::DEFAULT;
    let asked_gone = || [gone()[2].clone()];
    assert_eq!(decide(&mut live(), 1_000 + kept.interrupt_ms, asked_gone()), Ok(()));
    assert!(decide(&mut live(), 999 + kept.interrupt_ms, asked_gone()).is_err());
    let mut free = live();
    free.envelopes.insert(envelope(), (None, Time::from_millis(1_000)));
    let envelope_gone = || [gone()[1].clone()];
    let early = decide(&mut free.clone(), 999 + kept.envelope_ms, envelope_gone());
    assert!(early.is_err());
    assert_eq!(decide(&mut free, 1_000 + kept.envelope_ms, envelope_gone()), Ok(()));
    let mut pending = live();
    pending.asked.insert(asked(), (pid(), None));
    assert!(decide(&mut pending, 1 << 40, asked_gone()).is_err(), "nobody has answered it");
}
