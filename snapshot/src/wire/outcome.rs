//! How a span ended, as far as its fields say so: an HTTP status of 500 or more, a gRPC status that blames the server, an error, a
//! panic, a cancellation. The recorder counts by it, and the reader explains by it.

/// How a span ended. The greater one of two counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was given up: the client went away, for instance.
    Cancelled,
    /// With an error.
    Error,
    /// With this status of HTTP, 500 or more.
    Status(u16),
    /// With this status of gRPC, which blames the server.
    Grpc(u16),
    /// By a panic.
    Panicked,
}

/// A field's value, as far as it can say how a span ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// An integer.
    Number(u64),
    /// A text.
    Text(&'a str),
    /// A truth value.
    Flag(bool),
    /// An error.
    Error,
    /// Anything that says nothing.
    Other,
}

impl Outcome {
    /// What this field of a span says.
    #[must_use]
    pub fn of_field(name: &str, value: Told<'_>) -> Option<Self> {
        match name {
            "status" | "http.status_code" | "http.response.status_code" => {
                let code = value.number().filter(|code| (500..600).contains(code))?;
                Some(Self::Status(code))
            }
            "grpc_status" | "rpc.grpc.status_code" => {
                value.number().filter(|code| is_server_error(*code)).map(Self::Grpc)
            }
            "otel.status_code" => {
                let Told::Text(text) = value else { return None };
                text.eq_ignore_ascii_case("error").then_some(Self::Error)
            }
            "error" => match value {
                Told::Error => Some(Self::Error),
                Told::Text(text) => (!["", "false"].contains(&text)).then_some(Self::Error),
                Told::Flag(set) => set.then_some(Self::Error),
                _ => None,
            },
            "panicked" => value.is_set().then_some(Self::Panicked),
            "cancelled" => value.is_set().then_some(Self::Cancelled),
            _ => None,
        }
    }

    /// Whether it is to blame on the service.
    #[must_use]
    pub fn is_failure(self) -> bool {
        self != Self::Cancelled
    }

    /// As views show it.
    #[must_use]
    pub fn in_words(self) -> String {
        match self {
            Self::Cancelled => "cancelled".to_owned(),
            Self::Error => "error".to_owned(),
            Self::Status(code) => format!("status {code}"),
            Self::Grpc(code) => format!("grpc-status {code}"),
            Self::Panicked => "panicked".to_owned(),
        }
    }
}

impl Told<'_> {
    fn number(self) -> Option<u16> {
        match self {
            Self::Number(number) => u16::try_from(number).ok(),
            // As in `500 Internal Server Error`.
            Self::Text(text) => text.split(' ').next()?.parse().ok(),
            _ => None,
        }
    }

    fn is_set(self) -> bool {
        match self {
            Self::Flag(set) => set,
            Self::Text(text) => text == "true",
            _ => false,
        }
    }
}

/// Whether this gRPC status blames the server: unknown, deadline exceeded, unimplemented, internal, unavailable,
/// data loss.
fn is_server_error(code: u16) -> bool {
    [2, 4, 12, 13, 14, 15].contains(&code)
}
