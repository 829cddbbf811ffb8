//! VNIs and outer sources.

use std::net::IpAddr;

use ipnet::IpNet;

/// VNIs and outer sources that are accepted; an empty list accepts all.
///
/// On a live interface the XDP program applies it, over capture files the worker.
#[derive(Clone, Debug, Default)]
pub struct Allow {
    /// Sorted, without repetitions.
    vnis: Vec<u32>,
    sources: Vec<IpNet>,
}

impl Allow {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these VNIs; an empty list means any.
    #[must_use]
    pub fn vnis(mut self, vnis: impl IntoIterator<Item = u32>) -> Self {
        self.vnis = vnis.into_iter().collect();
        self.vnis.sort_unstable();
        self.vnis.dedup();
        self
    }

    /// Only these outer sources; an empty list means any.
    #[must_use]
    pub fn sources(mut self, sources: impl IntoIterator<Item = IpNet>) -> Self {
        self.sources = IpNet::aggregate(&sources.into_iter().collect());
        self
    }

    /// Whether everything is accepted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.vnis.is_empty() && self.sources.is_empty()
    }

    /// Whether a VNI is accepted.
    #[must_use]
    pub fn allows_vni(&self, vni: u32) -> bool {
        self.vnis.is_empty() || self.vnis.binary_search(&vni).is_ok()
    }

    /// Whether an outer source is accepted.
    #[must_use]
    pub fn allows_source(&self, source: IpAddr) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|prefix| prefix.contains(&source))
    }

    /// The VNIs, sorted; empty for any.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn vni_list(&self) -> &[u32] {
        &self.vnis
    }

    /// The prefixes; empty for any.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn source_list(&self) -> &[IpNet] {
        &self.sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lists_accept_everything() {
        let allow = Allow::all();
        assert!(allow.is_all() && !Allow::all().vnis([7]).is_all());
        assert!(allow.allows_vni(0) && allow.allows_vni(0xff_ffff));
        assert!(
            allow.allows_source("192.0.2.1".parse().unwrap()) && allow.allows_source("::1".parse().unwrap())
        );
    }

    #[test]
    fn lists_accept_only_their_entries() {
        let allow = Allow::all()
            .vnis([7, 3, 7])
            .sources(["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        assert!(allow.allows_vni(3) && allow.allows_vni(7) && !allow.allows_vni(4));
        assert!(allow.allows_source("10.255.0.1".parse().unwrap()));
        assert!(allow.allows_source("2001:db8::9".parse().unwrap()));
        assert!(!allow.allows_source("11.0.0.1".parse().unwrap()));
        assert!(!allow.allows_source("2001:db9::9".parse().unwrap()));
    }
}
