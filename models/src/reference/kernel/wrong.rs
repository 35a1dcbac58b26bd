//! Mistakes on purpose: each must be noticed (K420 and following, last column).

/// One mistake of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// An amount that just fits does not (K101).
    LimitOffByOne,
    /// The newest goes first (K70).
    Lifo,
    /// Strict priority (K71).
    NoAgeing,
    /// One user is served until it has no more (K72).
    NoTurns,
    /// A served user keeps its place when it comes back (K72).
    OldTurn,
    /// A reservation whose lease ends is released (K107).
    ChargeNothingAtExpiry,
    /// A process that becomes Zombie forgets what it held (K122).
    ForgetHoldAtZombie,
    /// Use is not charged to ancestors (K102).
    NoRollUp,
    /// A removed ancestor hides those above it (K102).
    StopAtRemovedAncestor,
    /// Every charge above the soft limit warns (K113).
    WarnTwice,
    /// A raised limit stays silent (K113, K114).
    RaiseDoesNotArm,
    /// What was used beyond the reservation is not counted as unreserved (K105).
    ForgetExcess,
    /// Time in the queue counts (K111).
    QueueTimeCounts,
    /// The pause before a start counts (K11).
    PauseCounts,
    /// Children outlive their parent (K84).
    OrphansLive,
    /// Siblings end in reverse order (K84).
    SiblingsReversed,
    /// A clock that goes back takes time with it (K7).
    ClockUnclamped,
    /// Leases end before timeouts of the same time (K10).
    KindsReversed,
    /// A lease is renewed by every command (K78).
    RenewAlways,
    /// A lease is never renewed (K78).
    RenewNever,
    /// A second settlement is taken (K108).
    SettleTwice,
    /// Who reserved cannot settle once somebody else runs the process (K27, K105).
    ReserverForgotten,
    /// A record is taken again (K109).
    RecordTwice,
    /// A repeated submit makes a second process (K63).
    SubmitAgain,
    /// A Waiting process cannot be woken (section 3).
    NoWaking,
    /// Who is not heard agrees (K151, K427).
    YesBySilence,
    /// Any second answer is taken (K155, K422).
    SecondAnswer,
    /// The last answer wakes nobody (K159, K426).
    ForgetWake,
    /// A held process can be claimed (K62).
    HeldRuns,
    /// An approval is for anything (K170, K441).
    AnyParams,
    /// A window has 49 slots (K132, K431).
    FewerSlots,
    /// Half of an odd number of slots is rounded down (K194).
    HalfRoundsDown,
    /// A slot that is given back stays taken (K196, K432).
    SlotsLeak,
    /// Work that goes on does not keep a service healthy (K195).
    WorkIsNoReport,
    /// Load does not matter among the services of a type (K202).
    AnyOfType,
    /// A repeated dispatch is another one (K200).
    DispatchAgain,
    /// The newest dispatch goes first (K203).
    NewestDispatch,
    /// A slot is held until the next try (K203, K209).
    PauseHoldsSlot,
    /// Whatever is told of a try that ended is taken (K206, K433).
    OldLease,
    /// One more retry than allowed (K209).
    OneMoreRetry,
    /// A lost try counts as a failure (K210).
    LostIsFailure,
    /// What a try of an inference took is given back (K212).
    TriesAreFree,
    /// A node that drains takes on new work (K362).
    DrainTakesOn,
    /// And starts what waits (K362).
    DrainStarts,
    /// A stop that terminates leaves processes as they are (K363).
    StopSpares,
    /// A patch of an old version is taken (K31).
    AnyVersion,
    /// Null does not delete (K31).
    NullStays,
    /// A copy has the version of what it is of (K34).
    CopyKeepsVersion,
    /// Lists keep 1,025 entries (K30).
    OneMoreKept,
    /// One more retry of a stage than its policy has (K269).
    RetryTooMany,
    /// A group joins when its first branch is done (K276).
    JoinBeforeAll,
    /// What branches made is merged as it arrived (K277).
    MergeByArrival,
    /// The last rule that is true is the first branch (K274).
    BranchesReversed,
    /// Who was not first goes on (K276).
    LosersGoOn,
    /// An edge may be taken once more than its limit (K265).
    EdgeOnceMore,
    /// Back edges are not counted (K265).
    IterationsUncounted,
    /// A move after a failure is not checked (K439).
    ErrorUnchecked,
    /// What an attempt held stays held when it is reported (K251).
    HoldKept,
    /// A reservation for an attempt is held anew (K104).
    HoldNotDrawn,
    /// An attempt that nobody reports costs nothing (K270, K272).
    GivenUpIsFree,
    /// A session may call models as often as its process (K102).
    CallsOfSessionUncounted,
    /// The last rule that is true is followed (K261).
    LastRuleFirst,
    /// The default is followed before any rule (K261).
    DefaultFirst,
    /// What is missing is not equal, and so Neq (K263).
    MissingDiffers,
    /// A report of an attempt that was superseded is taken (K250).
    LateReportTaken,
    /// A lost attempt counts as a failure (K272).
    LossIsFailure,
    /// Each try costs a hop (K267).
    HopPerTry,
    /// Each poll issues again (K242, K424).
    PollIssues,
    /// After an answer the session begins again (K165, K438).
    ResumeAtFirst,
    /// What was bound may change (K169).
    BindsForgotten,
    /// Anybody may patch what a session works on (K32).
    EnvelopeUnowned,
}

impl Wrong {
    /// All.
    pub const ALL: [Self; 71] = [
        Self::LimitOffByOne,
        Self::Lifo,
        Self::NoAgeing,
        Self::NoTurns,
        Self::OldTurn,
        Self::ChargeNothingAtExpiry,
        Self::ForgetHoldAtZombie,
        Self::NoRollUp,
        Self::StopAtRemovedAncestor,
        Self::WarnTwice,
        Self::RaiseDoesNotArm,
        Self::ForgetExcess,
        Self::QueueTimeCounts,
        Self::PauseCounts,
        Self::OrphansLive,
        Self::SiblingsReversed,
        Self::ClockUnclamped,
        Self::KindsReversed,
        Self::RenewAlways,
        Self::RenewNever,
        Self::SettleTwice,
        Self::ReserverForgotten,
        Self::RecordTwice,
        Self::SubmitAgain,
        Self::NoWaking,
        Self::YesBySilence,
        Self::SecondAnswer,
        Self::ForgetWake,
        Self::HeldRuns,
        Self::AnyParams,
        Self::FewerSlots,
        Self::HalfRoundsDown,
        Self::SlotsLeak,
        Self::WorkIsNoReport,
        Self::AnyOfType,
        Self::DispatchAgain,
        Self::NewestDispatch,
        Self::PauseHoldsSlot,
        Self::OldLease,
        Self::OneMoreRetry,
        Self::LostIsFailure,
        Self::TriesAreFree,
        Self::DrainTakesOn,
        Self::DrainStarts,
        Self::StopSpares,
        Self::AnyVersion,
        Self::NullStays,
        Self::CopyKeepsVersion,
        Self::OneMoreKept,
        Self::RetryTooMany,
        Self::JoinBeforeAll,
        Self::MergeByArrival,
        Self::BranchesReversed,
        Self::LosersGoOn,
        Self::EdgeOnceMore,
        Self::IterationsUncounted,
        Self::ErrorUnchecked,
        Self::HoldKept,
        Self::HoldNotDrawn,
        Self::GivenUpIsFree,
        Self::CallsOfSessionUncounted,
        Self::LastRuleFirst,
        Self::DefaultFirst,
        Self::MissingDiffers,
        Self::LateReportTaken,
        Self::LossIsFailure,
        Self::HopPerTry,
        Self::PollIssues,
        Self::ResumeAtFirst,
        Self::BindsForgotten,
        Self::EnvelopeUnowned,
    ];
}
