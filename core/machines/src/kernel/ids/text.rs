//! Text that stands in place if it is short, so that comparing two ids follows no pointer.
//!
//! Ids of one time share their first 14 bytes and look-ups compare some ten of them, so the bytes
//! must be where the row is. An id that the kernel makes has 30 bytes: a prefix and a ULID.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The longest text that stands in place.
const SHORT_MAX: usize = 30;

/// Shared or copied text; equal texts have equal forms.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Text {
    /// At most [`SHORT_MAX`] bytes.
    Short(Short),
    /// More.
    Long(Arc<str>),
}

/// The text, and zeros after it.
#[derive(Clone, Copy)]
pub(super) struct Short {
    bytes: [u8; SHORT_MAX],
    length: u8,
}

impl Short {
    /// Returns three numbers that are ordered as the texts are: the first bytes, the last ones
    /// (two of the first among them), and the length, which tells zeros from none.
    #[inline]
    fn order(&self) -> (u128, u128, u8) {
        let first = self.bytes.first_chunk().expect("there are 30");
        let last = self.bytes.last_chunk().expect("there are 30");
        (u128::from_be_bytes(*first), u128::from_be_bytes(*last), self.length)
    }
}

impl PartialEq for Short {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Short {}

impl Text {
    pub(super) fn new(text: &str) -> Self {
        match u8::try_from(text.len()) {
            Ok(length) if text.len() <= SHORT_MAX => {
                let mut bytes = [0; SHORT_MAX];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Self::Short(Short { bytes, length })
            }
            Ok(_) | Err(_) => Self::Long(Arc::from(text)),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(short) => &short.bytes[..usize::from(short.length)],
            Self::Long(text) => text.as_bytes(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Short(_) => str::from_utf8(self.as_bytes()).expect("it was made of text"),
            Self::Long(text) => text,
        }
    }
}

/// As the texts.
impl Ord for Text {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Short(one), Self::Short(two)) => one.order().cmp(&two.order()),
            (Self::Short(_), Self::Long(_)) | (Self::Long(_), _) => {
                self.as_bytes().cmp(other.as_bytes())
            }
        }
    }
}

impl PartialOrd for Text {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As the text, however it stands: hashes of whole states are compared between runs.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::DefaultHasher;

    fn hash(value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn an_id_that_the_kernel_makes_stands_in_place() {
        assert!(matches!(Text::new("prc_01ARZ3NDEKTSV4RRFFQ69G5FAV"), Text::Short(_)));
        assert!(matches!(Text::new(&"x".repeat(SHORT_MAX + 1)), Text::Long(_)));
        assert_eq!(size_of::<Text>(), 32);
        assert_eq!(size_of::<Option<Text>>(), 32);
    }

    proptest! {
        #[test]
        fn text_is_ordered_equal_and_hashed_as_what_it_was_made_of(
            one in "[ab\0é]{0,40}",
            two in "[ab\0é]{0,40}",
        ) {
            let (left, right) = (Text::new(&one), Text::new(&two));
            prop_assert_eq!(left.as_str(), &*one);
            prop_assert_eq!(left.cmp(&right), one.cmp(&two));
            prop_assert_eq!(left == right, one == two);
            prop_assert_eq!(hash(&left), hash(&one));
            prop_assert_eq!(left.clone().cmp(&left), Ordering::Equal);
        }
    }
}
