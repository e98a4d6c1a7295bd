//! The networks from which a key may be used.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::tagged::tagged_form;
use super::value_error::text_form;
use super::{NonEmpty, ValueError};

const MALFORMED: ValueError =
    ValueError::malformed("network", "an address, or an address and a prefix length");

/// A range of addresses in CIDR notation, such as `203.0.113.0/24`, `2001:db8::/32` or a single address.
///
/// IPv4-mapped IPv6 (`::ffff:203.0.113.7`, RFC 4291 §2.5.5.2) is the same as the IPv4 it maps, in ranges and in client
/// addresses alike. An IPv6 range that is wider than the mapped block contains no IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// Returns whether the address is in the range.
    #[must_use]
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| MALFORMED)?,
        };
        let net = canonical(net)?;
        if net.addr() != net.network() {
            return Err(ValueError::HostBits {
                address: net.network(),
                prefix_length: net.prefix_len(),
            });
        }
        Ok(Self(net))
    }
}

/// Turns a range of IPv4-mapped addresses into the IPv4 range.
fn canonical(net: IpNet) -> Result<IpNet, ValueError> {
    const MAPPED_BITS: u8 = 96;
    let (IpNet::V6(v6), IpAddr::V4(v4)) = (net, net.addr().to_canonical()) else {
        return Ok(net);
    };
    let Some(length) = v6.prefix_len().checked_sub(MAPPED_BITS) else {
        return Ok(net);
    };
    Ipv4Net::new(v4, length)
        .map(IpNet::V4)
        .map_err(|_| MALFORMED)
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_form!(Network);

/// The networks from which a key may be used: any, or only the listed ones.
///
/// In JSON: `{"type":"any"}`, or `{"type":"only","networks":["203.0.113.0/24"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "NetworksForm", into = "NetworksForm")]
pub enum Networks {
    /// A key that may be used from any address.
    #[default]
    Any,
    /// A key that may be used only from these networks.
    ///
    /// A request with an unknown address is refused.
    Only(NonEmpty<Network>),
}

impl Networks {
    /// Most networks a key may be restricted to.
    pub(crate) const MAX: usize = 100;

    /// Creates a restriction to these networks.
    ///
    /// # Errors
    /// [`ValueError`] if there are no networks: an empty list never means everywhere.
    pub fn only(networks: impl IntoIterator<Item = Network>) -> Result<Self, ValueError> {
        NonEmpty::new(networks).map(Self::Only)
    }

    /// Returns whether a request from this address is admitted.
    ///
    /// A request with an unknown address (`None`) is admitted only if there is no restriction.
    #[must_use]
    pub(crate) fn permit(&self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Self::Any, _) => true,
            (Self::Only(_), None) => false,
            (Self::Only(list), Some(client)) => list.iter().any(|network| network.contains(client)),
        }
    }

    /// Returns the networks that both permit; `None` if there is no such network, or more than a key may be restricted
    /// to.
    pub(crate) fn common(&self, other: &Self) -> Option<Self> {
        if self.within(other) {
            return Some(self.clone());
        }
        let (Self::Only(ours), Self::Only(theirs)) = (self, other) else {
            return Some(other.clone()); // `self` permits any network.
        };
        // Two networks that overlap are nested: one contains the other.
        let both = ours.iter().flat_map(|our| {
            theirs.iter().filter_map(move |their| {
                let is_inner = their.0.contains(&our.0);
                (is_inner || our.0.contains(&their.0)).then_some(if is_inner {
                    *our
                } else {
                    *their
                })
            })
        });
        let both = NonEmpty::new(both).ok()?;
        (both.len() <= Self::MAX).then_some(Self::Only(both))
    }

    /// Returns whether `ceiling` permits every address that `self` permits.
    pub(crate) fn within(&self, ceiling: &Self) -> bool {
        match (self, ceiling) {
            (_, Self::Any) => true,
            (Self::Any, Self::Only(_)) => false,
            (Self::Only(asked), Self::Only(ceiling)) => {
                let ceiling: Vec<IpNet> = ceiling.iter().map(|network| network.0).collect();
                let ceiling = IpNet::aggregate(&ceiling);
                asked
                    .iter()
                    .all(|network| ceiling.iter().any(|wider| wider.contains(&network.0)))
            }
        }
    }
}

tagged_form!(
    Networks, NetworksForm, NetworksType { Any {}, Only { 0 => networks: NonEmpty<Network> } },
    ValueError::malformed("networks", r#"`{"type":"any"}` or `{"type":"only","networks":[…]}`"#)
);

/// A restriction to this one network.
impl From<Network> for Networks {
    fn from(network: Network) -> Self {
        Self::Only(NonEmpty::from(network))
    }
}

/// `any`, or the list of networks.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(list) => list.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn only(list: &[&str]) -> Networks {
        Networks::only(list.iter().map(|text| net(text))).unwrap()
    }

    #[test]
    fn mapped_addresses_match_as_ipv4() {
        assert_eq!(net("::ffff:10.1.0.0/112"), net("10.1.0.0/16"));
        assert_eq!(net("::ffff:10.1.2.3"), net("10.1.2.3/32"));
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert!(net("10.0.0.0/8").contains(mapped));
        assert!(!net("::/0").contains(mapped), "no IPv4 in an IPv6 range");
        assert!(!net("0.0.0.0/0").contains("::1".parse().unwrap()));
    }

    #[test]
    fn an_unknown_address_fails_any_rule() {
        assert!(!only(&["0.0.0.0/0", "::/0"]).permit(None));
        assert!(Networks::Any.permit(None));
    }

    #[test]
    fn slips_are_pointed_out() {
        assert_eq!(
            "10.1.2.3/8".parse::<Network>(),
            Err(ValueError::HostBits {
                address: "10.0.0.0".parse().unwrap(),
                prefix_length: 8,
            })
        );
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "::/129",
            "a",
            "10.0.0.0/-1",
            " 10.0.0.0/8",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(MALFORMED), "{bad}");
        }
    }

    #[test]
    fn within_compares_ranges() {
        let ceiling = only(&["10.0.0.0/9", "10.128.0.0/9", "2001:db8::/32"]);
        assert!(
            only(&["10.0.0.0/8"]).within(&ceiling),
            "two halves make the whole"
        );
        assert!(only(&["10.3.0.0/16", "2001:db8:1::/48"]).within(&ceiling));
        assert!(!only(&["10.0.0.0/7"]).within(&ceiling));
        assert!(!Networks::Any.within(&ceiling));
        assert!(ceiling.within(&Networks::Any));
    }
}
