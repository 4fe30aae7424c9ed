//! A message of SNS under version 1 of its signature (RSA with SHA-1), made once: nothing in the
//! tree signs by SHA-1 any more, and nobody has the key of this certificate.
#![allow(unreachable_pub, reason = "a test's own part, in a file of its own")]

/// When it was published, in seconds since 1970.
pub const PUBLISHED_AT: u64 = 1_772_359_200;

/// The certificate behind it.
pub const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
MIIDCTCCAfGgAwIBAgIUZiTp6Ux8Kr9Dx1VLoBS4iXTycoowDQYJKoZIhvcNAQEL\n\
BQAwEzERMA8GA1UEAwwIc25zLnRlc3QwIBcNMjYxMTI2MDIxMjQ4WhgPMjEyNjEx\n\
MDIwMjEyNDhaMBMxETAPBgNVBAMMCHNucy50ZXN0MIIBIjANBgkqhkiG9w0BAQEF\n\
AAOCAQ8AMIIBCgKCAQEAyyZlnfx8QetXcFzweGOUr2hZuJECSytQdwrlta8G3FeG\n\
HISNnlbv+6Baq+aUGbgO+bKKH4nBHHl9TxsyL5FESEw461PC61kdUXe6wT9ocNdP\n\
RhjbYRZJx7dECpqEXVXBXxCkPbq9Nfq6dGob8CpW9MFWisIaNnEpRVYMib/Ytp5m\n\
Zy+kXW8yVXastdELt1MQAihTEaUL9moieP7l6+UxwKOEIZczo2AVZtaPm7mzhn2m\n\
ONYh3sbxW3savd0gOhEuo9SfpY2xPkpAVL2suZmbSJbW/IzE7XLQTH8Qfdp3Q8Zs\n\
VYeSPHcgDBV1F8GIvA9OfJczoNak4GjNl96rJlxmhwIDAQABo1MwUTAdBgNVHQ4E\n\
FgQUPW6WTz/QmoF4NzV6fRFuh9l+V2UwHwYDVR0jBBgwFoAUPW6WTz/QmoF4NzV6\n\
fRFuh9l+V2UwDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0BAQsFAAOCAQEAoD9C\n\
S0Ai3YGsRp1MWTsB6JQFAkZIvX0SF/qewwAcFCQfSZyRwCJsE4OVgNKOnrwdeftB\n\
EwCJuztd7vejOSJPj3gZZ0DKR/cjcqSD5mde1U1BMsmH3YU3oSwB2fnMRKxQ+wCf\n\
c/MdQQe3cKPdj++rp/tgwtKZ8Oztr9hcBIB6wgOTwnMGvFK47CVNTyxF5GuQ4Knh\n\
1LnEA9nw7Nsa6AEXusS9E5ssKQrmMJQbQ793jrlLZwZKXORBF+bFFsTxtn3zTseX\n\
cPwPexbVZ66Nl78fevs/k8TdnunWfBvRcMpusNPqQkP9pjaEMGzUlzZyluM+OSuU\n\
Q62gEyFeKKM6zO5Utg==\n\
-----END CERTIFICATE-----\n";

/// A bounce of gone@b.example, whose mail SES took as `0102-version-1`.
pub const MESSAGE: &str = r#"{"notificationType":"Bounce","mail":{"messageId":"0102-version-1","destination":["gone@b.example"]},"bounce":{"feedbackId":"0102-feedback-1","timestamp":"2026-03-01T09:59:58.000Z","bounceType":"Permanent","bounceSubType":"General","bouncedRecipients":[{"emailAddress":"gone@b.example","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 user unknown"}]}}"#;

/// The number of the message.
pub const MESSAGE_ID: &str = "5f1b6e8c-0000-5000-8000-000000000001";

/// Its signature.
pub const SIGNATURE: &str = "UmC3+MrfsFJmix/ds1MBB2XYh+FSb+exU2KxSfS0eZwBah0oHG2u5VE1OrWGyMyeXQSVv6NTC2PvMSPbIjMinL6L0TbK0nv+LwCihKMmi/hdMDGWXiP1sufbv3H6M9zmLZfuPaHUNbOPAtAjcCUWka8zOEi815+YviUEM1VQANqQFeXDzp9mbBbiHCQXQF0xZg3iAt3U1iWXa2r5slzalkKgdEjG4n9QLqdgOGdQgpjN0qoRVZ5XaAUggoYER9MGiGppScstHVQh3+m56x78NJ+Vw8F3Ou+nVKfmN09ufAbQYdb4K4aLSailzZGwfHXWY68+JqImm4liA7PmayS7+A==";
