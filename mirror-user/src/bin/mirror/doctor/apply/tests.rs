//! `--apply` and `--undo` on a host in memory, which can be killed at each change.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use mirror_user::host::{
    HostError,
    settings::{Setting, Sysctl},
};

use super::{
    super::{record::RECORD, undo::undo},
    *,
};

const SYSCTLS: &str = "/etc/sysctl.d/60-mirror.conf";
const DROP_IN: &str = "/etc/systemd/system/mirror.service.d/60-host.conf";

#[derive(Clone, Default)]
struct Fake {
    settings: HashMap<Setting, String>,
    files: BTreeMap<String, String>,
    /// Those that the kernel refuses.
    refused: Vec<Setting>,
    /// The most huge pages that there are.
    most: Option<u64>,
    /// It is killed before the change with this number.
    killed_at: Option<usize>,
    changes: Cell<usize>,
}

impl Fake {
    fn change(&self) {
        let made = self.changes.get();
        assert_ne!(self.killed_at, Some(made), "killed");
        self.changes.set(made + 1);
    }

    fn state(&self) -> (HashMap<Setting, String>, BTreeMap<String, String>) {
        (self.settings.clone(), self.files.clone())
    }
}

impl System for Fake {
    fn read(&self, setting: &Setting) -> Result<Option<String>, HostError> {
        Ok(self.settings.get(setting).cloned())
    }

    fn write(&mut self, setting: &Setting, value: &str) -> Result<(), HostError> {
        self.change();
        if self.refused.contains(setting) {
            let source = io::Error::from_raw_os_error(libc::EBUSY);
            return Err(HostError::Setting { setting: setting.to_string(), value: value.to_owned(), source });
        }
        let most = self.most.filter(|_| *setting == pages()).map(|most| most.to_string());
        self.settings.insert(setting.clone(), most.unwrap_or_else(|| value.to_owned()));
        Ok(())
    }

    fn file(&self, path: &str) -> anyhow::Result<Option<String>> {
        Ok(self.files.get(path).cloned())
    }

    fn replace(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        self.change();
        self.files.insert(path.to_owned(), text.to_owned());
        Ok(())
    }

    fn remove(&mut self, path: &str) -> anyhow::Result<()> {
        self.change();
        self.files.remove(path).map(drop).context("no such file")
    }
}

fn pages() -> Setting {
    Setting::Sysctl { name: Sysctl::NrHugepages }
}

fn mtu() -> Setting {
    Setting::Mtu { interface: "ens6".to_owned() }
}

fn ring() -> Setting {
    Setting::RxRing { interface: "ens6".to_owned() }
}

fn wanted() -> Vec<Kept> {
    vec![
        Kept::of(pages(), "68", SYSCTLS.to_owned()),
        Kept::of(mtu(), "3498", DROP_IN.to_owned()),
        Kept::of(ring(), "16384", DROP_IN.to_owned()),
    ]
}

fn host() -> Fake {
    let settings = [(pages(), "0"), (mtu(), "9001"), (ring(), "1024")];
    Fake {
        settings: settings.map(|(setting, value)| (setting, value.to_owned())).into(),
        files: [("/etc/hostname".to_owned(), "h".to_owned())].into(),
        ..Fake::default()
    }
}

fn states(outcome: &Outcome) -> Vec<SettingState> {
    outcome.settings.iter().map(|one| one.state).collect()
}

#[test]
fn what_is_applied_is_set_kept_and_recorded_and_undo_puts_it_back() {
    let mut host = host();
    let before = host.state();
    let outcome = apply(&mut host, &wanted(), "t1").unwrap();
    assert_eq!(states(&outcome), [SettingState::Set; 3]);
    assert_eq!(host.settings[&mtu()], "3498");
    assert!(host.files[SYSCTLS].contains("\nvm.nr_hugepages = 68\n"), "{:?}", host.files);
    assert!(host.files[DROP_IN].contains("mtu 3498\n") && host.files[DROP_IN].contains("rx 16384\n"));
    let record: serde_json::Value = serde_json::from_str(&host.files[RECORD]).unwrap();
    assert_eq!(record["schema"], "mirror.applied/1");
    assert_eq!(
        record["changes"][1],
        serde_json::json!({
            "setting": "mtu", "interface": "ens6", "before": "9001", "set": "3498", "wanted": "3498",
            "time": "t1", "file": DROP_IN
        })
    );
    let outcome = undo(&mut host).unwrap();
    assert_eq!(states(&outcome), [SettingState::Restored; 3]);
    assert_eq!(host.state(), before);
    let outcome = undo(&mut host).unwrap();
    assert!(outcome.settings.is_empty() && outcome.files.is_empty());
}

#[test]
fn the_value_before_the_first_change_is_kept_and_files_grow() {
    let mut host = host();
    let before = host.state();
    apply(&mut host, &wanted()[..2], "t1").unwrap();
    // What is right already is no finding any more, and stays in the files.
    apply(&mut host, &wanted()[2..], "t2").unwrap();
    assert!(host.files[DROP_IN].contains("mtu 3498\n") && host.files[DROP_IN].contains("rx 16384\n"));
    // After a boot, and with another value.
    host.settings.insert(mtu(), "1500".to_owned());
    let other = Kept::of(mtu(), "3050", DROP_IN.to_owned());
    apply(&mut host, &[other], "t3").unwrap();
    assert!(host.files[DROP_IN].contains("mtu 3050\n") && !host.files[DROP_IN].contains("mtu 3498\n"));
    let files = host.files.clone();
    apply(&mut host, &[], "t4").unwrap();
    assert_eq!(host.files, files);
    undo(&mut host).unwrap();
    assert_eq!(host.state(), before);
}

#[test]
fn settings_and_files_that_others_have_changed_since_are_left() {
    let mut host = host();
    apply(&mut host, &wanted(), "t1").unwrap();
    host.settings.insert(mtu(), "1500".to_owned());
    host.settings.remove(&ring());
    host.files.get_mut(DROP_IN).unwrap().push_str("# mine\n");
    let refused = apply(&mut host, &wanted(), "t2").unwrap_err().to_string();
    assert!(refused.contains(DROP_IN) && refused.contains("mv "), "{refused}");
    assert_eq!(host.settings[&mtu()], "1500", "nothing was changed");
    let outcome = undo(&mut host).unwrap();
    assert_eq!(states(&outcome), [SettingState::Gone, SettingState::Left, SettingState::Restored]);
    assert_eq!(host.settings[&mtu()], "1500");
    let files: Vec<_> = host.files.keys().map(String::as_str).collect();
    assert_eq!(files, ["/etc/hostname", DROP_IN]);
}

#[test]
fn a_file_of_somebody_else_is_not_replaced_and_one_with_the_same_text_is_taken_over() {
    let mut host = host();
    host.files.insert(SYSCTLS.to_owned(), "vm.nr_hugepages = 5\n".to_owned());
    let before = host.state();
    apply(&mut host, &wanted(), "t1").unwrap_err();
    assert_eq!(host.state(), before);
    let printed = fix::files(&wanted()).swap_remove(0).text;
    host.files.insert(SYSCTLS.to_owned(), printed);
    apply(&mut host, &wanted(), "t1").unwrap();
    undo(&mut host).unwrap();
    assert!(!host.files.contains_key(SYSCTLS));
}

#[test]
fn a_setting_that_is_refused_is_in_no_file_and_not_recorded() {
    let mut host = host();
    host.refused = vec![mtu()];
    let outcome = apply(&mut host, &wanted(), "t1").unwrap();
    assert_eq!(states(&outcome), [SettingState::Set, SettingState::Failed, SettingState::Set]);
    assert!(outcome.to_string().contains("ens6: MTU: cannot be set to 3498"), "{outcome}");
    assert!(!outcome.is_complete());
    assert!(!host.files[DROP_IN].contains("mtu") && !host.files[RECORD].contains("mtu"));
}

#[test]
fn what_cannot_be_put_back_stays_recorded() {
    let mut host = host();
    let before = host.state();
    apply(&mut host, &wanted(), "t1").unwrap();
    host.refused = vec![mtu()];
    let outcome = undo(&mut host).unwrap();
    assert!(!outcome.is_complete() && host.files.contains_key(RECORD));
    host.refused.clear();
    assert_eq!(states(&undo(&mut host).unwrap()), [SettingState::Restored]);
    assert_eq!(host.state(), before);
}

#[test]
fn fewer_huge_pages_than_asked_for_are_put_back_too() {
    let mut host = host();
    let before = host.state();
    host.most = Some(40);
    let outcome = apply(&mut host, &wanted(), "t1").unwrap();
    assert_eq!(outcome.settings[0].value, "40");
    assert!(host.files[SYSCTLS].contains("vm.nr_hugepages = 68"), "after a boot there may be more");
    host.most = None;
    undo(&mut host).unwrap();
    assert_eq!(host.state(), before);
}

/// Kills a call before each of its changes, and checks what an undo makes of it; returns how many there were.
fn killed_at_each(prepared: &Fake, before: &Fake, call: impl Fn(&mut Fake)) -> usize {
    for at in 0.. {
        let mut host = prepared.clone();
        host.changes.set(0);
        host.killed_at = Some(at);
        let ended = catch_unwind(AssertUnwindSafe(|| call(&mut host)));
        host.killed_at = None;
        undo(&mut host).unwrap();
        assert_eq!(host.state(), before.state(), "killed before change {at}");
        if ended.is_ok() {
            return at;
        }
    }
    unreachable!("a call has an end")
}

#[test]
fn a_call_that_is_killed_at_any_step_can_be_undone() {
    let before = host();
    let all = |host: &mut Fake| drop(apply(host, &wanted(), "t1").unwrap());
    // The record before each change, the change, the record after it; a new file needs none after it.
    assert_eq!(killed_at_each(&before, &before, all), 3 * 3 + 2 * 2);
    let mut applied = before.clone();
    all(&mut applied);
    let others = |host: &mut Fake| {
        let other = [Kept::of(mtu(), "3050", DROP_IN.to_owned())];
        drop(apply(host, &other, "t2").unwrap());
    };
    assert_eq!(killed_at_each(&applied, &before, others), 3 + 3);
    assert_eq!(killed_at_each(&applied, &before, |host| drop(undo(host).unwrap())), 3 * 2 + 2 * 2);
}
