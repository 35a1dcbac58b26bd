//! The production node as the guest of a world.

use std::cell::RefCell;
use std::collections::BTreeMap;

use machines::Instant;
use machines::choices::Answer;
use machines::cluster::identity::StaticKey;
use machines::cluster::sealer::Suite;
use machines::cluster::wire::Meta;
use machines::digest::Digest;
use machines::node::io::{Input, Output};
use machines::node::{Node, NodeParams};

use crate::build::schemas;
use crate::guest::{Birth, Cipher, Guest};

thread_local! {
    /// Key pairs that this thread has met: to make one costs more than a small run.
    static KEYS: RefCell<BTreeMap<[u8; 32], StaticKey>> = const { RefCell::new(BTreeMap::new()) };
}

fn key_of(secret: &[u8; 32]) -> StaticKey {
    KEYS.with_borrow_mut(|known| {
        known.entry(*secret).or_insert_with(|| StaticKey::from_secret(*secret)).clone()
    })
}

impl Guest for Node {
    type Kind = ();

    fn new((): &(), now: Instant, birth: Birth) -> Self {
        let params = NodeParams {
            schemas: schemas(&birth.config.links),
            config: birth.config.as_ref().clone(),
            key: key_of(&birth.secret),
            session: birth.session,
            instance: birth.instance,
            addr: birth.addr,
            meta: Meta::EMPTY,
            allowed: birth.allowed,
            seeds: birth.seeds,
            choices: birth.choices,
            suite: match birth.cipher {
                Cipher::Real => Suite::Noise,
                Cipher::Null => Suite::Null,
            },
        };
        Self::new(now, params)
    }

    #[inline]
    fn handle(&mut self, now: Instant, input: Input) {
        self.handle(now, input);
    }

    #[inline]
    fn poll(&mut self) -> Option<Output> {
        self.poll()
    }

    #[inline]
    fn deadline(&self) -> Instant {
        self.deadline()
    }

    fn digest(&self) -> u64 {
        Digest::of(self)
    }

    fn take_recorded(&mut self) -> Vec<Answer> {
        self.take_recorded()
    }

    fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        key_of(secret).public()
    }
}
