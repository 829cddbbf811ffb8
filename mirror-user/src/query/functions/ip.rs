//! Functions of IP addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Function, Value};

/// RFC 1918, as CloudWatch documents `isPrivateIP`.
fn is_private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_private())
}

/// Whether a value is an address of a subnet.
pub(in super::super) fn in_subnet<'a>(address: &Value<'_>, subnet: &IpNet) -> Value<'a> {
    let address = if let Value::Text(address) = address { address.parse::<IpAddr>().ok() } else { None };
    Value::truth(address.is_some_and(|address| subnet.contains(&address)))
}

/// The result of a function of addresses; false for what is no address.
pub(super) fn call<'a>(function: Function, address: &Value<'_>, subnet_text: &Value<'_>) -> Value<'a> {
    let Value::Text(address) = address else { return Value::truth(false) };
    let Ok(address) = address.parse::<IpAddr>() else { return Value::truth(false) };
    Value::truth(match function {
        Function::IsValidIp => true,
        Function::IsValidIpV4 => address.is_ipv4(),
        Function::IsValidIpV6 => address.is_ipv6(),
        Function::IsPrivateIp => is_private(address),
        _ => match subnet_text {
            Value::Text(text) => subnet(function, text).is_some_and(|subnet| subnet.contains(&address)),
            _ => false,
        },
    })
}

/// A subnet of the family that the function takes.
pub(super) fn subnet(function: Function, text: &str) -> Option<IpNet> {
    let subnet: IpNet = text.trim().parse().ok()?;
    let is_v4 = matches!(subnet, IpNet::V4(_));
    match function {
        Function::IsIpv4InSubnet => is_v4.then_some(subnet),
        Function::IsIpv6InSubnet => (!is_v4).then_some(subnet),
        _ => Some(subnet),
    }
}
