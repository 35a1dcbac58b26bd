//! Who and what is meant: ids and names, each its own type (K20).
//!
//! All are text that stands in place if it is short, and else is shared. Ids are of
//! `[A-Za-z0-9._:-]`, names of `[A-Za-z0-9._/-]`. How long they may be is configuration (K25) and
//! checked by decisions; no configuration allows more than [`LENGTH_MAX`].

mod text;

use std::fmt;

use crate::codec::{Malformed, Reader, Wire, put_str16};

use super::refusal::{Code, Refusal};
use text::Text;

/// Ten times the default of 128 bytes (K25).
pub const LENGTH_MAX: usize = 1_280;

/// What an id of a caller may be made of (K25).
const fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-')
}

/// What a name may be made of (K25).
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-')
}

/// Checks text against an alphabet; `field` is how errors call it.
fn checked(
    field: &str,
    text: &str,
    (alphabet, code): (fn(u8) -> bool, Code),
) -> Result<Text, Refusal> {
    if text.is_empty() {
        return Err(Refusal::new(Code::Required, format!("{field} is required")));
    }
    if text.len() > LENGTH_MAX {
        let told = format!("{field}: {} bytes, at most {LENGTH_MAX}", text.len());
        return Err(Refusal::new(code, told));
    }
    match text.bytes().position(|byte| !alphabet(byte)) {
        None => Ok(Text::new(text)),
        Some(at) => {
            let told = format!("{field}: byte {at} is not allowed");
            Err(Refusal::new(code, told))
        }
    }
}

macro_rules! text_types {
    ($(
        $(#[$doc:meta])*
        $type:ident, $alphabet:ident, $code:ident;
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $type(Text);

            impl $type {
                /// Checks `text`; `field` is how errors call it.
                ///
                /// # Errors
                ///
                /// `required`, or `bad_id` or `bad_name` (K395).
                pub fn parse(field: &str, text: &str) -> Result<Self, Refusal> {
                    checked(field, text, ($alphabet, Code::$code)).map(Self)
                }

                /// Returns the text.
                #[must_use]
                pub fn as_str(&self) -> &str {
                    self.0.as_str()
                }
            }

            impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(self.as_str())
                }
            }

            impl fmt::Debug for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(self.as_str())
                }
            }

            impl Wire for $type {
                fn encode(&self, out: &mut Vec<u8>) {
                    put_str16(out, self.0.as_bytes());
                }

                fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                    let here = reader.clone();
                    let bytes = reader.str16()?;
                    let sound = !bytes.is_empty()
                        && bytes.len() <= LENGTH_MAX
                        && bytes.iter().all(|byte| $alphabet(*byte));
                    match str::from_utf8(bytes) {
                        Ok(text) if sound => Ok(Self(Text::new(text))),
                        Ok(_) | Err(_) => Err(here.malformed("an id or a name")),
                    }
                }
            }
        )*
    };
}

text_types! {
    /// A process (`prc_`): the pid.
    ProcessId, is_id_byte, BadId;
    /// An envelope (`env_`).
    EnvelopeId, is_id_byte, BadId;
    /// A caller's request (`req_`).
    RequestId, is_id_byte, BadId;
    /// A caller's conversation (`ses_`): only a label (K21).
    SessionId, is_id_byte, BadId;
    /// An interrupt (`int_`).
    InterruptId, is_id_byte, BadId;
    /// An attempt at a stage (`att_`).
    AttemptId, is_id_byte, BadId;
    /// A group of branches (`grp_`).
    GroupId, is_id_byte, BadId;
    /// A reservation of budget (`rsv_`).
    ReservationId, is_id_byte, BadId;
    /// A lease (`lse_`).
    LeaseId, is_id_byte, BadId;
    /// A dispatch (`dsp_`).
    DispatchId, is_id_byte, BadId;
    /// A subscription of the bus (`sub_`).
    SubscriptionId, is_id_byte, BadId;
    /// A user, as the credentials name it (K390).
    UserId, is_id_byte, BadId;
    /// A worker of a user.
    WorkerId, is_id_byte, BadId;
    /// What a record of use is known by, so that it is taken once (K109).
    RecordId, is_id_byte, BadId;
    /// What the use of an approval is known by, so that it is taken once (K170).
    UseId, is_id_byte, BadId;
    /// What kind of service it is; well known are flow, worker, vertical and inference.
    ServiceType, is_name_byte, BadName;
    /// What a service can do.
    Capability, is_name_byte, BadName;
    /// A service.
    ServiceName, is_name_byte, BadName;
    /// A pipeline.
    PipelineName, is_name_byte, BadName;
    /// A stage of a pipeline.
    StageName, is_name_byte, BadName;
    /// An agent.
    AgentName, is_name_byte, BadName;
    /// Where a stage's output is kept.
    OutputKey, is_name_byte, BadName;
    /// A type of messages on the bus.
    MessageType, is_name_byte, BadName;
}

macro_rules! minted {
    ($($type:ident $prefix:literal),* $(,)?) => {
        $(impl Minted for $type {
            const PREFIX: &'static str = $prefix;

            fn of(text: &str) -> Self {
                Self(Text::new(text))
            }
        })*
    };
}

/// An id that the kernel can make (K8, K20).
pub trait Minted: Sized {
    /// What its text begins with.
    const PREFIX: &'static str;

    /// Takes text that was made for it.
    fn of(text: &str) -> Self;
}

minted! {
    ProcessId "prc_", EnvelopeId "env_", RequestId "req_", SessionId "ses_", InterruptId "int_",
    AttemptId "att_", GroupId "grp_", ReservationId "rsv_", LeaseId "lse_", DispatchId "dsp_",
    SubscriptionId "sub_",
}

/// The endpoint of a rate limit: a name, or empty, which is the user as a whole (K130).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Text);

impl Endpoint {
    /// Checks `text`, which may be empty.
    ///
    /// # Errors
    ///
    /// `bad_name` (K395).
    pub fn parse(field: &str, text: &str) -> Result<Self, Refusal> {
        match text.is_empty() {
            true => Ok(Self::whole()),
            false => checked(field, text, (is_name_byte, Code::BadName)).map(Self),
        }
    }

    /// The user as a whole.
    #[must_use]
    pub fn whole() -> Self {
        Self(Text::new(""))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Wire for Endpoint {
    fn encode(&self, out: &mut Vec<u8>) {
        put_str16(out, self.0.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        let bytes = reader.str16()?;
        let text = str::from_utf8(bytes).map_err(|_| here.malformed("an endpoint"))?;
        Self::parse("endpoint", text).map_err(|_| here.malformed("an endpoint"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_refused_for_what_is_wrong_with_it() {
        let told = |text: &str| ProcessId::parse("pid", text).map_err(|refusal| refusal.text);
        assert_eq!(told(""), Err("pid is required".into()));
        assert_eq!(told("a b"), Err("pid: byte 1 is not allowed".into()));
        assert_eq!(told("a/b"), Err("pid: byte 1 is not allowed".into()), "names may have it");
        assert!(ServiceName::parse("service", "a/b").is_ok());
        let long = "x".repeat(LENGTH_MAX + 1);
        assert_eq!(told(&long), Err("pid: 1281 bytes, at most 1280".into()));
    }

    #[test]
    fn bytes_that_parse_would_refuse_are_no_id() {
        let id = ProcessId::parse("pid", "prc_1:a").unwrap();
        assert_eq!(ProcessId::from_bytes(&id.to_bytes()), Ok(id));
        assert!(ProcessId::from_bytes(&[0, 0]).is_err());
        assert!(ProcessId::from_bytes(&[1, 0, b' ']).is_err());
        assert!(Endpoint::from_bytes(&[0, 0]).is_ok(), "the user as a whole");
    }
}
