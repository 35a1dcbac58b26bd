//! The handshake of one connection: how two nodes come to trust it (section 3, C20–C23).
//!
//! ```text
//!  dialler                                        acceptor
//!  D0 Connecting ─ connected ─► preface, 1 ─────► A0 AwaitPreface ─ C21 ─► clear Reject, closed
//!  D1 AwaitOffer ◄───────────────────────── 2, Offer │
//!     │ tag, Offer, self, peer, allowed,           A1 AwaitHello
//!     │ version, features, link rule                 │ tag, Hello, self, allowed,
//!     └─ 3, Hello ─────────────────────────────────► │ version, session, link rule (C25)
//!  D2 AwaitWelcome ◄──────────── Welcome or Reject ──┴─► Up, Parked or closed
//!     └─► Up or closed
//! ```
//!
//! Each state is a struct, consumed by its handler; a failed check ends the handshake with its
//! [`Code`]. What needs the table of links (timeouts, caps, sessions, the link rule) is decided
//! by [`links`](super::links), which holds these states and carries their bytes.
//!
//! # Source
//!
//! Noise revision 34, pattern XX; the checks and their order are the tables of section 3.

mod noise;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::identity::{Allowed, StaticKey};
use super::ids::{Entropy, NodeId};
use super::sealer::{BadTag, Key, Sealer, Suite};
use super::wire::{
    AnyFrame, ClearReject, Code, Control, Features, FrameHeader, HandshakeKind, Hello, Offer,
    Preface, Reject, prologue,
};
use crate::codec::{Reader, Wire};
pub use noise::{Keys, Noise, Role};

/// What this node brings to every handshake.
#[derive(Clone, Debug, Hash)]
pub struct Terms {
    /// How links are sealed.
    pub suite: Suite,
    /// The own static key.
    pub key: StaticKey,
    /// The own id.
    pub node: NodeId,
    /// The least version spoken.
    pub version_min: u16,
    /// The greatest version spoken.
    pub version_max: u16,
    /// Features offered.
    pub features: Features,
    /// Features required.
    pub required: Features,
    /// First 8 bytes of BLAKE3 of the cluster's name.
    pub cluster_tag: [u8; 8],
    /// The schema hash of each version spoken.
    pub schemas: BTreeMap<u16, [u8; 16]>,
}

impl Terms {
    /// Makes the preface of a dial that proposes `version`.
    #[must_use]
    pub fn preface(&self, version: u16) -> Preface {
        Preface {
            version,
            cluster_tag: self.cluster_tag,
            schema_hash: self.schema(version),
            features: self.features,
            required: self.required,
        }
    }

    /// Makes a refusal in clear, with the own values (C23).
    #[must_use]
    pub fn clear_reject(&self, code: Code) -> ClearReject {
        ClearReject {
            code,
            version_min: self.version_min,
            version_max: self.version_max,
            schema_hash: self.schema(self.version_max),
        }
    }

    fn schema(&self, version: u16) -> [u8; 16] {
        self.schemas.get(&version).copied().unwrap_or_default()
    }

    /// Returns the features in use with a peer, if each side's required ones are among them.
    fn agree(&self, theirs: Features, required: Features) -> Option<Features> {
        let both = self.features.and(theirs);
        (both.contains(self.required) && both.contains(required)).then_some(both)
    }
}

/// A handshake that ended in this state.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Why.
    pub code: Code,
    /// Who is at the other end, if its key was proved by then.
    pub peer: Option<NodeId>,
    /// Told before there are keys, if this code is (C23).
    pub clear: Option<ClearReject>,
    /// For telling it under keys, if this code is and message 3 was accepted.
    pub sealer: Option<Box<Sealer>>,
}

impl Failed {
    /// Fails silently, with nobody known.
    #[must_use]
    pub const fn silent(code: Code) -> Self {
        Self { code, peer: None, clear: None, sealer: None }
    }

    const fn of(code: Code, peer: NodeId) -> Self {
        Self { code, peer: Some(peer), clear: None, sealer: None }
    }
}

/// What was agreed about a link, besides its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Agreed {
    /// The other end: the hash of `key` (C6).
    pub peer: NodeId,
    /// The key that completed the handshake.
    pub key: [u8; 32],
    /// The version in use.
    pub version: u16,
    /// The features in use.
    pub features: Features,
    /// The handshake hash.
    pub hash: [u8; 32],
}

/// D1: preface and message 1 are written.
#[derive(Clone, Debug, Hash)]
pub struct AwaitOffer {
    noise: Noise,
    version: u16,
}

impl AwaitOffer {
    /// Starts a handshake that proposes `version`, appending preface and message 1 to `out`.
    #[must_use]
    pub fn start(terms: &Terms, version: u16, ephemeral: Key, out: &mut Vec<u8>) -> Self {
        let mut preface = [0; Preface::LEN];
        preface.copy_from_slice(&terms.preface(version).to_bytes());
        let role = Role::Initiator;
        let mut noise = Noise::new(terms.suite, role, &terms.key, ephemeral, &prologue(&preface));
        out.extend_from_slice(&preface);
        HandshakeKind::Message1.encode(out);
        noise.write(&[], out);
        Self { noise, version }
    }

    /// Reads message 2 and checks all that needs no table of links.
    ///
    /// # Errors
    ///
    /// [`Failed`], always silent: a stranger never learns who dialled.
    pub fn offer(
        mut self,
        terms: &Terms,
        allowed: &Allowed,
        expected: Option<NodeId>,
        message: &[u8],
    ) -> Result<Offered, Failed> {
        let mut payload = [0; Offer::LEN];
        let opened = self.noise.read(message, &mut payload);
        opened.map_err(|BadTag| Failed::silent(Code::BadCrypto))?;
        let key = self.noise.remote().unwrap_or_default();
        let peer = NodeId::of_key(&key);
        let fail = |code| Err(Failed::of(code, peer));
        let Ok(offer) = Offer::from_bytes(&payload) else {
            return fail(Code::Malformed);
        };
        if peer == terms.node {
            return fail(Code::SelfConnect);
        }
        if expected.is_some_and(|expected| expected != peer) {
            return fail(Code::WrongPeer);
        }
        if !allowed.has(peer) {
            return fail(Code::NotAllowed);
        }
        if self.version != terms.version_max.min(offer.version_max) {
            return fail(Code::Downgraded);
        }
        let Some(features) = terms.agree(offer.features, offer.required) else {
            return fail(Code::FeatureMissing);
        };
        Ok(Offered { noise: self.noise, peer, key, version: self.version, features })
    }
}

/// Between D1 and D2: message 2 was accepted, the link rule is to be asked.
#[derive(Clone, Debug)]
pub struct Offered {
    noise: Noise,
    /// Who answered.
    pub peer: NodeId,
    key: [u8; 32],
    version: u16,
    features: Features,
}

impl Offered {
    /// Appends message 3 with `hello` to `out`.
    #[must_use]
    pub fn greet(mut self, terms: &Terms, hello: &Hello, out: &mut Vec<u8>) -> AwaitWelcome {
        HandshakeKind::Message3.encode(out);
        self.noise.write(&hello.to_bytes(), out);
        let keys = self.noise.keys();
        AwaitWelcome {
            sealer: Sealer::new(terms.suite, 0, keys.to_responder, keys.to_initiator),
            agreed: Agreed {
                peer: self.peer,
                key: self.key,
                version: self.version,
                features: self.features,
                hash: keys.hash,
            },
        }
    }
}

/// D2: message 3 is written.
#[derive(Clone, Debug, Hash)]
pub struct AwaitWelcome {
    /// Epoch 0.
    pub sealer: Sealer,
    /// With whom.
    pub agreed: Agreed,
}

/// What the acceptor answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The link is up.
    Welcome(Hello),
    /// It refused, sealed.
    Reject(Reject),
}

impl AwaitWelcome {
    /// Opens the first record.
    ///
    /// # Errors
    ///
    /// BadCrypto if it does not open, else Malformed if it is neither Welcome nor Reject.
    pub fn answer(&mut self, record: &mut [u8]) -> Result<Answer, Code> {
        let plain = self.sealer.open_record(record);
        let plain = plain.map_err(|BadTag| Code::BadCrypto)?;
        let mut reader = Reader::new(plain);
        let header = FrameHeader::decode(&mut reader).map_err(|_| Code::Malformed)?;
        let body = reader.rest();
        let whole = header.first && header.last && header.total as usize == body.len();
        match AnyFrame::decode_body(header.kind, body) {
            Ok(AnyFrame::Control(Control::Welcome(hello))) if whole => Ok(Answer::Welcome(hello)),
            Ok(AnyFrame::Control(Control::Reject(reject))) if whole => Ok(Answer::Reject(reject)),
            Ok(AnyFrame::Control(_) | AnyFrame::Frame(_)) | Err(_) => Err(Code::Malformed),
        }
    }
}

/// Checks a preface in the order of C21.
///
/// # Errors
///
/// [`Failed`], with the refusal in clear if this code is told so.
pub fn check_preface(terms: &Terms, bytes: &[u8]) -> Result<Preface, Failed> {
    if !bytes.starts_with(&Preface::MAGIC) {
        return Err(Failed::silent(Code::BadMagic));
    }
    let told = |code| Failed { clear: Some(terms.clear_reject(code)), ..Failed::silent(code) };
    let preface = Preface::from_bytes(bytes).map_err(|_| Failed::silent(Code::Malformed))?;
    if !(terms.version_min..=terms.version_max).contains(&preface.version) {
        return Err(told(Code::VersionMismatch));
    }
    if preface.cluster_tag != terms.cluster_tag {
        return Err(told(Code::WrongCluster));
    }
    if terms.agree(preface.features, preface.required).is_none() {
        return Err(told(Code::FeatureMissing));
    }
    if preface.schema_hash != terms.schema(preface.version) {
        let clear = ClearReject {
            schema_hash: terms.schema(preface.version),
            ..terms.clear_reject(Code::SchemaMismatch)
        };
        return Err(Failed { clear: Some(clear), ..Failed::silent(Code::SchemaMismatch) });
    }
    Ok(preface)
}

/// A0: connected; the preface and message 1 are awaited.
#[derive(Clone, Debug, Hash)]
pub struct AwaitPreface {
    ephemeral: Key,
}

impl AwaitPreface {
    /// Waits, with fresh random bytes for the answer.
    #[must_use]
    pub const fn new(ephemeral: Key) -> Self {
        Self { ephemeral }
    }

    /// Takes a preface that [`check_preface`] let pass and message 1; appends message 2 to `out`.
    ///
    /// # Errors
    ///
    /// [`Failed`] with BadCrypto if the message is no key.
    pub fn answer(
        self,
        terms: &Terms,
        preface: &[u8; Preface::LEN],
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<AwaitHello, Failed> {
        let checked = check_preface(terms, preface)?;
        let prologue = prologue(preface);
        let role = Role::Responder;
        let mut noise = Noise::new(terms.suite, role, &terms.key, self.ephemeral, &prologue);
        let opened = noise.read(message, &mut [0; 32]);
        opened.map_err(|BadTag| Failed::silent(Code::BadCrypto))?;
        let offer = Offer {
            version_min: terms.version_min,
            version_max: terms.version_max,
            features: terms.features,
            required: terms.required,
        };
        HandshakeKind::Message2.encode(out);
        noise.write(&offer.to_bytes(), out);
        Ok(AwaitHello { noise, preface: checked })
    }
}

/// A1: message 2 is written.
#[derive(Clone, Debug, Hash)]
pub struct AwaitHello {
    noise: Noise,
    preface: Preface,
}

impl AwaitHello {
    /// Reads message 3 and checks all that needs no table of links.
    ///
    /// # Errors
    ///
    /// [`Failed`], with the sealer if the code is told under keys.
    pub fn hello(
        mut self,
        terms: &Terms,
        allowed: &Allowed,
        message: &[u8],
    ) -> Result<Greeted, Failed> {
        let mut payload = [0; Hello::LEN];
        let opened = self.noise.read(message, &mut payload);
        opened.map_err(|BadTag| Failed::silent(Code::BadCrypto))?;
        let key = self.noise.remote().unwrap_or_default();
        let peer = NodeId::of_key(&key);
        let hello = Hello::from_bytes(&payload).map_err(|_| Failed::of(Code::Malformed, peer))?;
        let keys = self.noise.keys();
        let sealer = Sealer::new(terms.suite, 0, keys.to_initiator, keys.to_responder);
        let version = self.preface.version;
        let code = if peer == terms.node {
            Some(Code::SelfConnect)
        } else if !allowed.has(peer) {
            Some(Code::NotAllowed)
        } else if version != terms.version_max.min(hello.version_max) {
            Some(Code::Downgraded)
        } else {
            None
        };
        match code {
            Some(code) => Err(Failed { sealer: Some(Box::new(sealer)), ..Failed::of(code, peer) }),
            None => Ok(Greeted {
                sealer,
                agreed: Agreed {
                    peer,
                    key,
                    version,
                    features: terms.features.and(self.preface.features),
                    hash: keys.hash,
                },
                hello,
            }),
        }
    }
}

/// After A1: the peer proved who it is, and said what it wants.
#[derive(Clone, Debug, Hash)]
pub struct Greeted {
    /// Epoch 0.
    pub sealer: Sealer,
    /// With whom.
    pub agreed: Agreed,
    /// What it said.
    pub hello: Hello,
}

/// Parts drawn bytes into an ephemeral key and a link index, which is not 0.
#[must_use]
pub fn part_entropy(entropy: &Entropy) -> (Key, u32) {
    let mut ephemeral = Zeroizing::new([0; 32]);
    ephemeral.copy_from_slice(&entropy.0[..32]);
    let index = entropy.0[32..]
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .find(|index| *index != 0)
        .unwrap_or(1);
    (Key::new(*ephemeral), index)
}

#[cfg(test)]
mod tests;
