//! One direction of a stream, cut into what it is made of (C13, C14): preface and handshake records
//! in clear, then nothing but sealed records.

use machines::cluster::wire::HandshakeKind;

/// The preface that a dialler writes first (C13).
const PREFACE: usize = 40;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Preface,
    /// A handshake record.
    Clear,
    /// A sealed record, for ever.
    Sealed,
    /// Nothing: the dial was refused in clear.
    Nothing,
}

/// One direction of one stream.
#[derive(Clone, Debug)]
pub(super) struct Written {
    dialler: bool,
    next: Next,
    /// The start of a piece that is not whole yet.
    rest: Vec<u8>,
    /// Sealed records so far.
    pub(super) records: u64,
}

impl Written {
    /// Begins a direction: the dialler's or the acceptor's.
    pub(super) const fn new(dialler: bool) -> Self {
        let next = if dialler { Next::Preface } else { Next::Clear };
        Self { dialler, next, rest: Vec::new(), records: 0 }
    }

    /// Takes the next bytes; answers the ciphertexts of the sealed records that are whole now.
    ///
    /// # Errors
    ///
    /// What stands where only a handshake record or a sealed record may stand.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.rest.extend_from_slice(bytes);
        let mut sealed = Vec::new();
        let mut at = 0;
        loop {
            let rest = &self.rest[at..];
            match self.next {
                Next::Preface if rest.len() >= PREFACE => {
                    at += PREFACE;
                    self.next = Next::Clear;
                }
                Next::Clear if rest.len() >= HandshakeKind::HEADER_LEN => {
                    let kind = HandshakeKind::from_u8(rest[0]);
                    let kind = kind.ok_or_else(|| format!("{} is no record's kind", rest[0]))?;
                    let len = HandshakeKind::HEADER_LEN + usize::from(kind.body_len());
                    if rest.len() < len {
                        break;
                    }
                    at += len;
                    self.next = self.after(kind)?;
                }
                Next::Sealed if rest.len() >= 2 => {
                    let len = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
                    let Some(text) = rest.get(2..2 + len) else {
                        break;
                    };
                    sealed.push(text.to_vec());
                    at += 2 + len;
                    self.records += 1;
                }
                Next::Nothing if !rest.is_empty() => {
                    return Err("bytes after a refusal".to_owned());
                }
                Next::Preface | Next::Clear | Next::Sealed | Next::Nothing => break,
            }
        }
        self.rest.drain(..at);
        Ok(sealed)
    }

    fn after(&self, kind: HandshakeKind) -> Result<Next, String> {
        match (self.dialler, kind) {
            (true, HandshakeKind::Message1) => Ok(Next::Clear),
            (true, HandshakeKind::Message3) | (false, HandshakeKind::Message2) => Ok(Next::Sealed),
            (false, HandshakeKind::Reject) => Ok(Next::Nothing),
            (true, HandshakeKind::Message2 | HandshakeKind::Reject)
            | (false, HandshakeKind::Message1 | HandshakeKind::Message3) => {
                Err(format!("{kind:?} from the wrong side"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_wherever_writes_are_cut_and_clear_text_is_none() {
        let mut bytes = vec![0; PREFACE];
        HandshakeKind::Message1.put_record(&[0; 32], &mut bytes);
        HandshakeKind::Message3.put_record(&[0; 120], &mut bytes);
        bytes.extend_from_slice(&[3, 0, 7, 8, 9, 1, 0, 5]);
        for step in 1..9 {
            let mut written = Written::new(true);
            let pieces = bytes.chunks(step).map(|piece| written.take(piece).unwrap());
            let sealed: Vec<_> = pieces.flatten().collect();
            assert_eq!(sealed, [vec![7, 8, 9], vec![5]], "{step} bytes at a time");
        }
        assert!(Written::new(false).take(b"in clear").is_err());
    }
}
