//! Stable codes of errors and reasons.

/// Implements `code()` for an error or a reason: a name for each variant.
///
/// With `inside` and a prefix, it also implements `code_inside()`, the codes for errors that contain this one. After
/// `@` come variants that pass on the code of the error in them, each with the list of these codes.
macro_rules! codes {
    ($type:ty, inside $prefix:literal; $($pattern:pat => $code:literal,)*) => {
        codes! { $type; $($pattern => $code,)* }

        impl $type {
            /// Returns the code as part of an error that contains this one.
            pub(crate) fn code_inside(&self) -> &'static str {
                match self {
                    $($pattern => concat!($prefix, $code),)*
                }
            }

            #[cfg(test)]
            pub(crate) fn codes_inside() -> Vec<String> {
                vec![$(concat!($prefix, $code).to_owned()),*]
            }
        }
    };
    (
        $type:ty;
        $($pattern:pat => $code:literal,)*
        $(@ $outer:pat => $inner:expr, of $inner_codes:expr,)*
    ) => {
        impl $type {
            /// Returns a stable code in snake case, for logs, metrics and answers.
            ///
            /// A released code never changes. [Operations](crate::manual::operations#which-codes-are-there) lists all
            /// codes.
            #[must_use]
            pub fn code(&self) -> &'static str {
                match self {
                    $($pattern => $code,)*
                    $($outer => $inner,)*
                }
            }

            /// Returns the codes of all variants.
            #[cfg(test)]
            pub(crate) fn codes() -> Vec<String> {
                let own: Vec<&str> = vec![$($code),*];
                let inner: Vec<Vec<String>> = vec![$($inner_codes),*];
                let own = own.into_iter().map(str::to_owned);
                own.chain(inner.into_iter().flatten()).collect()
            }
        }
    };
}

pub(crate) use codes;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    use crate::{
        audit, clock, hashing, http, import, key, limiter, manager, random, store, verifier,
    };

    /// Lists types with their codes.
    macro_rules! types {
        ($($module:ident::$type:ident,)+) => {
            vec![$((stringify!($type), $module::$type::codes())),+]
        };
    }

    fn types() -> Vec<(&'static str, Vec<String>)> {
        let mut types = types![
            audit::ChainBreak,
            clock::ClockError,
            hashing::HashingError,
            http::KeyInError,
            http::ManagementFailure,
            http::NearMiss,
            http::RejectionReason,
            import::ImportError,
            import::LegacyError,
            key::CatalogError,
            key::DecodeError,
            key::EncodeError,
            key::FormatError,
            key::KeyTextError,
            key::RevokeReason,
            key::ValueError,
            limiter::LimiterError,
            limiter::PlanError,
            limiter::TakeError,
            manager::InvalidKey,
            manager::ManageError,
            manager::PageCursorError,
            manager::PolicyError,
            random::RandomError,
            store::StoreError,
            verifier::DenialReason,
            verifier::RequirementError,
            verifier::ResourceDenied,
        ];
        types.push(("OpenError", crate::OpenError::codes()));
        #[cfg(any(feature = "actix", feature = "http"))]
        types.push(("BodyCut", http::BodyCut::codes()));
        types
    }

    #[test]
    fn codes_are_snake_case_and_unique() {
        for (name, codes) in types() {
            let unique: BTreeSet<_> = codes.iter().collect();
            assert_eq!(unique.len(), codes.len(), "{name}: {codes:?}");
            for code in codes {
                let is_word = |word: &str| {
                    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                    !word.is_empty() && word.bytes().all(is_lower)
                };
                assert!(code.split('_').all(is_word), "{name}: {code}");
            }
        }
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_public_error_has_codes() {
        let mut files = Vec::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        sources(&root, &mut files);
        let mut errors = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            let mut is_error = false;
            for line in text.lines() {
                if line.starts_with("#[derive(") {
                    is_error = line.contains("thiserror::Error");
                }
                let item = ["pub enum ", "pub struct "];
                let name = item.iter().find_map(|item| line.strip_prefix(item));
                if let Some(name) = name.filter(|_| std::mem::take(&mut is_error)) {
                    let end = name.find(|letter: char| !letter.is_ascii_alphanumeric());
                    errors.insert(name[..end.unwrap_or(name.len())].to_owned());
                }
            }
        }
        assert!(errors.len() > 20, "{errors:?}");
        #[cfg(not(any(feature = "actix", feature = "http")))]
        errors.remove("BodyCut");
        let listed: BTreeSet<_> = types().iter().map(|(name, _)| (*name).to_owned()).collect();
        let missing: Vec<_> = errors.difference(&listed).collect();
        assert!(missing.is_empty(), "without codes: {missing:?}");
    }

    /// Returns the codes in the rows of a section of the guide: for each row the first cell, and the codes in the cell
    /// of this number.
    fn rows(heading: &str, cell: usize) -> Vec<(String, Vec<String>)> {
        let guide = include_str!("manual/operations.md");
        let (_, section) = guide.split_once(heading).unwrap();
        let section = section.split("\n# ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let quoted = |text: &str| {
            let quoted = text.split('`').skip(1).step_by(2);
            quoted.map(str::to_owned).collect::<Vec<_>>()
        };
        rows.map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (cells[1].to_owned(), quoted(cells[cell]))
        })
        .collect()
    }

    #[test]
    fn the_guide_explains_each_reason() {
        let rows = rows("# What do the reasons in my log mean?\n", 1);
        let explained: Vec<_> = rows.into_iter().flat_map(|(_, codes)| codes).collect();
        let unique: BTreeSet<_> = explained.iter().cloned().collect();
        assert_eq!(unique.len(), explained.len(), "a code is explained twice");
        let reasons = http::RejectionReason::codes().into_iter().collect();
        let drift: Vec<_> = unique.symmetric_difference(&reasons).collect();
        assert!(drift.is_empty(), "guide and reasons differ in {drift:?}");
    }

    #[test]
    fn the_guide_lists_the_other_codes() {
        let rows = rows("# Which codes are there?\n", 2).into_iter();
        let listed: BTreeMap<_, BTreeSet<_>> = rows
            .map(|(name, codes)| (name, codes.into_iter().collect()))
            .collect();
        for (name, codes) in types() {
            if matches!(name, "RejectionReason" | "DenialReason") {
                continue; // in the table of reasons
            }
            let listed = listed.get(&format!("`{name}`"));
            let listed = listed.unwrap_or_else(|| panic!("the guide does not list {name}"));
            // Nested codes are listed with their own type.
            let own: BTreeSet<_> = codes.into_iter().collect();
            let drift: Vec<_> = own.symmetric_difference(listed).collect();
            assert!(
                drift.is_empty(),
                "{name}: guide and code differ in {drift:?}"
            );
        }
    }
}
