//! The kinds that pipelines are made of, with their names and wire numbers (2.2).

kinds! {
    /// What a stage does.
    #[derive(Default)]
    pub enum NodeKind "node_kind" {
        /// Runs an agent.
        #[default]
        Agent = 1,
        /// Routes at once.
        Gate = 2,
        /// Opens a group of branches.
        Fork = 3,
        /// Runs an agent that chooses where to go.
        Router = 4,
    }

    /// How a pipeline runs.
    #[derive(Default)]
    pub enum RunMode "run_mode" {
        /// One stage after another, by routing.
        #[default]
        Sequential = 1,
        /// All that is ready, by dependencies (K278).
        Parallel = 2,
    }

    /// When a group has joined, or a dependency is met.
    #[derive(Default)]
    pub enum JoinStrategy "join" {
        /// When all have.
        #[default]
        All = 1,
        /// When the first has.
        First = 2,
    }

    /// What kind of failure a stage had.
    pub enum ErrorKind "error_kind" {
        /// A tool failed.
        Tool = 1,
        /// A model failed.
        Llm = 2,
        /// A policy forbids it.
        Policy = 3,
        /// The deadline passed.
        Timeout = 4,
        /// The output is not what was asked for.
        OutputInvalid = 5,
        /// The chosen target was not handed out.
        RouterInvalid = 6,
        /// The worker went away.
        WorkerLost = 7,
        /// The context does not fit.
        ContextOverflow = 8,
        /// The dispatch failed.
        Dispatch = 9,
    }

    /// What becomes of an attempt whose worker went away.
    #[derive(Default)]
    pub enum OnLost "on_lost" {
        /// It is issued again.
        #[default]
        Reissue = 1,
        /// It is a failure.
        Fail = 2,
    }

    /// How an output is merged into the state (K281).
    pub enum MergeRule "merge" {
        /// It takes the place of what was there.
        Replace = 1,
        /// It is added to a list.
        Append = 2,
        /// Its entries are set.
        MergeDict = 3,
    }

    /// What is done when a task is larger than its stage allows (K243).
    #[derive(Default)]
    pub enum ContextOverflow "context_overflow" {
        /// The stage fails.
        #[default]
        Fail = 1,
        /// The oldest outputs are left out.
        TruncateOldest = 2,
    }

    /// Which tools an agent may use.
    #[derive(Default)]
    pub enum ToolAccess "tool_access" {
        /// None.
        None = 1,
        /// Those that read.
        Read = 2,
        /// Those that write.
        Write = 3,
        /// All.
        #[default]
        All = 4,
    }

    /// What an agent's output is.
    #[derive(Default)]
    pub enum AgentOutputMode "output_mode" {
        /// An object of fields.
        #[default]
        Structured = 1,
        /// Text.
        Text = 2,
    }

    /// Whether an agent's tokens are shown as they come (K292).
    #[derive(Default)]
    pub enum TokenStreamMode "token_stream" {
        /// No.
        #[default]
        Off = 1,
        /// To who debugs.
        Debug = 2,
        /// As the output itself.
        Authoritative = 3,
    }

    /// What made a session move (K265).
    pub enum Via "via" {
        /// A rule was true.
        Rule = 1,
        /// No rule was.
        Default = 2,
        /// The stage failed.
        Error = 3,
        /// A Router chose.
        Router = 4,
        /// An interrupt was answered.
        Resume = 5,
        /// An interrupt was denied.
        Denied = 6,
        /// A group joined.
        Join = 7,
        /// A Fork opened a branch.
        Fork = 8,
        /// The session began.
        Entry = 9,
    }
}
