//! Commands on rates, and on the node as a whole: cleanup, drain and shutdown (sections 5
//! and 11).

use machines::kernel::housekeeping::StopMode;
use machines::kernel::ids::UserId;
use machines::kernel::quota::Limit;
use machines::kernel::rates::{Scope, ScopeConfig};
use machines::kernel::{CommandBody, Refusal};
use serde::Deserialize;

use super::{endpoint, maybe, user, word};

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Do {
    /// With `record` one hit if it is allowed; without it nothing changes (K135).
    CheckRateLimit {
        user_id: String,
        endpoint: Option<String>,
        #[serde(default)]
        record: bool,
    },
    /// Of a user or anyone, on an endpoint or any; without a configuration what was set goes.
    SetRateLimit {
        user_id: Option<String>,
        endpoint: Option<String>,
        config: Option<Rates>,
    },
    ResetRateLimits {
        user_id: String,
    },
    Cleanup {},
    Drain {
        deadline_ms: Option<u64>,
    },
    /// Drains, and ends the node; its processes go on after the next start, or end with it (K363).
    Shutdown {
        mode: Option<String>,
        deadline_ms: Option<u64>,
    },
}

/// Limits (13.3: RateLimitConfig): −1 is unlimited, what is absent is looked up further (K131).
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rates {
    requests_per_minute: Option<i64>,
    requests_per_hour: Option<i64>,
    requests_per_day: Option<i64>,
    burst_size: Option<i64>,
}

impl Do {
    pub(crate) fn body(self) -> Result<CommandBody, Refusal> {
        Ok(match self {
            Self::CheckRateLimit { user_id, endpoint: on, record } => {
                let (user, endpoint) = (user(&user_id)?, endpoint(on.as_deref())?);
                CommandBody::CheckRateLimit { user, endpoint, record }
            }
            Self::SetRateLimit { user_id, endpoint: on, config } => {
                let user = maybe(UserId::parse, "user_id", user_id.as_deref())?;
                let scope = Scope { user, endpoint: endpoint(on.as_deref())? };
                let config = config.map(Rates::config).transpose()?;
                CommandBody::SetRateLimit { scope, config }
            }
            Self::ResetRateLimits { user_id } => {
                CommandBody::ResetRateLimits { user: user(&user_id)? }
            }
            Self::Cleanup {} => CommandBody::Cleanup,
            Self::Drain { deadline_ms } => CommandBody::Drain { deadline_ms },
            Self::Shutdown { mode, deadline_ms } => {
                let named = |name: String| word("mode", StopMode::ALL, StopMode::name, &name);
                let mode = mode.map(named).transpose()?.unwrap_or(StopMode::Preserve);
                CommandBody::Shutdown { mode, deadline_ms }
            }
        })
    }
}

impl Rates {
    fn config(self) -> Result<ScopeConfig, Refusal> {
        let limit = |field: &str, value: Option<i64>| {
            value.map(|value| Limit::parse(field, value)).transpose()
        };
        Ok(ScopeConfig {
            burst: limit("config.burst_size", self.burst_size)?,
            minute: limit("config.requests_per_minute", self.requests_per_minute)?,
            hour: limit("config.requests_per_hour", self.requests_per_hour)?,
            day: limit("config.requests_per_day", self.requests_per_day)?,
        })
    }
}
