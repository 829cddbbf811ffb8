//! Names chosen by others affect neither the terminal, the log, nor the shell of the user. Needs root.

mod common;

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Command, Output},
};

use common::{
    Cable,
    mirror::{MIRROR, Mirror, inject, mirror},
};
use mirror_lab::{aws_twin, capture};
use nix::sys::signal::Signal;

/// Clears the screen; reverses the direction of text; is an 8-bit CSI.
const NASTY: [&str; 3] = ["\x1b[2J", "\u{202e}", "\u{9b}2J"];

/// Checks that the output has no control characters, and no line that a name forged.
#[track_caller]
fn assert_plain(said: &[u8]) {
    let text = String::from_utf8(said.to_vec()).expect("UTF-8");
    let odd = |letter: &char| (letter.is_control() && *letter != '\n') || *letter == '\u{202e}';
    assert!(!text.chars().any(|letter| odd(&letter)), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{text}");
}

#[track_caller]
fn plain(output: &Output) -> String {
    assert_plain(&output.stdout);
    assert_plain(&output.stderr);
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn run_in(directory: &Path, arguments: &[&OsStr]) -> Output {
    Command::new(MIRROR).args(arguments).current_dir(directory).output().expect("mirror")
}

#[test]
fn interface_names_are_escaped_and_quoted_in_remedies() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    for (name, shown, quoted) in [
        ("\x1b[2J\x1b]0;a\x07", "\\x1b[2J\\x1b]0;a\\x07", "$'\\x1b[2J\\x1b]0;a\\x07'"),
        ("a\u{9b}\u{202e}b", "a\\x9b\\u{202e}b", "$'a\\xc2\\x9b\\xe2\\x80\\xaeb'"),
        ("e;id>x", "e;id>x", "'e;id>x'"),
        ("$(reboot)'", "$(reboot)'", "'$(reboot)'\\'''"),
    ] {
        let ip = |words: &[&str]| {
            mirror_lab::run(cable.target.command("ip").args(["link"]).args(words)).expect("ip link");
        };
        ip(&["add", "name", name, "type", "veth", "peer", "name", "other0"]);
        let command = |words: &[&str]| {
            cable.target.command(MIRROR).args(words).current_dir(path).output().expect("mirror")
        };
        let listed = plain(&command(&["-D"]));
        assert!(listed.contains(shown), "{listed}");
        let printed = plain(&command(&["doctor", "-i", name]));
        assert!(printed.contains(&format!("$ ip link set dev {quoted} up")), "{printed}");
        let printed = plain(&command(&["ingest", "-i", name, "--duration", "500ms", "-v"]));
        assert!(printed.contains(&format!("`ip link set dev {quoted} up`")), "{printed}");
        assert!(printed.contains(&format!("listening on {shown}")), "{printed}");
        let printed = plain(&command(&["ingest", "-i", name, "--queues", "7"]));
        assert!(printed.contains(&format!("`ethtool -l {quoted}`")), "{printed}");
        plain(&command(&["ingest", "-i", name, "-w", "nowhere/x"]));
        plain(&command(&["ingest", "-i", "nope0"]));
        ip(&["delete", "other0"]);
    }
}

#[test]
fn file_names_are_escaped() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let frames = aws_twin::aws_twin().expect("frames");
    for name in [&b"a\x1b[2J\nFORGED\x07.pcap"[..], b"\xff\xc2\x9b\xe2\x80\xae.pcap"] {
        let name = OsStr::from_bytes(name);
        let out = OsStr::from_bytes(&[name.as_bytes(), b"ng"].concat()).to_owned();
        capture::write_pcap(&path.join(name), &frames).expect("written");
        let word = OsStr::new;
        let replay = [
            word("replay"),
            word("-r"),
            name,
            word("-w"),
            &out,
            word("--report"),
            word("report.json"),
            word("-v"),
        ];
        let output = run_in(path, &replay);
        assert!(output.status.success(), "{output:?}");
        plain(&output);
        // A second run: all files exist.
        assert!(plain(&run_in(path, &replay)).contains("already exists"));
        // Truncated, missing, a directory, damaged; as a configuration, as facts, as the path of a socket.
        fs::write(path.join(name), [0x1b; 30]).expect("written");
        plain(&run_in(path, &[word("replay"), word("-r"), name]));
        for words in [["config", "check"], ["doctor", "--facts"]] {
            plain(&run_in(path, &[word(words[0]), word(words[1]), name]));
            plain(&run_in(path, &[word(words[0]), word(words[1]), &out]));
        }
        let nowhere = path.join("nowhere").join(name);
        plain(&run_in(
            path,
            &[word("replay"), word("-r"), word("report.json"), word("-w"), nowhere.as_os_str()],
        ));
        plain(&run_in(path, &[word("replay"), word("-r"), nowhere.as_os_str()]));
        plain(&run_in(
            path,
            &[word("replay"), word("-r"), word("x"), word("-w"), &out, word("--report"), &out],
        ));
        let command = OsStr::from_bytes(b"./none\x1b[2J\nFORGED").to_owned();
        fs::write(path.join("y"), "").expect("written");
        capture::write_pcap(&path.join("in.pcap"), &frames).expect("written");
        fs::remove_file(path.join(&out)).expect("removed");
        plain(&run_in(
            path,
            &[word("replay"), word("-r"), word("in.pcap"), word("-w"), &out, word("-z"), &command],
        ));
        fs::remove_file(path.join(&out)).expect("removed");
        fs::remove_file(path.join("report.json")).expect("removed");
    }
}

#[test]
fn flags_and_settings_are_escaped() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    for nasty in NASTY {
        for words in [
            &["ingest", "-i", "lo", "--wait", nasty][..],
            &["ingest", "-i", nasty],
            &["ingest", "-i", "lo", "--vni", nasty],
            &["replay", "-r", "x", "--forward", nasty],
            &["replay", "-r", "x", nasty],
            &[nasty],
            &["replay", "-r", "x", "-Z", nasty],
        ] {
            let output = run_in(path, &words.iter().map(OsStr::new).collect::<Vec<_>>());
            assert!(!output.status.success());
            plain(&output);
        }
        let escape: String = nasty.chars().map(|letter| format!("\\U{:08x}", u32::from(letter))).collect();
        for text in [
            format!("\"{escape}\\nFORGED\" = 1"),
            format!("wait = \"{escape}\""),
            format!("write = \"{escape}\"\nreport = \"./{escape}\""),
            format!("[[sink]]\n\"{escape}\\nFORGED\" = 1"),
            format!(
                "[[sink]]\nname = \"{escape}\\nFORGED\"\nwrite = 'x'\n[[sink]]\nname = \"{escape}\\n\
                FORGED\"\nwrite = 'y'"
            ),
            format!("filter = \"{escape}\""),
            format!("forward = \"{escape}\""),
            nasty.to_owned(),
        ] {
            fs::write(path.join("mirror.toml"), text).expect("written");
            for words in [["config", "check"], ["config", "print"]] {
                let output =
                    run_in(path, &[OsStr::new(words[0]), OsStr::new(words[1]), OsStr::new("mirror.toml")]);
                assert_plain(&output.stderr);
                assert!(!output.status.success() || nasty == "\u{202e}", "{output:?}");
            }
        }
    }
}

#[test]
fn facts_of_another_host_are_escaped() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let profile =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profiles/vxlan-devices-and-a-process.json");
    let facts = fs::read_to_string(profile).expect("facts");
    let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
    // Each escape sequence in turn.
    let mut places = Vec::new();
    texts(&facts, String::new(), &mut places);
    assert!(places.len() > 10, "{places:?}");
    for place in places {
        let mut facts = facts.clone();
        *facts.pointer_mut(&place).expect("a text") = format!("{}\nFORGED", NASTY.concat()).into();
        fs::write(path.join("facts.json"), facts.to_string()).expect("written");
        plain(&run_in(path, &["doctor", "--facts", "facts.json", "--fix"].map(OsStr::new)));
        plain(&run_in(path, &["doctor", "--facts", "facts.json"].map(OsStr::new)));
    }
}

fn texts(value: &serde_json::Value, at: String, places: &mut Vec<String>) {
    match value {
        serde_json::Value::String(_) => places.push(at),
        serde_json::Value::Array(all) => {
            all.iter().enumerate().for_each(|(nth, value)| texts(value, format!("{at}/{nth}"), places));
        }
        serde_json::Value::Object(all) => {
            all.iter().for_each(|(key, value)| texts(value, format!("{at}/{key}"), places));
        }
        _ => {}
    }
}

#[test]
fn log_lines_about_links_and_readers_are_escaped() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let mut command = mirror(&cable, directory.path(), "ingest -i cap0 --stats 1h --forward");
    command.arg("pcap-over-ip:listen=./\x1b[2J\nFORGED");
    let run = Mirror::start(command).attached(&cable);
    inject(&cable, 5);
    run.has(5);
    run.settled();
    let said = run.end_by(Signal::SIGINT).said;
    assert_plain(said.as_bytes());
    assert!(said.contains("\\x1b[2J\\nFORGED received none"), "{said}");
}
