//! Names: everything in the grammar is accepted and printed as it was, everything next to it is not.

use kwsk_model::name::{EntityName, FullyQualifiedEntityName, NAME_MAX_LENGTH, NameError, Namespace};
use proptest::prelude::*;

use crate::strategies as any_;

/// Upstream's `\A([\w]|[\w][\w@ .&-]{0,254}[\w@.&-])\z`, spelt out once more.
fn is_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let tail = |c: char| word(c) || "@.&-".contains(c);
    let chars: Vec<char> = text.chars().collect();
    match chars.as_slice() {
        [] => false,
        [only] => word(*only),
        [first, middle @ .., last] => {
            word(*first) && tail(*last) && middle.len() <= 254 && middle.iter().all(|c| tail(*c) || *c == ' ')
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_grammar_is_accepted(text in any_::segment()) {
        prop_assert!(is_name(&text));
        let name = EntityName::new(text.as_str()).unwrap();
        prop_assert_eq!(name.as_str(), &text);
        prop_assert_eq!(serde_json::from_str::<EntityName>(&serde_json::to_string(&name).unwrap()).unwrap(), name);
    }

    #[test]
    fn near_misses_are_refused(text in "[-A-Za-z0-9_@ .&/$?|+é\n]{0,6}") {
        prop_assert_eq!(EntityName::new(text.as_str()).is_ok(), is_name(&text), "{:?}", text);
        prop_assert_eq!(Namespace::new(text.as_str()).is_ok(), is_name(&text), "{:?}", text);
    }

    #[test]
    fn length_is_refused_first(text in ".{257,270}") {
        let length = text.chars().count();
        prop_assert_eq!(EntityName::new(text.as_str()), Err(NameError::EntityTooLong(length)));
        prop_assert_eq!(Namespace::new(text), Err(NameError::NamespaceTooLong(length)));
        prop_assert!(length > NAME_MAX_LENGTH);
    }

    #[test]
    fn full_names(name in any_::fqn()) {
        for text in [name.to_string(), name.with_slash()] {
            prop_assert_eq!(text.parse::<FullyQualifiedEntityName>().unwrap(), name.clone());
        }
        let own = name.namespace().clone();
        prop_assert_eq!(FullyQualifiedEntityName::from_local_name(own.clone(), &name.local_name()).unwrap(), name.clone());
        prop_assert_eq!(name.resolve(&Namespace::new("other").unwrap()).namespace() == &own, own.as_str() != "_");
    }
}
