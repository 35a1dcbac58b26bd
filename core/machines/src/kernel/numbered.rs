//! Enums with the wire numbers of 2.2: one list gives numbers, names and the binary form.

/// Declares an enum whose variants have numbers and names (2.2).
macro_rules! numbered {
    ($(
        $(#[$doc:meta])*
        $type:ident $what:literal {
            $($(#[$variant_doc:meta])* $variant:ident = $number:literal $name:literal),* $(,)?
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub enum $type {
                $($(#[$variant_doc])* $variant = $number),*
            }

            impl $type {
                /// All, in order.
                pub const ALL: &'static [Self] = &[$(Self::$variant),*];

                /// Returns the number on the wire.
                #[must_use]
                pub const fn number(self) -> u8 {
                    self as u8
                }

                /// Returns how messages and texts name it.
                #[must_use]
                pub const fn name(self) -> &'static str {
                    match self {
                        $(Self::$variant => $name),*
                    }
                }

                /// Finds the variant with a number.
                ///
                /// # Errors
                ///
                /// `bad_value` if there is none (K380).
                pub fn parse(field: &str, number: i64) -> Result<Self, $crate::kernel::Refusal> {
                    let known = Self::ALL.iter().find(|one| i64::from(one.number()) == number);
                    known.copied().ok_or_else(|| $crate::kernel::Refusal::new(
                        $crate::kernel::Code::BadValue,
                        format!("{field}: {number} is not {}", $what),
                    ))
                }
            }

            impl $crate::codec::Wire for $type {
                fn encode(&self, out: &mut Vec<u8>) {
                    out.push(self.number());
                }

                fn decode(
                    reader: &mut $crate::codec::Reader<'_>,
                ) -> Result<Self, $crate::codec::Malformed> {
                    let here = reader.clone();
                    match reader.u8()? {
                        $($number => Ok(Self::$variant),)*
                        _ => Err(here.malformed($what)),
                    }
                }
            }
        )*
    };
}

pub(crate) use numbered;
