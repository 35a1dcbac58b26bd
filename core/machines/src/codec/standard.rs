//! The binary standard form of plain types, and of structs and enums field by field.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Malformed, Reader, Wire, put_count};

macro_rules! integers {
    ($($type:ident: $take:ident),*) => {
        $(impl Wire for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.$take()
            }
        })*
    };
}

integers!(u8: u8, u16: u16, u32: u32, u64: u64);

impl Wire for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(here.malformed("0 or 1")),
        }
    }
}

impl<T: Wire, const N: usize> Wire for [T; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        for item in self {
            item.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut items = Vec::new();
        for _ in 0..N {
            items.push(T::decode(reader)?);
        }
        match items.try_into() {
            Ok(array) => Ok(array),
            Err(_) => unreachable!("N items were decoded"),
        }
    }
}

impl Wire for Arc<str> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count(1)?;
        let here = reader.clone();
        let text = str::from_utf8(reader.take(count)?).map_err(|_| here.malformed("UTF-8"))?;
        Ok(Self::from(text))
    }
}

impl Wire for String {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let text: Arc<str> = Wire::decode(reader)?;
        Ok(text.as_ref().to_owned())
    }
}

impl<T: Wire> Wire for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match bool::decode(reader)? {
            true => Some(T::decode(reader)?),
            false => None,
        })
    }
}

impl<T: Wire> Wire for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_ref().encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::decode(reader).map(Self::new)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

/// Room is made for what was decoded, never for what was claimed.
impl<T: Wire> Wire for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        for item in self {
            item.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count(1)?;
        let mut items = Self::new();
        for _ in 0..count {
            items.push(T::decode(reader)?);
        }
        Ok(items)
    }
}

impl<T: Wire> Wire for VecDeque<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        for item in self {
            item.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Vec::decode(reader).map(Self::from)
    }
}

/// Ascending, so that a map has one encoding.
impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count(1)?;
        let mut map = Self::new();
        for _ in 0..count {
            let here = reader.clone();
            let key = K::decode(reader)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(here.malformed("a key above the last one"));
            }
            map.insert(key, V::decode(reader)?);
        }
        Ok(map)
    }
}

/// Ascending, so that a set has one encoding.
impl<T: Wire + Ord> Wire for BTreeSet<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        for item in self {
            item.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count(1)?;
        let mut set = Self::new();
        for _ in 0..count {
            let here = reader.clone();
            let item = T::decode(reader)?;
            if set.last().is_some_and(|last| *last >= item) {
                return Err(here.malformed("an item above the last one"));
            }
            set.insert(item);
        }
        Ok(set)
    }
}

/// Implements [`Wire`] for a struct: its fields in the order given, which must be all of them.
#[macro_export]
macro_rules! wire_struct {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::codec::Wire for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::codec::Wire::encode($field, out);)*
            }

            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::Malformed> {
                Ok(Self { $($field: $crate::codec::Wire::decode(reader)?),* })
            }
        }
    };
}

/// Implements [`Wire`] for an enum: a tag byte, then the variant's fields in the order given.
#[macro_export]
macro_rules! wire_enum {
    ($type:ident, $expected:literal {
        $($variant:ident $({ $($field:ident),* $(,)? })? = $tag:literal),* $(,)?
    }) => {
        impl $crate::codec::Wire for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field),* })? => {
                        out.push($tag);
                        $($($crate::codec::Wire::encode($field, out);)*)?
                    })*
                }
            }

            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::Malformed> {
                let here = reader.clone();
                match reader.u8()? {
                    $($tag => Ok(Self::$variant $({
                        $($field: $crate::codec::Wire::decode(reader)?),*
                    })?),)*
                    _ => Err(here.malformed($expected)),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair {
        left: u32,
        right: Option<String>,
    }
    wire_struct!(Pair { left, right });

    #[derive(Clone, Debug, PartialEq)]
    enum Shape {
        Dot,
        Box { sides: Vec<u16>, named: BTreeMap<String, bool> },
    }
    wire_enum!(Shape, "a shape" { Dot = 1, Box { sides, named } = 2 });

    fn returns<T: Wire + PartialEq + std::fmt::Debug>(value: &T) {
        let bytes = value.to_bytes();
        assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(value));
        for cut in 0..bytes.len() {
            assert!(T::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn every_form_comes_back_and_no_cut_one_does() {
        returns(&Pair { left: 7, right: None });
        returns(&Pair { left: 7, right: Some("é".to_owned()) });
        returns(&Shape::Dot);
        let named = [("a".to_owned(), true), ("b".to_owned(), false)].into();
        returns(&Shape::Box { sides: vec![1, 2], named });
        returns(&BTreeSet::from([1_u64, 9]));
        returns(&Box::new((1_u8, [3_u8; 4])));
    }

    #[test]
    fn a_value_has_one_encoding() {
        fn refused<T: Wire + std::fmt::Debug>(bytes: &[u8]) -> (u32, &'static str) {
            let malformed = T::from_bytes(bytes).unwrap_err();
            (malformed.offset, malformed.expected)
        }
        assert_eq!(refused::<bool>(&[2]), (0, "0 or 1"));
        assert_eq!(refused::<Shape>(&[3]), (0, "a shape"));
        let twice = [2, 0, 0, 0, 5, 5];
        assert_eq!(refused::<BTreeSet<u8>>(&twice), (5, "an item above the last one"));
        let falling = [2, 0, 0, 0, 5, 0, 4, 0];
        assert_eq!(refused::<BTreeMap<u8, u8>>(&falling), (6, "a key above the last one"));
        assert_eq!(refused::<String>(&[1, 0, 0, 0, 0xff]), (4, "UTF-8"));
    }

    #[test]
    fn a_claimed_count_makes_no_room() {
        assert!(Vec::<u64>::from_bytes(&[0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }
}
