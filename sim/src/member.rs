//! The production node as the guest of a world.

use std::cell::RefCell;
use std::collections::BTreeMap;

use machines::Instant;
use machines::cluster::handshake::Static;
use machines::cluster::sealer::{Key, Suite};
use machines::cluster::wire::Meta;
use machines::digest::Digest;
use machines::node::io::{Input, Output};
use machines::node::{Node, NodeParams};

use crate::guest::{Birth, Cipher, Guest};

thread_local! {
    /// Public halves of the keys that this thread has met: they cost more than a small run.
    static PUBLIC: RefCell<BTreeMap<[u8; 32], [u8; 32]>> = const { RefCell::new(BTreeMap::new()) };
}

impl Guest for Node {
    type Kind = ();

    fn new((): &(), now: Instant, birth: Birth) -> Self {
        let public = Self::public_key(&birth.secret);
        let params = NodeParams {
            config: birth.config.as_ref().clone(),
            key: Static {
                secret: Key::new(birth.secret),
                public,
            },
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

    fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        PUBLIC.with_borrow_mut(|known| {
            *known.entry(*secret).or_insert_with(|| {
                machines::cluster::identity::StaticKey::from_secret(*secret).public()
            })
        })
    }
}
