//! What goes into the bus and what comes out of it (K300–K309).

use std::fmt;
use std::sync::Arc;

use super::pattern::Pattern;
use crate::kernel::ids::{MessageType, SubscriptionId, UserId};
use crate::kernel::principal::Principal;
use crate::kernel::refusal::Refusal;
use crate::kernel::time::{Millis, Time};

/// What a message carries: opaque here, canonical JSON elsewhere (K24).
pub type Payload = Arc<[u8]>;

/// A connection with the node; the driver numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A question to the bus; the driver's, and no two unanswered ones are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A subscription; counted from 1, and no number comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionNumber(pub u64);

impl SubscriptionNumber {
    /// Returns the id as callers know it, in the form of a minted one (K20).
    ///
    /// # Panics
    ///
    /// Never: digits make an id.
    #[must_use]
    pub fn id(self) -> SubscriptionId {
        let id = SubscriptionId::parse("subscription_id", &self.to_string());
        id.expect("digits make an id")
    }
}

impl fmt::Display for SubscriptionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sub_{:026}", self.0)
    }
}

/// What the node keeps for itself among the message types (K301).
pub const NODE_PREFIX: &str = "lockstep.";

impl MessageType {
    /// Tells whether it is the node's own (K301).
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.as_str().starts_with(NODE_PREFIX)
    }
}

impl Principal {
    /// Tells whether it may address everyone (K302).
    #[must_use]
    pub const fn reaches_all(&self) -> bool {
        self.is_operator() || self.is_node()
    }
}

/// A call to a handler, which the reply quotes (K305); counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CorrelationId(pub u64);

/// What kind of message (K301); the wire numbers are those of 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Any number of subscribers.
    Event = 1,
    /// One handler.
    Command = 2,
    /// One handler, and an answer.
    Query = 3,
}

impl Category {
    /// The field of a request that names the type of such a message.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Event => "event_type",
            Self::Command => "command_type",
            Self::Query => "query_type",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event => "event",
            Self::Command => "command",
            Self::Query => "query",
        })
    }
}

/// What a full queue does (K306).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Loses its oldest message, and says so.
    #[default]
    DropOldest = 1,
    /// Ends the subscription.
    Disconnect = 2,
}

/// A message, shared by all whom it reaches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Its number on this bus, over all categories; only ever grows.
    pub seq: u64,
    /// Event, command or query.
    pub category: Category,
    /// What it is about.
    pub kind: MessageType,
    /// What it says.
    pub payload: Payload,
    /// Its publisher's user (K302).
    pub by: UserId,
    /// Whether it reaches the subscriptions and handlers of every user.
    pub to_all: bool,
    /// When the bus took it.
    pub at: Time,
}

/// Messages of one subscription that it did not get, both ends included (K306).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// What a subscription gets next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// A message.
    Message {
        /// Its number in this subscription, from 1.
        number: u64,
        /// The message.
        message: Arc<Message>,
        /// What a reply must quote, if it is a command or query.
        correlation: Option<CorrelationId>,
    },
    /// The place of messages that are lost.
    Gap(Gap),
}

/// A command or query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The caller's question.
    pub call: CallId,
    /// Who asks.
    pub by: Principal,
    /// What of.
    pub kind: MessageType,
    /// With what.
    pub payload: Payload,
    /// How long to wait for the answer, if not as long as is usual (K305).
    pub timeout: Option<Millis>,
}

/// A wish to hear messages, or to handle them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscribe {
    /// The caller's question.
    pub call: CallId,
    /// Who.
    pub by: Principal,
    /// The connection that it ends with.
    pub connection: ConnectionId,
    /// Events of these types.
    pub types: Vec<Pattern>,
    /// Commands and queries of these types.
    pub handles: Vec<MessageType>,
    /// What a full queue does.
    pub overflow: Overflow,
}

/// Who replies to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replier {
    /// A handler bound in the node's process.
    InProcess,
    /// A subscription of this connection.
    Connection(ConnectionId),
}

/// What the bus is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Take an event; answered by [`Output::Published`].
    Publish {
        /// The caller's question.
        call: CallId,
        /// Who publishes.
        by: Principal,
        /// What about.
        kind: MessageType,
        /// What it says.
        payload: Payload,
        /// Whether everyone shall hear it; only an operator may ask so.
        to_all: bool,
    },
    /// Take a command; answered by [`Output::Answered`].
    Send(Ask),
    /// Take a query; answered by [`Output::Answered`].
    Query(Ask),
    /// The caller of a command or query waits no longer, and gets no answer.
    GiveUp(CallId),
    /// A handler has answered.
    Reply {
        /// Who.
        from: Replier,
        /// What.
        correlation: CorrelationId,
        /// Its answer, or its own error.
        result: Result<Payload, String>,
    },
    /// Handle a type in the node's process; answered by [`Output::Bound`].
    Bind {
        /// The caller's question.
        call: CallId,
        /// Which type.
        kind: MessageType,
    },
    /// The node's process handles a type no longer. Repeatable.
    Unbind(MessageType),
    /// Subscribe; answered by [`Output::Subscribed`].
    Subscribe(Subscribe),
    /// End a subscription. Repeatable.
    Unsubscribe(SubscriptionNumber),
    /// A connection has ended, and all that belongs to it.
    Disconnected(ConnectionId),
    /// A subscription's connection can take so many more items.
    Pull {
        /// Which.
        subscription: SubscriptionNumber,
        /// How many more.
        credit: u32,
    },
    /// Close the breaker of a type, or of all types. The driver lets only operators ask (K370).
    ResetBreaker(Option<MessageType>),
    /// Drop all subscriptions, handlers, calls and breakers. For operators only, too.
    Clear,
}

/// What became of an event (K303).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Its number on this bus.
    pub seq: u64,
    /// How many subscriptions have it now, or in their queue.
    pub delivered: u32,
    /// How many messages subscriptions lost by it.
    pub dropped: u32,
}

/// What a handler said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It is done; a query's answer comes with it.
    Success(Option<Payload>),
    /// The handler's own error.
    Failure(String),
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It was asked to.
    Unsubscribed,
    /// Its connection ended.
    Disconnected,
    /// Its queue was full: refused `slow_subscriber` (K306).
    SlowSubscriber,
    /// All were cleared.
    Cleared,
}

/// What the bus wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Answers [`Input::Publish`].
    Published {
        /// The question.
        call: CallId,
        /// What became of the event.
        result: Result<Receipt, Refusal>,
    },
    /// Answers [`Input::Send`] and [`Input::Query`].
    Answered {
        /// The question.
        call: CallId,
        /// What the handler said.
        result: Result<Answer, Refusal>,
    },
    /// Answers [`Input::Bind`].
    Bound {
        /// The question.
        call: CallId,
        /// Whether the node's process handles the type now.
        result: Result<(), Refusal>,
    },
    /// Answers [`Input::Subscribe`].
    Subscribed {
        /// The question.
        call: CallId,
        /// The new subscription.
        result: Result<SubscriptionNumber, Refusal>,
    },
    /// Give a subscription's connection its next item.
    Deliver {
        /// Which connection.
        connection: ConnectionId,
        /// Which of its subscriptions.
        subscription: SubscriptionNumber,
        /// What.
        item: Item,
    },
    /// A subscription has ended.
    Ended {
        /// Which connection's.
        connection: ConnectionId,
        /// Which.
        subscription: SubscriptionNumber,
        /// Why.
        cause: Cause,
        /// What it did not get.
        gap: Option<Gap>,
    },
    /// Call the handler in the node's process, and hand in its reply.
    Invoke {
        /// What the reply must quote.
        correlation: CorrelationId,
        /// The command or query.
        message: Arc<Message>,
        /// When a reply is late.
        until: Time,
    },
    /// A middleware has something to say.
    Note {
        /// Which.
        middleware: &'static str,
        /// What.
        text: String,
    },
}
