//! Recognizes variables that a container manager injects for its services. They look like the
//! recorder's if a service is named `lookback` or `lookback-…`: `LOOKBACK_PORT=tcp://10.0.0.1:80`.
//! They are not meant for the recorder.
//!
//! Name and value must both match, so that a mistyped variable of the recorder is still reported.

use std::net::{IpAddr, SocketAddr};

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Whether Kubernetes, or Docker's links before it, make such a variable for a service.
///
/// | variable | value |
/// |---|---|
/// | `…_SERVICE_HOST` | `10.0.0.1` |
/// | `…_SERVICE_PORT`, `…_SERVICE_PORT_{name}` | `80` |
/// | `…_PORT`, `…_PORT_{number}_{protocol}` | `tcp://10.0.0.1:80` |
/// | `…_PORT_{number}_{protocol}_PROTO`, `_PORT`, `_ADDR` | `tcp`, `80`, `10.0.0.1` |
pub(super) fn is_link(name: &str, value: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") {
        return is_host(value);
    }
    if name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return is_port(value);
    }
    if name.ends_with("_PORT") && is_address(value) {
        return true;
    }
    // From the right, because the service's name may contain such parts, too.
    let mut parts = name.rsplit('_');
    let last = parts.next().unwrap_or_default();
    let fits: fn(&str) -> bool = match last {
        "PROTO" => |value| PROTOCOLS.contains(&value),
        "PORT" => is_port,
        "ADDR" => is_host,
        _ => is_address,
    };
    let protocol = match last {
        "PROTO" | "PORT" | "ADDR" => parts.next().unwrap_or_default(),
        protocol => protocol,
    };
    PROTOCOLS.contains(&protocol.to_ascii_lowercase().as_str())
        && parts.next().is_some_and(is_port)
        && parts.next() == Some("PORT")
        && fits(value)
}

fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// `tcp://10.0.0.1:80`, or `tcp://[fd00::1]:80`. (Older versions omit the brackets.)
fn is_address(text: &str) -> bool {
    let Some((protocol, address)) = text.split_once("://") else { return false };
    let unbracketed =
        || address.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port));
    PROTOCOLS.contains(&protocol.to_ascii_lowercase().as_str())
        && (address.parse::<SocketAddr>().is_ok() || unbracketed())
}
