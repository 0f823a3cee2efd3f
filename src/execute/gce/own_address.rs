//! From which address this machine reaches the internet, without asking anybody: the address of the interface that the
//! way to the API leaves by. Behind a translation of addresses that one is private, and then it is not known.

use std::net::{IpAddr, Ipv4Addr};

use tokio::net::UdpSocket;

/// The API's host, when no other is named.
const API: &str = "compute.googleapis.com:443";

/// The public address; nothing is sent.
///
/// # Errors
/// Why it is not known, as one fragment.
pub async fn own_address(endpoint: Option<&str>) -> Result<Ipv4Addr, String> {
    let host = endpoint.and_then(|url| url.split("://").nth(1)).map_or(API, |rest| rest.trim_end_matches('/'));
    let local = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(host).await?;
        socket.local_addr()
    };
    match local.await.map(|address| address.ip()) {
        Ok(IpAddr::V4(address)) if public(address) => Ok(address),
        Ok(address) => Err(format!("the address here, {address}, is translated on its way")),
        Err(error) => Err(format!("no way to {host}: {error}")),
    }
}

/// Whether others on the internet see this address as it is. Source: RFC 6890, and RFC 6598 for carriers.
fn public(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let carrier = first == 100 && (64..128).contains(&second);
    let benchmark = first == 198 && (18..20).contains(&second);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_documentation()
        || address.is_multicast()
        || address.is_broadcast()
        || carrier
        || benchmark
        || first == 0
        || first >= 240)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_count() {
        for private in ["10.1.2.3", "127.0.0.1", "172.20.0.1", "192.168.1.9", "100.64.0.1", "169.254.1.1", "240.0.0.1"]
        {
            assert!(!public(private.parse().unwrap()), "{private}");
        }
        for seen in ["8.8.8.8", "100.128.0.1", "193.136.128.5"] {
            assert!(public(seen.parse().unwrap()), "{seen}");
        }
    }

    #[tokio::test]
    async fn a_private_way_says_so() {
        let why = own_address(Some("http://127.0.0.1:9")).await.unwrap_err();
        assert_eq!(why, "the address here, 127.0.0.1, is translated on its way");
    }
}
