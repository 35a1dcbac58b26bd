//! Commands on questions to people, and on approvals (section 6).

use machines::kernel::expression::FieldRef;
use machines::kernel::ids::UseId;
use machines::kernel::interrupts::approval::Use;
use machines::kernel::interrupts::interrupt::{Assignee, NewInterrupt, NewTarget, Response};
use machines::kernel::interrupts::target::TargetHash;
use machines::kernel::names::{ExpiryPolicy, InterruptKind, ReviewDecision};
use machines::kernel::{Code, CommandBody, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::{configured, interrupt, json, maybe, pid, text, word};

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Do {
    CreateInterrupt {
        pid: String,
        interrupt: Box<Question>,
    },
    ResolveInterrupt {
        #[serde(alias = "interrupt")]
        interrupt_id: String,
        text: Option<String>,
        approved: Option<bool>,
        decision: Option<String>,
        data: Option<Value>,
        target_hash: Option<String>,
        /// The same fields in an object of their own (13.2).
        response: Option<Box<Said>>,
    },
    CancelInterrupt {
        interrupt_id: String,
        #[serde(default)]
        reason: String,
    },
    ConsumeApproval {
        interrupt_id: String,
        action: String,
        #[serde(default)]
        params: Value,
        use_id: String,
    },
}

/// An answer (13.3: InterruptResponse).
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Said {
    text: Option<String>,
    approved: Option<bool>,
    decision: Option<String>,
    data: Option<Value>,
    /// In hexadecimal digits, as the interrupt shows it.
    target_hash: Option<String>,
}

/// A question (13.3: NewInterrupt).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    kind: String,
    question: Option<String>,
    message: Option<String>,
    data: Option<Value>,
    ttl_ms: Option<u64>,
    auto_expire: Option<bool>,
    on_expiry: Option<String>,
    /// A user, or `role:<name>`.
    assignee: Option<String>,
    escalate_to: Option<String>,
    blocking: Option<bool>,
    target: Option<Aim>,
    trace_id: Option<String>,
    span_id: Option<String>,
    key: Option<String>,
}

/// What leave is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Aim {
    action: String,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    binds: Vec<Value>,
}

impl Do {
    pub(crate) fn body(self) -> Result<CommandBody, Refusal> {
        Ok(match self {
            Self::CreateInterrupt { pid: of, interrupt } => {
                let (pid, interrupt) = (pid(&of)?, Box::new(interrupt.asked()?));
                CommandBody::CreateInterrupt { pid, interrupt }
            }
            Self::ResolveInterrupt {
                interrupt_id,
                text,
                approved,
                decision,
                data,
                target_hash,
                response,
            } => {
                let flat = Said { text, approved, decision, data, target_hash };
                let response = Box::new(flat.or(response)?.response()?);
                CommandBody::ResolveInterrupt { id: interrupt(&interrupt_id)?, response }
            }
            Self::CancelInterrupt { interrupt_id, reason } => {
                CommandBody::CancelInterrupt { id: interrupt(&interrupt_id)?, reason }
            }
            Self::ConsumeApproval { interrupt_id, action, params, use_id } => {
                CommandBody::ConsumeApproval(Box::new(Use {
                    interrupt: interrupt(&interrupt_id)?,
                    action: text(action),
                    params: json("params", &params)?,
                    use_id: UseId::parse("use_id", &use_id)?,
                }))
            }
        })
    }
}

impl Said {
    /// Chooses between fields beside the interrupt's id and an object of them.
    fn or(self, response: Option<Box<Self>>) -> Result<Self, Refusal> {
        match response {
            None => Ok(self),
            Some(response) if self == Self::default() => Ok(*response),
            Some(_) => {
                let text = "response: its fields stand in it or beside it, and not both";
                Err(Refusal::of_field(Code::BadValue, "response", text))
            }
        }
    }

    fn response(self) -> Result<Response, Refusal> {
        let named =
            |name: String| word("decision", ReviewDecision::ALL, ReviewDecision::name, &name);
        Ok(Response {
            text: self.text.map(text),
            approved: self.approved,
            decision: self.decision.map(named).transpose()?,
            data: self.data.map(|data| json("data", &data)).transpose()?,
            target_hash: self.target_hash.map(|hash| digits(&hash)).transpose()?,
        })
    }
}

impl Question {
    /// Returns the question in the kernel's words.
    pub(super) fn asked(self) -> Result<NewInterrupt, Refusal> {
        let policy = |name: String| word("on_expiry", ExpiryPolicy::ALL, ExpiryPolicy::name, &name);
        Ok(NewInterrupt {
            kind: word("kind", InterruptKind::ALL, InterruptKind::name, &self.kind)?,
            question: self.question.map(text),
            message: self.message.map(text),
            data: self.data.map(|data| json("data", &data)).transpose()?,
            ttl: self.ttl_ms,
            auto_expire: self.auto_expire,
            on_expiry: self.on_expiry.map(policy).transpose()?,
            assignee: maybe(Assignee::parse, "assignee", self.assignee.as_deref())?,
            escalate_to: maybe(Assignee::parse, "escalate_to", self.escalate_to.as_deref())?,
            blocking: self.blocking,
            target: self.target.map(Aim::asked).transpose()?.map(Box::new),
            trace: self.trace_id.map(text),
            span: self.span_id.map(text),
            key: self.key.map(text),
        })
    }
}

impl Aim {
    fn asked(self) -> Result<NewTarget, Refusal> {
        let bound = |(at, field): (usize, &Value)| {
            configured::<FieldRef>(&format!("target.binds[{at}]"), field)
        };
        Ok(NewTarget {
            action: text(self.action),
            params: json("target.params", &self.params)?,
            binds: self.binds.iter().enumerate().map(bound).collect::<Result<_, Refusal>>()?,
        })
    }
}

/// Reads a hash of 64 hexadecimal digits.
fn digits(text: &str) -> Result<TargetHash, Refusal> {
    let wrong = || {
        let told = "target_hash: 64 hexadecimal digits are needed, as the interrupt shows them";
        Refusal::of_field(Code::BadValue, "target_hash", told)
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)
}
