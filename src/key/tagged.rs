//! The JSON form of a choice between everything and a list.

use serde::{Deserialize, Deserializer};

/// Reads a member that may be absent, but not `null`.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    source: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(source).map(Some)
}

/// Implements the JSON form of an enum with a variant for everything and one for a list: an object with a `type` and,
/// for the list, one other member.
///
/// It is a struct with optional members rather than serde's own tagged enum, which ignores unknown members beside a
/// variant without fields. That one also reads members through a buffer, which holds no numbers in a program where any
/// crate enables `serde_json/arbitrary_precision`.
macro_rules! choice_form {
    (
        $type:ident, $form:ident, $tag:ident { $all:ident, $some:ident { $list:ident: $element:ty } },
        $value:literal, $shape:literal
    ) => {
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $form {
            r#type: $tag,
            #[serde(
                default,
                deserialize_with = "crate::key::choice::present",
                skip_serializing_if = "Option::is_none"
            )]
            $list: Option<$crate::key::NonEmpty<$element>>,
        }

        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum $tag {
            $all,
            $some,
        }

        impl TryFrom<$form> for $type {
            type Error = $crate::key::ValueError;

            fn try_from(form: $form) -> Result<Self, Self::Error> {
                match (form.r#type, form.$list) {
                    ($tag::$all, None) => Ok(Self::$all),
                    ($tag::$some, Some(list)) => Ok(Self::$some(list)),
                    _ => Err($crate::key::ValueError::malformed($value, $shape)),
                }
            }
        }

        impl From<$type> for $form {
            fn from(value: $type) -> Self {
                match value {
                    $type::$all => Self {
                        r#type: $tag::$all,
                        $list: None,
                    },
                    $type::$some(list) => Self {
                        r#type: $tag::$some,
                        $list: Some(list),
                    },
                }
            }
        }
    };
}

pub(super) use choice_form;
