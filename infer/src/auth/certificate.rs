//! The names of a certificate: the alternative names and the subject's common name.
//!
//! Reads as much of DER (X.690) and of X.509 (RFC 5280, section 4.1) as leads to the names, of
//! certificates whose chain was verified already. What is not understood is passed over: a name
//! that cannot be read makes nobody known.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// The most names of one certificate that are kept.
const MAX_NAMES: usize = 256;

/// A name that a certificate may have, with its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateName {
    /// A host's, as an alternative name; in lower case.
    Dns(String),
    /// A URI, as an alternative name.
    Uri(String),
    /// An email address, as an alternative name.
    Email(String),
    /// An IP address, as an alternative name.
    Ip(IpAddr),
    /// The subject's common name.
    CommonName(String),
}

impl FromStr for CertificateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or_default();
        if name.is_empty() {
            let problem = "must be the kind and the name, as \"dns:deployer.example.org\"; the kinds \
                           are dns, uri, email, ip and cn";
            return Err(problem.into());
        }
        match kind {
            "dns" => Ok(Self::Dns(name.to_ascii_lowercase())),
            "uri" => Ok(Self::Uri(name.into())),
            "email" => Ok(Self::Email(name.into())),
            "ip" => name
                .parse()
                .map(Self::Ip)
                .map_err(|_| format!("\"{name}\" is not an IP address")),
            "cn" => Ok(Self::CommonName(name.into())),
            _ => Err(format!(
                "there is no kind of name \"{kind}\"; there are dns, uri, email, ip and cn"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for CertificateName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Uri(name) => write!(f, "uri:{name}"),
            Self::Email(name) => write!(f, "email:{name}"),
            Self::Ip(address) => write!(f, "ip:{address}"),
            Self::CommonName(name) => write!(f, "cn:{name}"),
        }
    }
}

/// All names of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames(BTreeSet<CertificateName>);

impl CertificateNames {
    /// The names of the certificate `der`; none where it cannot be read.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut names = BTreeSet::new();
        // What was found before something unreadable came is not kept: half a certificate is none.
        if read_certificate(der, &mut names).is_none() {
            names.clear();
        }
        Self(names)
    }

    /// Whether `name` is one of them.
    #[must_use]
    pub fn have(&self, name: &CertificateName) -> bool {
        self.0.contains(name)
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &CertificateName> {
        self.0.iter()
    }
}

/// Tags of X.690.
mod tag {
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const UTF8_STRING: u8 = 0x0c;
    pub(super) const PRINTABLE_STRING: u8 = 0x13;
    pub(super) const IA5_STRING: u8 = 0x16;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    /// The version of a certificate.
    pub(super) const VERSION: u8 = 0xa0;
    /// The extensions of a certificate.
    pub(super) const EXTENSIONS: u8 = 0xa3;
    /// Kinds of alternative names.
    pub(super) const EMAIL: u8 = 0x81;
    pub(super) const DNS: u8 = 0x82;
    pub(super) const URI: u8 = 0x86;
    pub(super) const IP: u8 = 0x87;
}

/// 2.5.4.3, the common name.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// 2.5.29.17, the subject's alternative names.
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];

/// What is left to read of an encoding.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: its tag and content.
    fn next(&mut self) -> Option<(u8, Reader<'a>)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                let length = bytes.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, Reader(content)))
    }

    /// The next element, which must have the tag `wanted`.
    fn expect(&mut self, wanted: u8) -> Option<Reader<'a>> {
        let (tag, content) = self.next()?;
        (tag == wanted).then_some(content)
    }

    fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn text(self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.0).ok()?;
        // A zero ends a name for some programs and not for others.
        (!text.is_empty() && !text.contains('\0')).then_some(text)
    }
}

fn read_certificate(der: &[u8], names: &mut BTreeSet<CertificateName>) -> Option<()> {
    let mut certificate = Reader(der).expect(tag::SEQUENCE)?;
    let mut body = certificate.expect(tag::SEQUENCE)?;
    let mut peeked = body;
    if peeked.next()?.0 == tag::VERSION {
        body = peeked;
    }
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        body.next()?;
    }
    read_subject(body.expect(tag::SEQUENCE)?, names)?;
    while !body.is_empty() {
        let (tag, content) = body.next()?;
        if tag == tag::EXTENSIONS {
            let mut content = content;
            read_extensions(content.expect(tag::SEQUENCE)?, names)?;
        }
    }
    Some(())
}

fn read_subject(mut subject: Reader<'_>, names: &mut BTreeSet<CertificateName>) -> Option<()> {
    while !subject.is_empty() {
        let mut set = subject.expect(tag::SET)?;
        while !set.is_empty() {
            let mut attribute = set.expect(tag::SEQUENCE)?;
            let kind = attribute.expect(tag::OID)?;
            let (tag, value) = attribute.next()?;
            let is_text = [tag::UTF8_STRING, tag::PRINTABLE_STRING, tag::IA5_STRING].contains(&tag);
            if kind.0 == COMMON_NAME
                && is_text
                && let Some(name) = value.text()
            {
                keep(names, CertificateName::CommonName(name.into()))?;
            }
        }
    }
    Some(())
}

fn read_extensions(mut list: Reader<'_>, names: &mut BTreeSet<CertificateName>) -> Option<()> {
    while !list.is_empty() {
        let mut extension = list.expect(tag::SEQUENCE)?;
        let kind = extension.expect(tag::OID)?;
        let (mut tag, mut value) = extension.next()?;
        if tag == tag::BOOLEAN {
            (tag, value) = extension.next()?;
        }
        if kind.0 == ALTERNATIVE_NAMES && tag == tag::OCTET_STRING {
            read_alternatives(value.expect(tag::SEQUENCE)?, names)?;
        }
    }
    Some(())
}

fn read_alternatives(mut list: Reader<'_>, names: &mut BTreeSet<CertificateName>) -> Option<()> {
    while !list.is_empty() {
        let (tag, value) = list.next()?;
        let text = || value.text().map(str::to_owned);
        let name = match tag {
            tag::DNS => text().map(|name| CertificateName::Dns(name.to_ascii_lowercase())),
            tag::URI => text().map(CertificateName::Uri),
            tag::EMAIL => text().map(CertificateName::Email),
            tag::IP => address(value.0).map(CertificateName::Ip),
            _ => None,
        };
        if let Some(name) = name {
            keep(names, name)?;
        }
    }
    Some(())
}

fn keep(names: &mut BTreeSet<CertificateName>, name: CertificateName) -> Option<()> {
    if names.len() == MAX_NAMES {
        return None;
    }
    names.insert(name);
    Some(())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, string::Ia5String};

    use super::*;

    fn certificate(common_name: &str, alternatives: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "dns:not-a-name");
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    }

    fn ia5(text: &str) -> Ia5String {
        text.try_into().expect("ASCII")
    }

    #[test]
    fn every_kind_of_name_is_read() {
        let long = "x".repeat(200);
        let der = certificate(
            &long,
            vec![
                SanType::DnsName(ia5("Deployer.example.org")),
                SanType::URI(ia5("spiffe://example.org/deployer")),
                SanType::Rfc822Name(ia5("ops@example.org")),
                SanType::IpAddress([10, 0, 0, 1].into()),
                SanType::IpAddress("::1".parse().expect("an address")),
            ],
        );
        let names = CertificateNames::of(&der);
        let told: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "dns:deployer.example.org",
                "uri:spiffe://example.org/deployer",
                "email:ops@example.org",
                "ip:10.0.0.1",
                "ip:::1",
                &format!("cn:{long}"),
            ]
        );
        for name in told {
            assert!(names.have(&name.parse().expect("a name")), "{name}");
        }
        assert!(!names.have(&"cn:deployer.example.org".parse().expect("a name")));
    }

    #[test]
    fn half_a_certificate_has_no_names() {
        let der = certificate("deployer", vec![SanType::DnsName(ia5("a.example.org"))]);
        assert_eq!(CertificateNames::of(&der).iter().count(), 2);
        for end in 0..der.len() {
            assert_eq!(CertificateNames::of(&der[..end]).iter().count(), 0, "{end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = CertificateNames::of(&bytes);
        }

        #[test]
        fn a_changed_byte_is_read_without_a_panic(at: prop::sample::Index, to: u8) {
            let mut der = certificate("deployer", vec![SanType::DnsName(ia5("a.example.org"))]);
            let at = at.index(der.len());
            der[at] = to;
            let _ = CertificateNames::of(&der);
        }
    }

    #[test]
    fn kinds_must_be_known() {
        for (text, problem) in [
            ("deployer", "as \"dns:deployer.example.org\""),
            ("dns:", "as \"dns:deployer.example.org\""),
            ("host:a", "there is no kind of name \"host\""),
            ("ip:a", "\"a\" is not an IP address"),
        ] {
            let error = text.parse::<CertificateName>().expect_err("no name");
            assert!(error.contains(problem), "{error}");
        }
    }
}
