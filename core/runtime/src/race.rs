//! Two futures, one winner; a tie goes left, so that a replay takes the same branch.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Who came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Won<L, R> {
    /// The left one, or both at once.
    Left(L),
    /// The right one.
    Right(R),
}

/// Waits for the first of two; the other is dropped, so both must be cancel safe.
pub async fn race<L, R>(
    left: impl Future<Output = L>,
    right: impl Future<Output = R>,
) -> Won<L, R> {
    let mut left = pin!(left);
    let mut right = pin!(right);
    poll_fn(|cx| {
        if let Poll::Ready(won) = left.as_mut().poll(cx) {
            return Poll::Ready(Won::Left(won));
        }
        right.as_mut().poll(cx).map(Won::Right)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Waker};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(future).poll(&mut cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_tie_goes_left() {
        assert_eq!(now(race(ready(1), ready(2))), Some(Won::Left(1)));
    }

    #[test]
    fn the_ready_one_wins_and_two_that_wait_do_not() {
        assert_eq!(now(race(pending::<()>(), ready(2))), Some(Won::Right(2)));
        assert_eq!(now(race(pending::<()>(), pending::<()>())), None);
    }
}
