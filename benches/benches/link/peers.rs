//! What links are measured against: `snow` alone, and the cipher alone.

use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, TransportState};

/// The bytes of our prologue, and of what messages 2 and 3 and Welcome carry.
const PROLOGUE: [u8; 56] = [1; 56];
const OFFER: [u8; 16] = [2; 16];
const HELLO: [u8; 56] = [3; 56];
const WELCOME: [u8; 64] = [4; 64];

/// The parties of raw handshakes.
pub(crate) struct Identities {
    params: NoiseParams,
    dialler: [u8; 32],
    acceptor: [u8; 32],
}

/// Gives out bytes that were drawn before, as ours does.
struct Drawn(u8);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        bytes.fill(self.0);
        Ok(())
    }
}

impl CryptoResolver for Drawn {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Self(self.0)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

impl Identities {
    pub(crate) fn new() -> Self {
        Self {
            params: "Noise_XX_25519_ChaChaPoly_BLAKE2s".parse().expect("a pattern"),
            dialler: [5; 32],
            acceptor: [6; 32],
        }
    }

    /// The same messages with the same payload sizes, Welcome included.
    pub(crate) fn handshake(&self, drawn: u64) -> [TransportState; 2] {
        let drawn = u8::try_from(drawn % 256).expect("below 256");
        let builder = |drawn| Builder::with_resolver(self.params.clone(), Box::new(Drawn(drawn)));
        let mut dialler = builder(drawn)
            .local_private_key(&self.dialler)
            .and_then(|builder| builder.prologue(&PROLOGUE))
            .and_then(Builder::build_initiator)
            .expect("complete");
        let mut acceptor = builder(!drawn)
            .local_private_key(&self.acceptor)
            .and_then(|builder| builder.prologue(&PROLOGUE))
            .and_then(Builder::build_responder)
            .expect("complete");
        let (mut wire, mut read) = ([0; 256], [0; 256]);
        let length = dialler.write_message(&[], &mut wire).expect("message 1");
        acceptor.read_message(&wire[..length], &mut read).expect("message 1");
        let length = acceptor.write_message(&OFFER, &mut wire).expect("message 2");
        dialler.read_message(&wire[..length], &mut read).expect("message 2");
        let length = dialler.write_message(&HELLO, &mut wire).expect("message 3");
        acceptor.read_message(&wire[..length], &mut read).expect("message 3");

        let mut dialler = dialler.into_transport_mode().expect("it is complete");
        let mut acceptor = acceptor.into_transport_mode().expect("it is complete");
        let length = acceptor.write_message(&WELCOME, &mut wire).expect("Welcome");
        dialler.read_message(&wire[..length], &mut read).expect("Welcome");
        [dialler, acceptor]
    }
}

/// The cipher alone: one buffer, sealed and opened in place.
pub(crate) struct RawCipher {
    key: [u8; 32],
    nonce: u64,
    text: Vec<u8>,
}

impl RawCipher {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { key: [8; 32], nonce: 0, text: vec![9; bytes] }
    }

    pub(crate) fn seal_and_open(&mut self) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.nonce.to_le_bytes());
        self.nonce += 1;
        let tag = ChaCha20Poly1305::new((&self.key).into())
            .encrypt_in_place_detached(&nonce.into(), &[], &mut self.text)
            .expect("short");
        ChaCha20Poly1305::new((&self.key).into())
            .decrypt_in_place_detached(&nonce.into(), &[], &mut self.text, &tag)
            .expect("it was just sealed");
    }
}
