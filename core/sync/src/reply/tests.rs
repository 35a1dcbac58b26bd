//! Unit tests.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{Answer, Late, Unanswered, reply};

fn poll<T>(answer: &mut Answer<T>) -> Poll<Result<T, Unanswered>> {
    Pin::new(answer).poll(&mut Context::from_waker(Waker::noop()))
}

/// G410.
#[test]
fn an_answer_arrives() {
    let (reply, mut answer) = reply();
    assert_eq!(poll(&mut answer), Poll::Pending);
    assert_eq!(reply.send(7), Ok(()));
    assert_eq!(poll(&mut answer), Poll::Ready(Ok(7)));
}

/// G153, G410.
#[test]
fn letting_go_is_told_and_so_is_a_restart() {
    let (asked, mut answer) = reply::<u32>();
    drop(asked);
    assert_eq!(poll(&mut answer), Poll::Ready(Err(Unanswered::Dropped)));
    let (asked, mut answer) = reply::<u32>();
    asked.restarted();
    assert_eq!(poll(&mut answer), Poll::Ready(Err(Unanswered::Restarted)));
}

/// G410: an answer against an asker that has gone comes back.
#[test]
fn a_late_answer_comes_back() {
    let (asked, answer) = reply();
    drop(answer);
    assert_eq!(asked.send(7), Err(Late(7)));
}
