//! Merging outputs into the state of a session (K281).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::json::Json;
use super::pipeline::StateField;
use super::pipeline::kinds::MergeRule;

/// Returns what an output changes in the state, in the order of the schema: keys of the output that
/// the schema does not name stay in the outputs only. No list or object gets more than `entries`
/// (K25).
///
/// # Errors
///
/// Which key cannot be merged, for a person. Then nothing is: the report is OutputInvalid (K254).
pub fn state_changes<'a>(
    (schema, entries): (&[StateField], u64),
    output: &Json,
    state: impl Fn(&str) -> Option<&'a Json>,
) -> Result<Vec<(Arc<str>, Json)>, String> {
    let mut changes = Vec::new();
    for field in schema {
        if let Some(value) = output.get(&field.key) {
            let merged = merge(field.merge, state(&field.key), value);
            let merged = merged.and_then(|merged| match count(&merged) {
                count if count <= entries => Ok(merged),
                count => Err(format!("{count} entries, at most {entries}")),
            });
            let merged = merged.map_err(|told| format!("state {}: {told}", field.key))?;
            changes.push((Arc::clone(&field.key), merged));
        }
    }
    Ok(changes)
}

/// Merges `value` into what the state has under a key, by the rule of that key.
///
/// | rule | makes | of what is there |
/// |---|---|---|
/// | Replace | `value` | anything or nothing |
/// | Append | the list, and `value` or, of a list, its elements at the end | a list or nothing |
/// | MergeDict | the object with each entry of `value` set, one level deep | an object or nothing |
///
/// What is `null` counts as nothing there, and nothing as an empty list or object.
///
/// # Errors
///
/// Which type is wrong, for a person: it makes a report OutputInvalid (K254).
pub fn merge(rule: MergeRule, there: Option<&Json>, value: &Json) -> Result<Json, String> {
    let there = there.filter(|there| !there.is_null());
    match rule {
        MergeRule::Replace => Ok(value.clone()),
        MergeRule::Append => append(there, value),
        MergeRule::MergeDict => merge_dict(there, value),
    }
}

/// Counts the entries of a list or object.
fn count(json: &Json) -> u64 {
    let items = json.as_list().map(<[Json]>::len);
    items.or_else(|| json.as_object().map(|object| object.len())).unwrap_or(0) as u64
}

fn append(there: Option<&Json>, value: &Json) -> Result<Json, String> {
    let items = match there.map(|there| (there, there.as_list())) {
        None => &[],
        Some((_, Some(items))) => items,
        Some((there, None)) => {
            return Err(format!("expected an array in the state, got {}", there.type_name()));
        }
    };
    let more = value.as_list().unwrap_or(std::slice::from_ref(value));
    Ok(Json::list(items.iter().chain(more).cloned().collect()))
}

fn merge_dict(there: Option<&Json>, value: &Json) -> Result<Json, String> {
    let Some(more) = value.as_object() else {
        return Err(format!("expected an object, got {}", value.type_name()));
    };
    match there.map(|there| (there, there.as_object())) {
        None => Ok(value.clone()),
        Some((_, Some(object))) => Ok(object.with(more)),
        Some((there, None)) => {
            Err(format!("expected an object in the state, got {}", there.type_name()))
        }
    }
}
