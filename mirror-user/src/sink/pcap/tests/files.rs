//! File names: hidden, final, taken, left over.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::hidden_file::HiddenFileError;

use super::*;
use crate::sink::testing::offer;

fn capture(path: &Path, frames: u32) -> Pcap {
    let pcap = Pcap::builder(Target::file(path)).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &some_frames(frames)).unwrap();
    sink.finish().unwrap();
    pcap
}

#[test]
fn a_file_is_hidden_until_complete_and_readable_by_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let pcap = capture(&path, 10);
    assert_eq!(names(dir.path()), [".out.pcapng.partial"]);
    assert_eq!(pcap.hidden_path(), Some(&*dir.path().join(".out.pcapng.partial")));
    pcap.close(&report()).unwrap();
    assert_eq!(names(dir.path()), ["out.pcapng"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_taken_name_is_refused_and_the_file_is_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    fs::write(&path, "precious").unwrap();
    let error = Pcap::builder(Target::file(&path)).build().unwrap_err();
    assert!(matches!(error, PcapError::File(HiddenFileError::Exists { .. })));
    assert!(error.to_string().ends_with("out.pcapng: already exists; remove it or choose another name"));
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(dir.path()).len()), ("precious", 1));
}

#[test]
fn a_symbolic_link_is_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    for link in ["out.pcapng", ".other.pcapng.partial"] {
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(link)).unwrap();
    }
    let error = Pcap::builder(Target::file(dir.path().join("out.pcapng"))).build().unwrap_err();
    assert!(matches!(error, PcapError::File(HiddenFileError::Exists { .. })), "{error}");
    capture(&dir.path().join("other.pcapng"), 1).close(&report()).unwrap();
    assert_eq!(names(dir.path()), [".other.pcapng.partial", "other.pcapng", "out.pcapng"]);
    assert!(!elsewhere.exists());
}

#[test]
fn a_leftover_of_another_run_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let leftover = dir.path().join(".out.pcapng.partial");
    fs::write(&leftover, "of an earlier run").unwrap();
    let pcap = capture(&dir.path().join("out.pcapng"), 5);
    let hidden = format!(".out.pcapng.{}.partial", std::process::id());
    assert_eq!(pcap.hidden_path(), Some(&*dir.path().join(hidden)));
    pcap.close(&report()).unwrap();
    assert_eq!(fs::read_to_string(leftover).unwrap(), "of an earlier run");
    assert_eq!(read(&dir.path().join("out.pcapng")).packets.len(), 5);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let pcap = capture(&path, 5);
    fs::write(&path, "precious").unwrap();
    let error = pcap.close(&report()).unwrap_err().to_string();
    assert!(error.contains("appeared meanwhile") && error.contains(".out.pcapng.partial"), "{error}");
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    assert_eq!(read(&dir.path().join(".out.pcapng.partial")).packets.len(), 5);
}

#[test]
fn the_directory_may_move_while_the_capture_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    fs::create_dir(&before).unwrap();
    let pcap = capture(&before.join("out.pcapng"), 5);
    fs::rename(&before, &after).unwrap();
    pcap.close(&report()).unwrap();
    assert_eq!(names(&after), ["out.pcapng"]);
}

#[test]
fn without_a_run_no_file_remains() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = Pcap::builder(Target::file(dir.path().join("out.pcapng"))).build().unwrap();
    assert_eq!(names(dir.path()).len(), 1);
    drop(pcap);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn an_unfinished_run_leaves_its_packets_under_the_hidden_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(capture(&dir.path().join("out.pcapng"), 5));
    assert_eq!(names(dir.path()), [".out.pcapng.partial"]);
    assert_eq!(read(&dir.path().join(".out.pcapng.partial")).packets.len(), 5);
}

#[test]
fn paths_that_cannot_be_written_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: PathBuf| Pcap::builder(Target::file(path)).build().unwrap_err();
    assert!(matches!(refused(dir.path().join("..")), PcapError::File(HiddenFileError::NoName { .. })));
    let error = refused(dir.path().join("nowhere/out.pcapng"));
    assert!(matches!(error, PcapError::File(HiddenFileError::Directory { .. })));
    assert!(error.to_string().contains("nowhere: cannot open the directory"), "{error}");
    let error = refused(dir.path().join("x".repeat(300)));
    assert!(error.to_string().contains("File name too long"), "{error}");
}
