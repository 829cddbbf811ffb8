//! Frames by reason: each reason is written once.

/// Makes a struct with a counter for each reason, their sum, and a description of each; for a list of
/// variants, also the enum of the reasons and the conversion from counts by that enum.
macro_rules! tally {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* $field:ident = $words:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl $name {
            /// Sum over all reasons.
            #[must_use]
            pub fn total(&self) -> u64 {
                self.reasons().map(|(_, frames, _)| frames).sum()
            }

            /// Adds other counts, by reason.
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }

            /// Each reason: its name in the report, its frames, and its description.
            pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> {
                [$((stringify!($field), self.$field, $words)),+].into_iter()
            }
        }
    };
    (
        $(#[$enum_meta:meta])*
        pub enum $enum:ident;

        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* $variant:ident: $field:ident = $words:literal,)+
        }
    ) => {
        $(#[$enum_meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[non_exhaustive]
        pub enum $enum {
            $($(#[$doc])* $variant,)+
        }

        impl $enum {
            pub(crate) const COUNT: usize = [$(Self::$variant),+].len();
        }

        tally! {
            $(#[$meta])*
            pub struct $name {
                $(
                    #[doc = concat!("See [`", stringify!($enum), "::", stringify!($variant), "`].")]
                    $field = $words,
                )+
            }
        }

        impl From<&[u64; $enum::COUNT]> for $name {
            fn from(counts: &[u64; $enum::COUNT]) -> Self {
                Self { $($field: counts[$enum::$variant as usize],)+ }
            }
        }
    };
}

pub(super) use tally;
