//! The JSON form of an enum: an object with a `type`, and the members of that type.

use serde::{Deserialize, Deserializer};

/// Reads a member that may be absent, but not `null`.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    source: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(source).map(Some)
}

/// Implements the JSON form of an enum: an object with a `type`, the variant's name, and one member for each of its
/// fields (`0 => scopes: …` for a field without a name). A member belongs to one variant.
///
/// It is a struct with optional members rather than serde's own tagged enum, which ignores unknown members beside a
/// variant without fields. That one also reads members through a buffer, which holds no numbers in a program where any
/// crate enables `serde_json/arbitrary_precision`.
macro_rules! tagged_form {
    (
        $type:ident, $form:ident, $tag:ident {
            $( $variant:ident { $( $field:tt => $member:ident: $content:ty ),* } ),+ $(,)?
        },
        $error:expr
    ) => {
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $form {
            r#type: $tag,
            $( $(
                #[serde(
                    default,
                    deserialize_with = "crate::key::present",
                    skip_serializing_if = "Option::is_none"
                )]
                $member: Option<$content>,
            )* )+
        }

        #[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum $tag {
            $( $variant ),+
        }

        impl TryFrom<$form> for $type {
            type Error = $crate::key::ValueError;

            fn try_from(mut form: $form) -> Result<Self, Self::Error> {
                let value = match form.r#type {
                    $( $tag::$variant => Self::$variant {
                        $( $field: form.$member.take().ok_or($error)?.into(), )*
                    }, )+
                };
                let are_left = [ $( $( form.$member.is_some(), )* )+ ];
                if are_left.contains(&true) {
                    return Err($error);
                }
                Ok(value)
            }
        }

        impl From<$type> for $form {
            fn from(value: $type) -> Self {
                let mut form = Self {
                    r#type: match &value {
                        $( $type::$variant { .. } => $tag::$variant, )+
                    },
                    $( $( $member: None, )* )+
                };
                match value {
                    $( $type::$variant { $( $field: $member ),* } => {
                        $( form.$member = Some($member.into()); )*
                    } )+
                }
                form
            }
        }
    };
}

pub(crate) use tagged_form;
