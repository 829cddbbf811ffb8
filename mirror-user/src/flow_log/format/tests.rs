use super::*;

#[test]
fn the_default_is_version_2_in_the_sequence_of_its_table() {
    let format: Format = "default".parse().unwrap();
    assert_eq!(
        format.to_string(),
        "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} \
        ${packets} ${bytes} ${start} ${end} ${action} ${log-status}"
    );
    assert_eq!((format.version(), format), (2, Format::default()));
}

#[test]
fn select_all_is_the_alphabetical_list_of_the_console() {
    let format: Format = "select-all-v5".parse().unwrap();
    let names: Vec<_> = format.fields().iter().map(|field| field.name()).collect();
    assert_eq!(
        names.join(" "),
        "account-id action az-id bytes dstaddr dstport end flow-direction instance-id interface-id \
        log-status packets pkt-dst-aws-service pkt-dstaddr pkt-src-aws-service pkt-srcaddr protocol region \
        srcaddr srcport start sublocation-id sublocation-type subnet-id tcp-flags traffic-path type version \
        vpc-id"
    );
    assert_eq!(format.version(), 5);
    assert_eq!(format.position(Field::Bytes), Some(3));
    assert_eq!(format.position(Field::EcsTaskId), None);
}

#[test]
fn a_format_of_ones_own_is_read_in_any_spelling_and_written_as_aws_has_it() {
    let format: Format = " ${srcaddr}  ${pktDstAddr} ${tcp_flags} ".parse().unwrap();
    assert_eq!(format.to_string(), "${srcaddr} ${pkt-dstaddr} ${tcp-flags}");
    assert_eq!(format.version(), 3);
    for format in [format, Format::default(), Format::select_all_v5()] {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
}

#[test]
fn what_is_no_format_is_named_with_its_remedy() {
    for (text, expected) in [
        ("", "the format has no field; use default, select-all-v5 or fields such as '${srcaddr} ${bytes}'"),
        ("${srcaddr} ${scrport}", "unknown field \"scrport\" in the format; did you mean srcport?"),
        ("${tgw-id}", "unknown field \"tgw-id\" in the format"),
        ("${srcaddr} ${src_addr}", "the format has the field srcaddr twice; remove one"),
        (
            "srcaddr",
            "\"srcaddr\" in the format is not of the form ${field}; use default, select-all-v5 or fields \
            such as '${srcaddr} ${bytes}', quoted for the shell",
        ),
    ] {
        assert_eq!(text.parse::<Format>().unwrap_err().to_string(), expected, "{text:?}");
    }
}
