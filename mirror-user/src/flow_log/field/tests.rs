use super::*;

#[test]
fn each_version_has_as_many_fields_as_aws_documents() {
    let up_to = |version| Field::ALL.into_iter().filter(|field| field.version() <= version).count();
    let counts: Vec<_> = (2..=11).map(up_to).collect();
    assert_eq!(counts, [14, 21, 25, 29, 29, 39, 40, 41, 42, 54]);
    assert!(Field::ALL.is_sorted_by_key(|field| field.version()));
}

#[test]
fn a_column_is_the_name_with_underscores() {
    for field in Field::ALL {
        assert_eq!(field.column(), field.name().replace('-', "_"));
    }
}

#[test]
fn every_spelling_of_a_name_finds_its_field() {
    for field in Field::ALL {
        let mut words = field.name().split('-');
        let camel: String = words
            .next()
            .into_iter()
            .map(str::to_owned)
            .chain(words.map(|word| word[..1].to_uppercase() + &word[1..]))
            .collect();
        let shouted = field.name().to_uppercase();
        let spellings = [field.name(), field.column(), &camel, &shouted, &format!("${{{field}}}")];
        for spelling in spellings {
            assert_eq!(Field::named(spelling), Some(field), "{spelling}");
        }
    }
    assert_eq!(Field::named("srcAddr"), Some(Field::SrcAddr));
    for other in ["", "-", "tgw-id", "${srcaddr", "srcaddr}", "src addr", "packets-lost-blackhole"] {
        assert_eq!(Field::named(other), None, "{other}");
    }
}

#[test]
fn numbers_have_the_types_of_the_files_of_aws() {
    let of = |kind| Field::ALL.into_iter().filter(move |field| field.kind() == kind).map(Field::name);
    let small: Vec<_> = of(Kind::Int32).collect();
    let expected =
        ["version", "srcport", "dstport", "protocol", "tcp-flags", "traffic-path", "encryption-status"];
    assert_eq!(small, expected);
    assert_eq!(of(Kind::Int64).collect::<Vec<_>>(), ["packets", "bytes", "start", "end"]);
}

#[test]
fn a_misspelt_name_is_near_to_the_field_that_was_meant() {
    assert_eq!(Field::nearest("scraddr"), Some(Field::SrcAddr));
    assert_eq!(Field::nearest("interfaceid2"), Some(Field::InterfaceId));
    assert_eq!(Field::nearest("tcp-flag"), Some(Field::TcpFlags));
    assert_eq!(Field::nearest("user-agent"), None);
    assert_eq!(Field::nearest(""), None);
}

#[test]
fn a_distance_counts_changed_letters() {
    for (from, to, expected) in [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3)] {
        assert_eq!(distance(from.as_bytes(), to.as_bytes()), expected);
    }
}
