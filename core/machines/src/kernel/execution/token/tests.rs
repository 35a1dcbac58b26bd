use super::*;
use crate::kernel::event::Event;
use crate::kernel::rig::{pid, user, worker};
use crate::kernel::sessions::rig::{Desk, json, pipeline};
use crate::kernel::stream::Numbered;

fn token(attempt: &AttemptId, index: u64) -> Token {
    Token { pid: pid("p"), attempt: attempt.clone(), index, text: Arc::from("la") }
}

fn desk(stream: &str) -> Desk {
    let agent = |name: &str| {
        let config = format!("{{'name': '{name}', 'token_stream': '{stream}'}}");
        format!("{{'name': '{name}', 'agent_config': {config}, 'default_next': 'b'}}")
    };
    let text = format!(
        "{{'name': 'f', 'stages': [{}, {{'name': 'b', 'agent_config': {{'name': 'b'}}}}]}}",
        agent("a")
    );
    let mut desk = Desk::new(pipeline(&text));
    desk.poll();
    desk
}

/// K292: only who works on a live attempt, and only if its agent shows its tokens.
#[test]
fn a_token_is_taken_from_the_holder_of_a_live_attempt_alone() {
    let mut desk = desk("Debug");
    let attempt = desk.task("a").attempt;
    let told = |desk: &Desk, by: &Principal, token: &Token| {
        desk.rig.kernel.check_token(by, None, token).map_err(|refusal| refusal.code)
    };
    let first = token(&attempt, 0);
    assert_eq!(told(&desk, &user("alice"), &first), Ok(()));
    assert_eq!(told(&desk, &worker("bob"), &first), Err(Code::NotHolder));
    assert_eq!(told(&desk, &user("carol"), &first), Err(Code::PermissionDenied), "K446");
    let guessed = token(&AttemptId::parse("attempt_id", "att_x").unwrap(), 0);
    assert_eq!(told(&desk, &user("carol"), &guessed), Err(Code::PermissionDenied), "K446");
    let elsewhere = Token { pid: pid("q"), ..first.clone() };
    assert_eq!(told(&desk, &user("alice"), &elsewhere), Err(Code::ProcessNotFound));
    desk.succeed("a", "{}");
    assert_eq!(told(&desk, &user("alice"), &first), Err(Code::AttemptNotFound), "it is over");
    let silent = token(&desk.task("b").attempt, 0);
    assert_eq!(told(&desk, &user("alice"), &silent), Err(Code::BadValue), "it shows none");
}

#[test]
fn a_token_is_read_strictly() {
    let attempt = AttemptId::parse("attempt", "att_1").unwrap();
    let written = token(&attempt, 3).to_json();
    assert_eq!(Token::parse(&written), Ok(token(&attempt, 3)));
    let wrong = json(r#"{"pid": "p", "attempt_id": "a b", "index": 0, "text": ""}"#);
    assert_eq!(Token::parse(&wrong).unwrap_err().code, Code::BadId);
    let wrong = json(r#"{"pid": "p", "index": -1, "text": "", "more": 1}"#);
    assert_eq!(Token::parse(&wrong).unwrap_err().fields.len(), 3);
}

/// K292: Token between durable events, missing ones as Gap, and nothing twice or too late.
#[test]
fn what_is_missing_is_a_gap() {
    let mut desk = desk("Authoritative");
    let attempt = desk.task("a").attempt;
    let mut tokens = Tokens::default();
    let shown = |desk: &Desk| -> Vec<ExecutionEvent> {
        let all = (1..).zip(desk.rig.events.clone());
        let own = all.filter(|(_, event): &(u64, Event)| event.subject.pid == Some(pid("p")));
        own.filter_map(|(number, event)| ExecutionEvent::of(&Numbered { number, event })).collect()
    };
    assert_eq!(tokens.take(Time::ZERO, &token(&attempt, 0)), [], "it has not begun");
    let begun = shown(&desk);
    begun.iter().for_each(|event| tokens.pass(event));
    let mut told = |index| -> Vec<String> {
        let events = tokens.take(Time::ZERO, &token(&attempt, index));
        events.iter().map(|event| format!("{} {}", event.kind.name(), event.payload)).collect()
    };
    assert_eq!(told(0), [r#"token {"index":0,"text":"la"}"#]);
    assert_eq!(told(0), [""; 0], "once");
    let two = told(4);
    assert_eq!(two, [r#"gap {"from":1,"to":3}"#, r#"token {"index":4,"text":"la"}"#]);
    assert_eq!(told(2), [""; 0], "what is late is lost");
    let number = begun.last().unwrap().event;
    let next = tokens.take(Time::ZERO, &token(&attempt, 5));
    assert_eq!((next[0].event, next[0].attempt.as_ref()), (number, Some(&attempt)));
    desk.succeed("a", "{}");
    shown(&desk)[begun.len()..].iter().for_each(|event| tokens.pass(event));
    assert_eq!(tokens.take(Time::ZERO, &token(&attempt, 6)), [], "its attempt is over");
}
