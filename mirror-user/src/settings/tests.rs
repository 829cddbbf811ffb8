//! Settings as files and back, merged, and with their defaults.

use proptest::{option, prelude::*, sample};

use super::*;

/// A value of any of these words, or none.
fn word<T: Word + Clone + std::fmt::Debug>(texts: &'static str) -> impl Strategy<Value = Option<Written<T>>> {
    let parse = |text: String| text.parse::<Written<T>>().ok();
    option::of(
        proptest::string::string_regex(texts).expect("an expression").prop_filter_map("no value", parse),
    )
}

/// Some of them.
fn words<T: Word + Clone + std::fmt::Debug>(texts: &'static str) -> impl Strategy<Value = Option<Many<T>>> {
    let parse = |text: String| text.parse::<Written<T>>().ok();
    let one =
        proptest::string::string_regex(texts).expect("an expression").prop_filter_map("no value", parse);
    option::of(prop::collection::vec(one, 1..4).prop_map(Many))
}

/// One of a few, or none.
fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = Option<T>> {
    option::of(sample::select(values))
}

fn flag() -> impl Strategy<Value = Option<bool>> {
    option::of(any::<bool>())
}

const NAME: &str = "[a-z0-9]{1,15}";
const TEXT: &str = "[ -~ä€\t]{1,12}";
const NUMBER: &str = "0|[1-9][0-9]{0,2}";
const LIST: &str = "[0-9]{1,4}(,[0-9]{5}|-1[0-9]{4}){0,2}";
const TARGET: &str = "(tap|veth):[a-z]{1,8}(,persist|,to-host)?|dev:[a-z]{1,8}|\
    vxlan:10\\.0\\.0\\.[1-9](:4789)?(,vni=[1-9])?|\
    pcap-over-ip:connect=127\\.0\\.0\\.1:[1-9]{4}|\
    pcap-over-ip:listen=/[a-z]{3}(,mode=0640)?";
const SOURCES: &str = "10\\.0\\.0\\.[1-9](/3[12])?(, ?2001:db8::[1-9a-f](/128)?)?";
const TIME: &str = "[1-9][0-9]?(ms|s|m|h| h 3m|\\.5)?";
const SIZE: &str = "[1-9][0-9]{0,3}[kmgKMG]?";

/// Sets each field to a value of its strategy.
macro_rules! any_of {
    ($name:ident { $($field:ident: $strategy:expr,)* }) => {{
        let settings = Just($name::default());
        $(let settings = (settings, $strategy).prop_map(|(mut settings, value)| {
            settings.$field = value;
            settings
        }).boxed();)*
        settings
    }};
}

fn any_sink() -> impl Strategy<Value = SinkSettings> {
    any_of!(SinkSettings {
        name: word(TEXT),
        required: flag(),
        write: word(TEXT),
        format: one_of(&[FileFormat::Pcapng, FileFormat::Pcap, FileFormat::PcapUs]),
        outer: flag(),
        unbuffered: flag(),
        snap: word("headers|[0-9]{1,6}"),
        file_size: word(SIZE),
        rotate_seconds: word(NUMBER),
        file_count: word(NUMBER),
        postrotate_command: word(TEXT),
        buffer_size: word("[1-9][0-9]{0,2}[mM]|[1-9]g"),
        writers: word("auto|[1-9][0-9]{0,2}"),
        per_origin: flag(),
        max_origins: word(NUMBER),
        min_free: word(SIZE),
        when_full: one_of(&[WhenFull::Wait, WhenFull::Delete, WhenFull::Stop]),
        print: flag(),
        link: flag(),
        hex: word(NUMBER),
        hexascii: word(NUMBER),
        ascii: word(NUMBER),
        timestamps: word(NUMBER),
        absolute: flag(),
        verbose: word(NUMBER),
        forward: words(TARGET),
        forward_balance: one_of(&[Balance::Copy, Balance::Flow]),
        vlan_per_vni: flag(),
        community_id: flag(),
        vnis: word(LIST),
        sources: word(SOURCES),
        filter: word(TEXT),
        outer_filter: word(TEXT),
    })
}

/// Any settings, also such as contradict each other.
fn any_settings() -> impl Strategy<Value = Settings> {
    let own = any_of!(Settings {
        interface: words(NAME),
        queues: word("all|[0-9]{1,3}|0,2-4"),
        cpus: word(LIST),
        mode: one_of(&[Mode::Auto, Mode::Native, Mode::Generic]),
        bind: one_of(&[Bind::Auto, Bind::Copy, Bind::Zerocopy]),
        wait: one_of(&[Wait::Poll, Wait::Spin, Wait::BusyPoll]),
        priority: one_of(&[Priority::Auto, Priority::Realtime, Priority::Nice, Priority::Normal]),
        destination: one_of(&[Destination::Own, Destination::Any]),
        rx_ring: word("[0-9]{1,9}"),
        read: words(TEXT),
        port: word(LIST),
        sessions: words(TEXT),
        session: words(TEXT),
        no_reassemble: flag(),
        forward_seed: word("[0-9]{1,20}"),
        json: flag(),
        report: word(TEXT),
        latency: flag(),
        relinquish_privileges: word(TEXT),
        sandbox: one_of(&[Sandbox::Auto, Sandbox::Require, Sandbox::Off]),
        command_write: words(TEXT),
        writable: words(TEXT),
        no_monitor: flag(),
        command_connect: word(LIST),
        on_output_end: one_of(&[OnOutputEnd::Stop, OnOutputEnd::Continue]),
        count: word("[0-9]{1,20}"),
        quiet: flag(),
        forward_path: one_of(&[ForwardPath::Auto, ForwardPath::Kernel, ForwardPath::User]),
        duration: word(TIME),
        stats: word(TIME),
        drain_max: word("0|[1-9][0-9]?(s|m)"),
        drain_quiet: word(TIME),
        control: word("off|[a-z][a-z0-9,]{0,15}"),
        control_group: word(NAME),
        http: word("127\\.0\\.0\\.1:[1-9]{4}|\\[::1?\\]:8080"),
        http_allow: word(SOURCES),
        health_loss: word("[1-9][0-9]?(\\.5)?%?"),
        wait_reader: word(TIME),
        sink: option::of(prop::collection::vec(any_sink(), 1..3)),
    });
    (own, any_sink()).prop_map(|(own, outputs)| own.over(outputs.into()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_settings_survive_a_file(settings in any_settings()) {
        let file = toml::to_string(&settings).expect("a file");
        let read: Settings = toml::from_str(&file).expect("settings");
        prop_assert_eq!(&read, &settings, "{}", file);
        // Also in how they were written.
        prop_assert_eq!(toml::to_string(&read).expect("a file"), file);
    }

    #[test]
    fn over_merges_key_by_key(over in any_settings(), under in any_settings()) {
        let table = |settings: &Settings| toml::Table::try_from(settings).expect("a table");
        let (merged, over_table, under_table) =
            (table(&over.clone().over(under.clone())), table(&over), table(&under));
        for key in Settings::keys() {
            prop_assert_eq!(merged.get(*key), over_table.get(*key).or(under_table.get(*key)), "{}", key);
        }
    }

    #[test]
    fn resolve_sets_defaults_of_unset_keys_only_and_is_idempotent(settings in any_settings()) {
        let resolved = settings.clone().resolve();
        prop_assert_eq!(resolved.clone().resolve(), resolved.clone());
        prop_assert_eq!(settings.clone().over(Settings::default().resolve()), resolved);
    }

    #[test]
    fn a_sink_becomes_settings_with_the_same_keys(sink in any_sink()) {
        let run = toml::Table::try_from(Settings::from(sink.clone())).expect("a table");
        for (key, value) in toml::Table::try_from(&sink).expect("a table") {
            let of_run = match key.as_str() {
                "name" | "required" => continue,
                "vnis" => "vni",
                "sources" => "source",
                key => key,
            };
            prop_assert_eq!(run.get(of_run), Some(&value), "{}", key);
        }
    }
}

#[test]
fn every_key_is_tested_with_a_value() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let (mut runner, strategy) = (TestRunner::deterministic(), any_settings());
    let mut all = Settings::default();
    for _ in 0..64 {
        all = all.over(strategy.new_tree(&mut runner).expect("settings").current());
    }
    let mut keys: Vec<_> = toml::Table::try_from(&all).expect("a table").keys().cloned().collect();
    let mut known = Settings::keys().to_vec();
    keys.sort();
    known.sort_unstable();
    assert_eq!(keys, known);
    assert_eq!(SinkSettings::keys().len(), 33);
}

#[test]
fn unknown_keys_and_invalid_values_are_refused_with_their_position() {
    for (text, expected, line) in [
        ("json = true\nprot = 1", "unknown field `prot`", 2),
        ("[[sink]]\n\nvni = 7", "unknown field `vni`", 3),
        ("\nvni = '9-'", "invalid value '9-': \"\" is not a VNI", 2),
        ("wait = 'sleep'", "invalid value 'sleep': expected one of poll, spin, busy-poll", 1),
        ("drain-max = -1", "invalid value '-1'", 1),
        ("drain-quiet = 0", "the duration must be positive", 1),
        ("control = 'a/b'", "is not a name of a run: it has a slash", 1),
        ("control = '.a'", "it starts with a dot", 1),
        ("write = ['a', 'b']", "one value is wanted, not 2", 1),
        ("forward = ['tap:a', 'tape:b']", "invalid value 'tape:b'", 1),
    ] {
        let error = toml::from_str::<Settings>(text).expect_err(text);
        assert!(error.message().contains(expected), "{text}: {error}");
        let start = error.span().expect("a position").start;
        assert_eq!(text[..start].matches('\n').count() + 1, line, "{text}: {error}");
    }
}
