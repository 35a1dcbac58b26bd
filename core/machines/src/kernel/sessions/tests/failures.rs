//! Goal: attempts that fail, take too long or are lost go on as K269–K272 and K294 say.

use crate::kernel::CommandBody;
use crate::kernel::names::ProcessState;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::rig::{pid, submit, user};
use crate::kernel::sessions::Pipeline;
use crate::kernel::sessions::rig::{Desk, agent, pipeline};

fn single(more: &str) -> Pipeline {
    let stages = [agent("x", more), agent("repair", "")].join(", ");
    pipeline(&format!("{{'name': 's', 'stages': [{stages}]}}"))
}

/// K270: an attempt at its deadline is closed and charged; a Tick hands out nothing.
#[test]
fn an_attempt_that_takes_too_long_is_a_failure() {
    let retry = "'timeout_ms': 5000, 'retry': {'max_retries': 1, 'initial_backoff_ms': 0}";
    let mut desk = Desk::new(single(&format!("{retry}, 'error_next': 'repair'")));
    desk.poll();
    let late = desk.done("x", "{}");
    desk.rig.pass(5_000);
    assert_eq!(desk.rig.state("p"), ProcessState::Running);
    assert!(desk.session().attempts.is_empty(), "nothing is handed out by a Tick");
    let account = desk.rig.process("p").account;
    assert_eq!((account.used.amounts.llm_calls, account.held.llm_calls), (1, 0), "charged");
    let told = desk.report(&late);
    assert!(told.ends_with("was closed by its deadline"), "{told}");
    assert_eq!(desk.poll(), "RunAgent x 1.2");
    assert_eq!(desk.task("x").prior_error.unwrap().kind, ErrorKind::Timeout);
    desk.rig.pass(5_000);
    assert_eq!(desk.session().position.as_str(), "repair", "the session has moved");
    assert_eq!(desk.poll(), "RunAgent repair 1.1");
}

/// K271: a timeout for good ends the session as one.
#[test]
fn a_timeout_for_good_ends_the_session() {
    let mut desk = Desk::new(single("'timeout_ms': 5000"));
    desk.poll();
    desk.rig.pass(5_000);
    assert_eq!(desk.quiet_poll(), "Terminate TimeoutExceeded");
    assert_eq!(desk.rig.state("p"), ProcessState::Terminated, "K83");
}

/// K271: each kind of failure has its end.
#[test]
fn a_failure_for_good_ends_the_session_by_its_kind() {
    let ends = [
        (ErrorKind::Tool, "ToolFailedFatally"),
        (ErrorKind::Llm, "LlmFailedFatally"),
        (ErrorKind::Policy, "PolicyViolation"),
    ];
    for (kind, end) in ends {
        let mut desk = Desk::new(single(""));
        desk.poll();
        assert_eq!(desk.fail("x", kind), format!("Terminate {end}"));
        assert!(desk.envelope().failed_stages.keys().any(|stage| stage.as_str() == "x"));
        assert_eq!(desk.envelope().errors.len(), 1);
        assert_eq!(desk.rig.process("p").termination_message.as_deref(), Some("it broke"));
    }
}

/// K79, K272: a lost attempt is handed out again to whoever claims, at most so often.
#[test]
fn a_lost_attempt_is_handed_out_again() {
    let mut desk = Desk::new(single("'timeout_ms': -1"));
    for lost in 0..4 {
        assert_eq!(desk.poll(), format!("RunAgent x 1.{}", lost + 1));
        let late = desk.done("x", "{}");
        desk.rig.pass(60_000);
        assert_eq!(desk.hops().0, 1, "no hop");
        if lost < 3 {
            assert_eq!(desk.rig.state("p"), ProcessState::Ready);
            assert!(desk.report(&late).starts_with("attempt_superseded: "));
        }
    }
    assert_eq!(desk.quiet_poll(), "Terminate SystemError", "the fourth is one too many");
    assert_eq!(desk.rig.process("p").account.used.amounts.llm_calls, 4, "each is charged");

    let mut desk = Desk::new(single("'on_lost': 'Fail', 'error_next': 'repair'"));
    desk.poll();
    desk.rig.pass(60_000);
    assert_eq!(desk.poll(), "RunAgent repair 1.1");
}

/// K78: whoever polls goes on holding the process.
#[test]
fn a_poll_extends_the_lease() {
    let mut desk = Desk::new(single(""));
    desk.poll();
    for _ in 0..4 {
        desk.rig.pass(40_000);
        assert_eq!(desk.poll(), "RunAgent x 1.1");
    }
}

/// K294, K11: after a start everything is where it was, a wait for a retry included.
#[test]
fn a_retry_goes_on_after_a_restart() {
    let mut desk = Desk::new(single("'retry': {'max_retries': 2}"));
    desk.poll();
    desk.fail("x", ErrorKind::Tool);
    let before = (desk.session().clone(), desk.told());
    desk.rig.start_again();
    assert_eq!((desk.session().clone(), desk.told()), before);
    desk.rig.pass(1_000);
    assert_eq!(desk.poll(), "RunAgent x 1.2");
    let attempt = desk.task("x").attempt;
    desk.rig.start_again();
    assert_eq!(desk.quiet_poll(), "RunAgent x 1.2");
    assert_eq!(desk.task("x").attempt, attempt, "the same attempt");
}

/// K82, K83, K85: the end of a process ends its session, and its removal removes it.
#[test]
fn a_session_ends_and_goes_with_its_process() {
    let mut desk = Desk::new(single(""));
    desk.poll();
    let late = desk.done("x", "{}");
    let end = CommandBody::Terminate { pid: pid("p"), message: "enough".to_owned(), force: true };
    desk.say(end).unwrap();
    assert_eq!(desk.quiet_poll(), "Terminate UserCancelled");
    assert!(desk.report(&late).starts_with("attempt_superseded: "));
    assert_eq!(desk.rig.process("p").account.held.llm_calls, 0);
    let usage = desk.rig.process("p").account.used.amounts.llm_calls;
    assert_eq!(usage, 1, "the hold is charged");
    desk.say(CommandBody::CleanupProcess { pid: pid("p") }).unwrap();
    let gone = desk.rig.say(&user("alice"), CommandBody::Submit(Box::new(submit("p"))));
    assert!(gone.is_ok());
    assert_eq!(desk.rig.kernel.state().session(&pid("p")), None);
}

/// K269: jitter is drawn and recorded, within its bounds.
#[test]
fn a_wait_with_jitter_is_within_its_bounds() {
    let retry = "'retry': {'max_retries': 1, 'initial_backoff_ms': 10000, 'jitter_pct': 50}";
    let mut desk = Desk::new(single(retry));
    desk.poll();
    let now = desk.rig.now;
    desk.fail("x", ErrorKind::Tool);
    let until = desk.rig.process("p").block.clone().and_then(|block| block.until).unwrap();
    assert!((5_000..=10_000).contains(&until.since(now)), "{until:?}");
}
