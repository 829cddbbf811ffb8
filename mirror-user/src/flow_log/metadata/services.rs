//! Which service of AWS an address belongs to.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

/// The service that all prefixes are of, beside others.
const AMAZON: &str = "AMAZON";

/// Prefixes of services.
#[derive(Clone, Debug, Default)]
pub(super) struct Services {
    named: Prefixes,
    amazon: Prefixes,
}

/// By length, the longest first when reversed, since there are a few lengths only.
#[derive(Clone, Debug, Default)]
struct Prefixes(BTreeMap<u8, HashMap<IpNet, Arc<str>>>);

impl Services {
    pub(super) fn of_prefixes(prefixes: impl IntoIterator<Item = (IpNet, String)>) -> Self {
        let mut all = Self::default();
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        for (prefix, service) in prefixes {
            let into = if service == AMAZON { &mut all.amazon } else { &mut all.named };
            let name = names.entry(service).or_insert_with_key(|name| name.as_str().into());
            // The same prefix may be of several services; the first in the file is as good as any.
            into.0.entry(prefix.prefix_len()).or_default().entry(prefix).or_insert_with(|| name.clone());
        }
        all
    }

    pub(super) fn of(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.named.of(address).or_else(|| self.amazon.of(address))
    }
}

impl Prefixes {
    fn of(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.0.iter().rev().find_map(|(length, prefixes)| {
            let prefix = IpNet::new(address, *length).ok()?.trunc();
            prefixes.get(&prefix)
        })
    }
}
