//! One run of `Noise_XX_25519_ChaChaPoly_BLAKE2s`, as a value that can be copied and compared.
//!
//! `snow`'s state is neither, so this keeps what went in (static key, drawn ephemeral, prologue,
//! messages so far) and rebuilds that state by replaying at most three messages (C4). The state
//! itself is kept along while this value is not cloned, so that production never replays.
//!
//! # Source
//!
//! The Noise Protocol Framework, revision 34 (Perrin 2018), pattern XX.

use std::fmt;
use std::hash::{Hash, Hasher};

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash as NoiseHash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::cluster::sealer::{BadTag, Key, Mixer, Suite, TAG};

/// The pattern, as Noise spells it (C20).
const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";
/// The longest prologue: 16 bytes of name, 40 of preface.
const PROLOGUE_MAX: usize = 56;
/// Longer than any message of ours, with room for the tag that `snow` asks for.
const SCRATCH: usize = 256;

/// The static key of the node that runs a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Static {
    /// The X25519 private key.
    pub secret: Key,
    /// The public key of it.
    pub public: [u8; 32],
}

/// Which side of the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The dialler.
    Initiator,
    /// The acceptor.
    Responder,
}

/// What both ends have after message 3.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys {
    /// Seals what the initiator sends.
    pub to_responder: Key,
    /// Seals what the responder sends.
    pub to_initiator: Key,
    /// The handshake hash: names this run, and enters the prologue of the next rekey (C35).
    pub hash: [u8; 32],
}

/// A message that was written or read.
#[derive(Clone, Hash)]
enum Step {
    Wrote(Vec<u8>),
    Read(Vec<u8>),
}

/// One handshake, between `new` and [`keys`](Noise::keys).
pub struct Noise {
    suite: Suite,
    role: Role,
    own: Static,
    ephemeral: Key,
    prologue: Vec<u8>,
    steps: Vec<Step>,
    remote: Option<[u8; 32]>,
    live: Option<Live>,
}

/// The computing state; `None` in a fresh clone.
enum Live {
    Noise(Box<HandshakeState>),
    Null(Transcript),
}

impl Noise {
    /// Starts a handshake. `ephemeral` must be fresh random bytes.
    #[must_use]
    pub fn new(suite: Suite, role: Role, own: &Static, ephemeral: Key, prologue: &[u8]) -> Self {
        assert!(prologue.len() <= PROLOGUE_MAX, "one of the two prologues");
        let mut noise = Self {
            suite,
            role,
            own: own.clone(),
            ephemeral,
            prologue: prologue.to_vec(),
            steps: Vec::with_capacity(3),
            remote: None,
            live: None,
        };
        noise.live = Some(noise.start());
        noise
    }

    /// Writes the next message, with `payload`, at the end of `out`.
    ///
    /// # Panics
    ///
    /// If it is the other side's turn.
    pub fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.rebuild();
        let live = self.live.as_mut().expect("rebuilt just now");
        live.write(payload, out);
        self.steps.push(Step::Wrote(payload.to_vec()));
    }

    /// Reads the other side's next message into `payload`.
    ///
    /// # Errors
    ///
    /// [`BadTag`]: this handshake is over.
    ///
    /// # Panics
    ///
    /// If it is the own turn, or `message` is not as long as this message of the pattern is with
    /// a payload of that size: the caller checks the length first.
    pub fn read(&mut self, message: &[u8], payload: &mut [u8]) -> Result<(), BadTag> {
        self.rebuild();
        let live = self.live.as_mut().expect("rebuilt just now");
        live.read(message, payload)?;
        self.remote = live.remote();
        self.steps.push(Step::Read(message.to_vec()));
        Ok(())
    }

    /// Returns the other side's static key, once a message proved it.
    #[must_use]
    pub const fn remote(&self) -> Option<[u8; 32]> {
        self.remote
    }

    /// Returns the keys.
    ///
    /// # Panics
    ///
    /// If the third message was not yet written or read.
    pub fn keys(&mut self) -> Keys {
        assert!(self.steps.len() == 3, "keys exist after message 3");
        self.rebuild();
        self.live.as_mut().expect("rebuilt just now").keys()
    }

    fn start(&self) -> Live {
        match self.suite {
            Suite::Noise => Live::Noise(Box::new(self.build())),
            Suite::Null => Live::Null(Transcript::new(self)),
        }
    }

    fn build(&self) -> HandshakeState {
        let params: NoiseParams = PATTERN.parse().expect("the pattern is one that snow knows");
        let resolver = Box::new(Drawn(self.ephemeral.clone()));
        let builder = Builder::with_resolver(params, resolver)
            .local_private_key(self.own.secret.expose())
            .and_then(|builder| builder.prologue(&self.prologue))
            .expect("each is given once");
        let built = match self.role {
            Role::Initiator => builder.build_initiator(),
            Role::Responder => builder.build_responder(),
        };
        built.expect("pattern XX needs a static key, which is there")
    }

    /// Brings the computing state back by replaying the steps.
    fn rebuild(&mut self) {
        if self.live.is_some() {
            return;
        }
        let mut live = self.start();
        let mut scratch = Zeroizing::new(Vec::with_capacity(SCRATCH));
        for step in &self.steps {
            match step {
                Step::Wrote(payload) => live.write(payload, &mut scratch),
                Step::Read(message) => {
                    let mut payload = [0; SCRATCH];
                    live.read(message, &mut payload)
                        .expect("a message that was read once reads again");
                }
            }
        }
        self.live = Some(live);
    }
}

impl Clone for Noise {
    /// Copies what went in; the copy computes the rest again when it is asked.
    fn clone(&self) -> Self {
        Self {
            suite: self.suite,
            role: self.role,
            own: self.own.clone(),
            ephemeral: self.ephemeral.clone(),
            prologue: self.prologue.clone(),
            steps: self.steps.clone(),
            remote: self.remote,
            live: match &self.live {
                Some(Live::Null(transcript)) => Some(Live::Null(transcript.clone())),
                Some(Live::Noise(_)) | None => None,
            },
        }
    }
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noise")
            .field("role", &self.role)
            .field("messages", &self.steps.len())
            .finish_non_exhaustive()
    }
}

impl Hash for Noise {
    /// Hashes what went in: it decides everything else.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.suite.hash(state);
        self.role.hash(state);
        self.own.public.hash(state);
        self.ephemeral.hash(state);
        self.prologue.hash(state);
        self.steps.hash(state);
    }
}

impl Live {
    fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Noise(state) => {
                let mut scratch = [0; SCRATCH];
                let len = state
                    .write_message(payload, &mut scratch)
                    .expect("it is our turn and there is room");
                out.extend_from_slice(&scratch[..len]);
            }
            Self::Null(transcript) => transcript.write(payload, out),
        }
    }

    fn read(&mut self, message: &[u8], payload: &mut [u8]) -> Result<(), BadTag> {
        match self {
            Self::Noise(state) => match state.read_message(message, payload) {
                Ok(_) => Ok(()),
                Err(_) => Err(BadTag),
            },
            Self::Null(transcript) => transcript.read(message, payload),
        }
    }

    fn remote(&self) -> Option<[u8; 32]> {
        match self {
            Self::Noise(state) => state.get_remote_static()?.try_into().ok(),
            Self::Null(transcript) => transcript.remote,
        }
    }

    fn keys(&mut self) -> Keys {
        match self {
            Self::Noise(state) => {
                let (to_responder, to_initiator) = state.dangerously_get_raw_split();
                let mut hash = [0; 32];
                hash.copy_from_slice(state.get_handshake_hash());
                Keys {
                    to_responder: Key::new(to_responder),
                    to_initiator: Key::new(to_initiator),
                    hash,
                }
            }
            Self::Null(transcript) => transcript.keys(),
        }
    }
}

/// Gives `snow` the default primitives, and as randomness the bytes that were drawn (C20).
struct Drawn(Key);

impl CryptoResolver for Drawn {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.0.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn NoiseHash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Hands the drawn bytes out once: an ephemeral key is never used for a second handshake.
struct Once(Option<Key>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let drawn = self.0.take().ok_or(snow::Error::Rng)?;
        match dest.len() {
            32 => dest.copy_from_slice(drawn.expose()),
            _ => return Err(snow::Error::Rng),
        }
        Ok(())
    }
}

/// [`Suite::Null`]'s stand-in for the key agreement: the same messages in the same sizes, tagged
/// by a checksum over all that was said before. It authenticates nobody.
#[derive(Clone)]
struct Transcript {
    mixer: Mixer,
    public: [u8; 32],
    ephemeral: [u8; 32],
    turn: u8,
    remote: Option<[u8; 32]>,
}

impl Transcript {
    fn new(noise: &Noise) -> Self {
        let mut mixer = Mixer::new(0);
        mixer.bytes(&noise.prologue);
        Self {
            mixer,
            public: noise.own.public,
            ephemeral: *noise.ephemeral.expose(),
            turn: 0,
            remote: None,
        }
    }

    fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        if self.turn < 2 {
            out.extend_from_slice(&self.ephemeral);
            self.mixer.bytes(&self.ephemeral);
        }
        if self.turn > 0 {
            let public = self.public;
            self.put(&public, out);
            self.put(payload, out);
        }
        self.turn += 1;
    }

    fn put(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.mixer.bytes(text);
        out.extend_from_slice(text);
        out.extend_from_slice(&self.mixer.tag());
    }

    fn read(&mut self, message: &[u8], payload: &mut [u8]) -> Result<(), BadTag> {
        let mut next = self.clone();
        let mut rest = message;
        if next.turn < 2 {
            let (ephemeral, tail) = rest.split_at_checked(32).ok_or(BadTag)?;
            next.mixer.bytes(ephemeral);
            rest = tail;
        }
        if next.turn > 0 {
            let mut public = [0; 32];
            rest = next.take(rest, &mut public)?;
            let len = rest.len().checked_sub(TAG).ok_or(BadTag)?;
            next.take(rest, payload.get_mut(..len).ok_or(BadTag)?)?;
            next.remote = Some(public);
        }
        next.turn += 1;
        *self = next;
        Ok(())
    }

    fn take<'a>(&mut self, from: &'a [u8], text: &mut [u8]) -> Result<&'a [u8], BadTag> {
        let (body, rest) = from.split_at_checked(text.len()).ok_or(BadTag)?;
        let (tag, rest) = rest.split_at_checked(TAG).ok_or(BadTag)?;
        self.mixer.bytes(body);
        text.copy_from_slice(body);
        match self.mixer.tag() == *tag {
            true => Ok(rest),
            false => Err(BadTag),
        }
    }

    fn keys(&self) -> Keys {
        Keys {
            to_responder: Key::new(self.mixer.key(1)),
            to_initiator: Key::new(self.mixer.key(2)),
            hash: self.mixer.key(3),
        }
    }
}
