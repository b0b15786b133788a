//! Issuing and identification of certificates.

use super::authority::{DAY, params};
use super::identity::{first_certificate, parse};
use super::{CertificateAuthority, CertificateError, Identity, identify, identify_pem};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use std::time::SystemTime;
use synod_types::{ClusterId, NodeId};

const CLUSTER: ClusterId = ClusterId(7);

#[test]
fn names_and_identities_are_one_to_one() {
    let largest = Identity::Node { cluster: ClusterId(u64::MAX), node: NodeId(u64::MAX) };
    let client = Identity::Client { name: "backup-2".into() };
    for identity in [largest, client] {
        let name = identity.dns_name();
        assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
        assert_eq!(Identity::from_dns_name(&name), Some(identity));
    }
    let foreign_names = [
        "node-2.cluster-7.synod.internal.example.com",
        "node-02.cluster-7.synod.internal",
        "node-+2.cluster-7.synod.internal",
        "node-0.cluster-7.synod.internal",
        "node-2.synod.internal",
        "node-2.cluster-.synod.internal",
        "node-99999999999999999999.cluster-7.synod.internal",
        "Node-2.cluster-7.synod.internal",
        "client-.synod.internal",
        "client-a.b.synod.internal",
        "*.cluster-7.synod.internal",
        ".synod.internal",
        "",
    ];
    for name in foreign_names {
        assert_eq!(Identity::from_dns_name(name), None, "{name}");
    }
}

#[test]
fn parsed_authority_issues_under_the_same_name() {
    let first = CertificateAuthority::new(CLUSTER).expect("generates");
    let pem = (first.certificate_pem().to_owned(), first.key_pem());
    let again = CertificateAuthority::from_pem(&pem.0, &pem.1).expect("parses");
    for ca in [first, again] {
        let issued = ca.issue_node(CLUSTER, NodeId(3)).expect("issues");
        let der = first_certificate(&issued.certificate).expect("is PEM");
        let ca_der = first_certificate(&pem.0).expect("is PEM");
        let (leaf, ca) = (parse(&der).expect("is DER"), parse(&ca_der).expect("is DER"));
        assert_eq!(leaf.issuer(), ca.subject());
        assert!(leaf.validity().is_valid() && ca.validity().is_valid());
        assert!(leaf.validity().not_after <= ca.validity().not_after);
        let identity = Identity::Node { cluster: CLUSTER, node: NodeId(3) };
        assert_eq!(identify_pem(&issued.certificate), Ok(identity));
    }
}

#[test]
fn client_certificate_has_a_valid_name() {
    let ca = CertificateAuthority::new(CLUSTER).expect("generates");
    let issued = ca.issue_client("etcdctl").expect("issues");
    let identity = identify_pem(&issued.certificate).expect("has an identity");
    assert_eq!(identity, Identity::Client { name: "etcdctl".into() });
    for name in ["", "-a", "a-", "A", "a.b", "a b", &"a".repeat(57)] {
        let rejected = ca.issue_client(name).expect_err("the name is invalid");
        assert_eq!(rejected, CertificateError::ClientName(name.into()));
    }
    assert_eq!(ca.issue_node(CLUSTER, NodeId(0)), Err(CertificateError::NodeZero));
}

#[test]
fn node_certificate_needs_both_key_usages_and_one_name() {
    let ca = CertificateAuthority::new(CLUSTER).expect("generates");
    let node = Identity::Node { cluster: CLUSTER, node: NodeId(1) };
    let one_way = ca.issue(&node, &[ExtendedKeyUsagePurpose::ClientAuth]).expect("issues");
    assert!(matches!(identify_pem(&one_way.certificate), Err(CertificateError::NoIdentity(_))));

    let key = KeyPair::generate().expect("generates");
    for names in [
        vec![],
        vec!["node.example.com"],
        vec!["node-1.cluster-7.synod.internal", "node-2.cluster-7.synod.internal"],
    ] {
        let mut params = params("node-1.cluster-7.synod.internal", SystemTime::now() + DAY);
        let san = |name: &&str| SanType::DnsName((*name).try_into().expect("is ASCII"));
        params.subject_alt_names = names.iter().map(san).collect();
        let certificate = params.self_signed(&key).expect("signs");
        assert!(matches!(identify(certificate.der()), Err(CertificateError::NoIdentity(_))));
    }
}

#[test]
fn mismatched_certificate_and_key_are_rejected_by_kind() {
    let ca = CertificateAuthority::new(CLUSTER).expect("generates");
    let other = CertificateAuthority::new(CLUSTER).expect("generates");
    let node = ca.issue_node(CLUSTER, NodeId(1)).expect("issues");
    let read = |certificate: &str, key: &str| {
        CertificateAuthority::from_pem(certificate, key).expect_err("must be rejected")
    };
    assert_eq!(read(ca.certificate_pem(), &other.key_pem()), CertificateError::KeyMismatch);
    assert_eq!(read(&node.certificate, &node.key), CertificateError::NotAnAuthority);
    assert!(matches!(read("", &ca.key_pem()), CertificateError::Malformed { .. }));
    assert!(matches!(read(ca.certificate_pem(), "x"), CertificateError::Malformed { .. }));
    assert!(!format!("{ca:?} {node:?}").contains("PRIVATE"));
}

#[test]
fn corrupted_certificates_never_cause_a_panic() {
    let ca = CertificateAuthority::new(CLUSTER).expect("generates");
    let node = ca.issue_node(CLUSTER, NodeId(1)).expect("issues");
    let der = first_certificate(&node.certificate).expect("is PEM").to_vec();
    for cut in 0..der.len() {
        assert!(identify(&der[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..der.len() {
        let mut corrupted = der.clone();
        corrupted[at] ^= 0xff;
        // Most corruption is detected by the signature only; this must not panic.
        let _ = identify(&corrupted);
    }
}
