//! The closing lines: those of the library, with the flags to change, and the captures that were written.

use std::fmt::Write as _;

use mirror_user::{Report, account::Origin, escape, sink::pcap::Rotator};

use crate::outputs::Capture;

/// The closing lines of a run.
pub(crate) fn lines<'c>(report: &Report, captures: impl IntoIterator<Item = &'c Capture>) -> String {
    let captures: Vec<_> = captures.into_iter().collect();
    let display_filter = |origin: &Origin| display_filter(origin, captures.first().copied());
    let mut summary = report.summary().hints(&hint).display_filter(&display_filter);
    if report.accounting.laws.is_empty() {
        summary = summary.unclosed();
    }
    let mut text = summary.to_string();
    for Capture { path, rotator, .. } in &captures {
        let completed = rotator.as_ref().map(Rotator::completed).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = match (completed.files, completed.last.as_ref().or(path.as_ref())) {
            (_, None) => Ok(()),
            (0 | 1, Some(path)) => writeln!(text, "capture: {}", escape::path(path)),
            (files, Some(last)) => writeln!(text, "captures: {files} files, the last {}", escape::path(last)),
        };
    }
    text
}

/// The flag that changes what a line reports.
fn hint(field: &str) -> Option<&'static str> {
    Some(match field {
        "passed.not_local" => "see --destination",
        "passed.no_socket" => "see --queues",
        "dropped.vni" | "rejected.vni" => "see --vni",
        "dropped.source" | "rejected.source" => "see --source",
        "rejected.not_tunnel" | "rejected.geneve" | "passed.geneve" => "see --port",
        "rejected.fragment" => "--no-reassemble",
        "oversize" => "see --mode and the MTU",
        "not_selected" => "filter, -c",
        "zero_copy" => "--bind copy",
        _ => return None,
    })
}

/// The display filter that selects an origin: by its interface in a capture of inner frames, by its tunnel
/// elsewhere.
fn display_filter(origin: &Origin, capture: Option<&Capture>) -> String {
    match capture {
        Some(Capture { outer: false, pcapng: true, .. }) => {
            format!("frame.interface_name == \"{}\"", origin.interface_name())
        }
        Some(Capture { outer: false, pcapng: false, .. }) => {
            "none, a classic pcap of inner frames does not keep it (use --format pcapng)".to_owned()
        }
        _ => origin.tunnel_filter(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(outer: bool, pcapng: bool) -> Capture {
        Capture { path: Some("a\nb.pcap".into()), rotator: None, outer, pcapng }
    }

    #[test]
    fn the_display_filter_uses_what_the_capture_keeps_of_an_origin() {
        let origin = Origin::new([10, 0, 0, 1].into(), 7, 1, 60);
        assert_eq!(
            display_filter(&origin, Some(&capture(false, true))),
            "frame.interface_name == \"vni-7@10.0.0.1\""
        );
        assert!(display_filter(&origin, Some(&capture(false, false))).starts_with("none, a classic pcap"));
        for capture in [None, Some(&capture(true, true)), Some(&capture(true, false))] {
            assert_eq!(display_filter(&origin, capture), "vxlan.vni == 7 && ip.src == 10.0.0.1");
        }
    }

    #[test]
    fn the_closing_lines_have_our_flags_and_end_with_the_captures() {
        let report = r#"{"schema": "mirror.report/1", "source": "file", "started": "",
            "frames": {"rejected": {"vni": 3}}, "accounting": {"laws": {"received": 0}}}"#;
        let mut report: Report = serde_json::from_str(report).unwrap();
        let text = lines(&report, [&capture(true, true)]);
        assert!(text.contains("  3 rejected: VNI not allowed (see --vni)\n"), "{text}");
        assert!(text.ends_with("residue 0\ncapture: a\\nb.pcap\n"), "{text}");
        // Of a process whose run another one has, the account is not closed.
        report.accounting.laws.clear();
        assert!(!lines(&report, []).contains("residue"));
    }
}
