//! What a question to a person is, from asking to answer (2.5).

use std::fmt;
use std::sync::Arc;

use crate::kernel::expression::FieldRef;
use crate::kernel::ids::{
    AttemptId, EnvelopeId, InterruptId, ProcessId, RequestId, SessionId, StageName, UserId,
};
use crate::kernel::json::Json;
use crate::kernel::names::{ExpiryPolicy, InterruptKind, InterruptStatus, ReviewDecision};
use crate::kernel::principal::{Principal, Role};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::time::{Millis, Time};
use crate::{wire_enum, wire_struct};

use super::target::{Target, TargetHash};

/// Who may answer, besides the owner and operators (K155).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignee {
    /// One user.
    User {
        /// Which.
        user: UserId,
    },
    /// Everyone who has a role.
    Role {
        /// Which.
        role: Role,
    },
}

wire_enum!(Assignee, "an assignee" { User { user } = 1, Role { role } = 2 });

impl Assignee {
    /// Who is asked when nobody else is named (K164).
    pub const OPERATORS: Self = Self::Role { role: Role::Operator };

    /// Reads `role:<name>`, or else a user; `field` is how errors call it.
    ///
    /// # Errors
    ///
    /// `bad_value` for a role that there is not, `required` or `bad_id` for a user.
    pub fn parse(field: &str, text: &str) -> Result<Self, Refusal> {
        let Some(name) = text.strip_prefix("role:") else {
            return UserId::parse(field, text).map(|user| Self::User { user });
        };
        match Role::ALL.iter().find(|role| role.name() == name) {
            Some(role) => Ok(Self::Role { role: *role }),
            None => Err(Refusal::new(Code::BadValue, format!("{field}: no such role"))),
        }
    }

    /// Says whether `principal` is meant.
    #[must_use]
    pub fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::User { user } => principal.user == *user,
            Self::Role { role } => principal.roles.has(*role),
        }
    }
}

/// As [`Assignee::parse`] reads it.
impl fmt::Display for Assignee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { user } => f.write_str(user.as_str()),
            Self::Role { role } => write!(f, "role:{}", role.name()),
        }
    }
}

/// Where an interrupt comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A stage of the session: a report, or a route to a question.
    Stage {
        /// Which.
        stage: StageName,
        /// The attempt that asked, if one did.
        attempt: Option<AttemptId>,
    },
    /// `CreateInterrupt`.
    External,
    /// The kernel itself: a budget or the time ran out.
    Kernel,
}

wire_enum!(Origin, "an origin" {
    Stage { stage, attempt } = 1,
    External = 2,
    Kernel = 3,
});

/// What is to be done, as the asker tells it (K168).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewTarget {
    /// What.
    pub action: Arc<str>,
    /// With what.
    pub params: Json,
    /// What must not change meanwhile.
    pub binds: Vec<FieldRef>,
}

/// A question, as it is asked (13.3). What is absent is as configured for the kind (K151).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewInterrupt {
    /// What is asked.
    pub kind: InterruptKind,
    /// In words.
    pub question: Option<Arc<str>>,
    /// What the person should know.
    pub message: Option<Arc<str>>,
    /// The same for machines: an object.
    pub data: Option<Json>,
    /// How long it waits.
    pub ttl: Option<Millis>,
    /// Whether it expires by itself.
    pub auto_expire: Option<bool>,
    /// What happens then.
    pub on_expiry: Option<ExpiryPolicy>,
    /// Who may answer, besides owner and operators.
    pub assignee: Option<Assignee>,
    /// Who is asked next.
    pub escalate_to: Option<Assignee>,
    /// Whether the process waits for the answer.
    pub blocking: Option<bool>,
    /// What an approval is for.
    pub target: Option<Box<NewTarget>>,
    /// A trace of the caller's.
    pub trace: Option<Arc<str>>,
    /// A span of it.
    pub span: Option<Arc<str>>,
    /// What a repeat is known by (K152).
    pub key: Option<Arc<str>>,
}

wire_struct!(NewTarget { action, params, binds });

wire_struct!(NewInterrupt {
    kind,
    question,
    message,
    data,
    ttl,
    auto_expire,
    on_expiry,
    assignee,
    escalate_to,
    blocking,
    target,
    trace,
    span,
    key,
});

impl NewInterrupt {
    /// Makes a question of which nothing but the kind is told.
    #[must_use]
    pub const fn new(kind: InterruptKind) -> Self {
        Self {
            kind,
            question: None,
            message: None,
            data: None,
            ttl: None,
            auto_expire: None,
            on_expiry: None,
            assignee: None,
            escalate_to: None,
            blocking: None,
            target: None,
            trace: None,
            span: None,
            key: None,
        }
    }
}

/// An answer, as it is given (2.5). Which parts it has depends on the kind (K150, K156).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response {
    /// In words.
    pub text: Option<Arc<str>>,
    /// Yes or no.
    pub approved: Option<bool>,
    /// What the reviewer says.
    pub decision: Option<ReviewDecision>,
    /// An object; of a review that modifies, the params to use.
    pub data: Option<Json>,
    /// Of the target that was shown (K169).
    pub target_hash: Option<TargetHash>,
}

wire_struct!(Response { text, approved, decision, data, target_hash });

/// An answer that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// What was said.
    pub response: Response,
    /// By whom.
    pub by: UserId,
    /// When.
    pub received_at: Time,
}

wire_struct!(Answer { response, by, received_at });

/// A question to a person, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interrupt {
    /// Its id.
    pub id: InterruptId,
    /// The number of the event that raised it: the order in which lists have it (K172).
    pub number: u64,
    /// Of which process.
    pub pid: ProcessId,
    /// The process's request.
    pub request: RequestId,
    /// The process's owner.
    pub user: UserId,
    /// The process's conversation.
    pub session: SessionId,
    /// The envelope of its session.
    pub envelope: Option<EnvelopeId>,
    /// What is asked.
    pub kind: InterruptKind,
    /// In words.
    pub question: Option<Arc<str>>,
    /// What the person should know.
    pub message: Option<Arc<str>>,
    /// The same for machines.
    pub data: Option<Json>,
    /// What a repeat is known by.
    pub key: Option<Arc<str>>,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether the process waits for the answer.
    pub blocking: bool,
    /// Whether it expires by itself.
    pub auto_expire: bool,
    /// Whether an answer must have the part that its kind needs.
    pub require_response: bool,
    /// What happens when it expires.
    pub on_expiry: ExpiryPolicy,
    /// Who may answer, besides owner and operators.
    pub assignee: Option<Assignee>,
    /// Who is asked next.
    pub escalate_to: Option<Assignee>,
    /// The one in whose place it came.
    pub escalated_from: Option<InterruptId>,
    /// How often that happened before it.
    pub escalations: u64,
    /// What an approval is for.
    pub target: Option<Box<Target>>,
    /// A trace of the caller's.
    pub trace: Option<Arc<str>>,
    /// A span of it.
    pub span: Option<Arc<str>>,
    /// When it was raised.
    pub created_at: Time,
    /// When nobody will have answered in time.
    pub expires_at: Option<Time>,
    /// What became of it.
    pub status: InterruptStatus,
    /// The answer, once there is one.
    pub answer: Option<Box<Answer>>,
    /// Why it was taken back.
    pub cancel_reason: Option<Arc<str>>,
    /// When it was closed.
    pub closed_at: Option<Time>,
}

wire_struct!(Interrupt {
    id,
    number,
    pid,
    request,
    user,
    session,
    envelope,
    kind,
    question,
    message,
    data,
    key,
    origin,
    blocking,
    auto_expire,
    require_response,
    on_expiry,
    assignee,
    escalate_to,
    escalated_from,
    escalations,
    target,
    trace,
    span,
    created_at,
    expires_at,
    status,
    answer,
    cancel_reason,
    closed_at,
});

impl Interrupt {
    /// Says whether nobody has answered and somebody still may.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        match self.status {
            InterruptStatus::Pending => true,
            InterruptStatus::Resolved | InterruptStatus::Expired | InterruptStatus::Cancelled => {
                false
            }
        }
    }

    /// Returns what is told when nobody answered (K166).
    #[must_use]
    pub fn unanswered(&self) -> String {
        format!("{} {} expired unanswered", self.kind.name(), self.id)
    }

    /// Returns what is told when somebody said no (K166).
    #[must_use]
    pub fn refused(&self) -> String {
        format!("user denied {} {}", self.kind.name(), self.id)
    }

    /// Returns when it expires by itself, while it can (K154, K160).
    #[must_use]
    pub fn due_at(&self) -> Option<Time> {
        self.expires_at.filter(|_| self.auto_expire && self.is_pending())
    }

    /// Returns what may be done if it was approved: the params of the target, or those that a
    /// reviewer put in their place (K170).
    #[must_use]
    pub fn approved_params(&self) -> Option<&Json> {
        let response = self.answer.as_ref().map(|answer| &answer.response);
        let modified = response.filter(|said| said.decision == Some(ReviewDecision::Modify));
        let modified = modified.and_then(|said| said.data.as_ref());
        modified.or_else(|| self.target.as_ref().map(|target| &target.params))
    }
}

impl InterruptKind {
    /// Says whether the answer lets something be done, or not: no silence is a yes (K151, K427).
    #[must_use]
    pub const fn asks_leave(self) -> bool {
        match self {
            Self::Confirmation | Self::AgentReview => true,
            Self::Clarification
            | Self::Checkpoint
            | Self::ResourceExhausted
            | Self::Timeout
            | Self::SystemError => false,
        }
    }

    /// Returns how sentences name one of it.
    #[must_use]
    pub fn one(self) -> String {
        let article = if self == Self::AgentReview { "an" } else { "a" };
        format!("{article} {}", self.name())
    }
}
