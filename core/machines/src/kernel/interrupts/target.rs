//! What an approval is for, and the hash by which one knows that it is still the same (K168).

use std::sync::Arc;

use crate::kernel::expression::FieldRef;
use crate::kernel::ids::ProcessId;
use crate::kernel::json::Json;
use crate::kernel::state::State;
use crate::wire_struct;

/// The domain of a target's hash (K168).
const DOMAIN: &str = "lockstep.interrupt.target.v1";

/// The hash of a target, with the values of what it binds (K168).
pub type TargetHash = [u8; 32];

/// What is to be done, with the values that were shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// What.
    pub action: Arc<str>,
    /// With what.
    pub params: Json,
    /// What must not change meanwhile.
    pub binds: Vec<FieldRef>,
    /// Of all this and the values of the bound fields when it was shown.
    pub hash: TargetHash,
}

wire_struct!(Target { action, params, binds, hash });

/// Hashes canonical JSON `{pid, action, params, binds: [[field, value or null]…]}` with BLAKE3 in
/// its key-derivation mode, the domain being the context (K168).
#[must_use]
pub fn target_hash(
    pid: &ProcessId,
    action: &str,
    params: &Json,
    binds: &[(FieldRef, Option<Json>)],
) -> TargetHash {
    use crate::kernel::json::document::Document;

    let bound = binds.iter().map(|(field, value)| {
        Json::list(vec![field.written(), value.clone().unwrap_or(Json::NULL)])
    });
    let shown = Json::object([
        ("pid", Json::from(pid.as_str())),
        ("action", Json::from(action)),
        ("params", params.clone()),
        ("binds", Json::list(bound.collect())),
    ]);
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    shown.write(&mut hasher);
    *hasher.finalize().as_bytes()
}

impl State {
    /// Hashes a target over the current values of what it binds (K169, K170).
    pub(in crate::kernel) fn target_now(
        &self,
        pid: &ProcessId,
        action: &str,
        params: &Json,
        binds: &[FieldRef],
    ) -> TargetHash {
        let value = |field: &FieldRef| (field.clone(), self.field(pid, field));
        let binds: Vec<_> = binds.iter().map(value).collect();
        target_hash(pid, action, params, &binds)
    }
}
