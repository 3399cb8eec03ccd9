//! Names are valid, distinct, and mean one entity each.

use kwsk_model::name::Namespace;
use kwsk_translate::document::ResourceKind;
use kwsk_translate::names;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategies as any_;

fn assert_label(name: &str, longest: usize) -> Result<(), TestCaseError> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{}", name);
    prop_assert!(name.chars().all(inner) && !name.ends_with('-'), "{}", name);
    prop_assert!(name.len() <= longest, "{}", name);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_and_distinct(all in vec(any_::fqn(), 2..20)) {
        let mut locals: Vec<String> = all.iter().map(|name| name.local_name()).collect();
        // What a name becomes is a name too, and so is what it looks like.
        locals.extend(locals.clone().iter().map(|name| names::object_name(name)));
        locals.extend(locals.clone().iter().map(|name| name.to_lowercase()));
        locals.extend(locals.clone().iter().map(|name| name.replace([' ', '/', '.', '_'], "-")));
        locals.sort();
        locals.dedup();
        let mut objects: Vec<String> = locals.iter().map(|name| names::object_name(name)).collect();
        for object in &objects {
            assert_label(object, names::MAX_LENGTH)?;
        }
        objects.sort();
        objects.dedup();
        prop_assert_eq!(objects.len(), locals.len());
    }

    #[test]
    fn packaged_names_are_never_plain_ones(name in any_::fqn()) {
        let object = names::object_name(&name.local_name());
        if name.path.package.is_some() {
            prop_assert_ne!(&object, name.name.as_str());
            prop_assert_ne!(object, names::object_name(&name.local_name().replace('/', "-")));
        }
    }

    #[test]
    fn nothing_collides_with_what_knative_derives(one in any_::segment(), other in any_::segment()) {
        let one = names::object_name(&one);
        let other = names::object_name(&other);
        for suffix in ["-00001", "-00042", "-private", "-kn-channel", "-deployment", "-00001-private"] {
            prop_assert_ne!(format!("{one}{suffix}"), other.clone());
            prop_assert_ne!(format!("{one}{suffix}"), names::object_name(&format!("{one}{suffix}")));
        }
    }

    #[test]
    fn namespaces(one in any_::namespace(), other in any_::namespace()) {
        let name = names::kubernetes_namespace(&one);
        assert_label(&name, names::MAX_LENGTH)?;
        prop_assert_eq!(name == names::kubernetes_namespace(&other), one == other);
        let again = Namespace::new(name.as_str()).unwrap();
        prop_assert_eq!(names::kubernetes_namespace(&again) == name, again == one);
    }

    #[test]
    fn keys_are_unique(one in any_::fqn(), other in any_::fqn()) {
        let key = |name| names::key(ResourceKind::KService, name);
        prop_assert_eq!(key(&one) == key(&other), one == other);
        prop_assert_ne!(names::key(ResourceKind::Channel, &one), key(&one));
    }

    #[test]
    fn secrets_have_valid_names(name in any_::fqn(), digest in "[0-9a-f]{64}") {
        assert_label(&names::parameters_secret(&names::object_name(&name.local_name())), 63)?;
        assert_label(&names::code_secret(&digest), 63)?;
    }
}
