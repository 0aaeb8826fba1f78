//! Who may read answers from a page of another origin (the Fetch standard, CORS protocol).

/// The configured origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// `*`: every origin, without credentials.
    Any,
    /// These origins, with credentials.
    Listed(Vec<String>),
}

/// What one request's `Origin` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cors {
    /// Every origin may read the answer.
    Any,
    /// The origin with this index may.
    Listed(usize),
    /// The origin is not on the list, or there was none.
    Denied,
}

/// The fields of a preflight's answer, beside those of every answer.
pub const PREFLIGHT: &str = "Access-Control-Allow-Methods: GET, POST\r\n\
    Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID, Cache-Control\r\n\
    Access-Control-Max-Age: 3600\r\n";

impl Origins {
    /// Looks an `Origin` field up.
    pub fn decide(&self, origin: Option<&str>) -> Cors {
        match (self, origin) {
            (Self::Any, _) => Cors::Any,
            (Self::Listed(list), Some(origin)) => {
                list.iter().position(|listed| listed == origin).map_or(Cors::Denied, Cors::Listed)
            }
            (Self::Listed(_), None) => Cors::Denied,
        }
    }

    /// Writes the fields that every answer has.
    pub fn write(&self, cors: Cors, out: &mut Vec<u8>) {
        let fields: &[&str] = match (self, cors) {
            (Self::Any, _) => &["Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: Link\r\n"],
            (Self::Listed(list), Cors::Listed(index)) => &[
                "Access-Control-Allow-Origin: ",
                &list[index],
                "\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: Link\r\nVary: Origin\r\n",
            ],
            // The answer would have been another for a listed origin: caches must know.
            (Self::Listed(_), _) => &["Vary: Origin\r\n"],
        };
        fields.iter().for_each(|field| out.extend_from_slice(field.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_origin_is_echoed_and_others_get_nothing() {
        let origins = Origins::Listed(vec!["https://a.example".into(), "https://b.example".into()]);
        let text = |cors| {
            let mut out = Vec::new();
            origins.write(cors, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert!(text(origins.decide(Some("https://b.example"))).contains("Allow-Origin: https://b.example\r\n"));
        assert_eq!(text(origins.decide(Some("https://c.example"))), "Vary: Origin\r\n");
        assert_eq!(text(origins.decide(None)), "Vary: Origin\r\n");
    }
}
