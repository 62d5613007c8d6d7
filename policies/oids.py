"""Object identifiers, named as their standards name them, in dotted form."""

from __future__ import annotations

# X.520 attribute types as used by RFC 5280 A.1 and EN 319 412-1.
COUNTRY_NAME = "2.5.4.6"
ORGANIZATION_NAME = "2.5.4.10"
ORGANIZATION_IDENTIFIER = "2.5.4.97"
COMMON_NAME = "2.5.4.3"
SURNAME = "2.5.4.4"
GIVEN_NAME = "2.5.4.42"
SERIAL_NUMBER = "2.5.4.5"

# Extended key usages.
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"  # RFC 5280 4.2.1.12
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"  # RFC 5280 4.2.1.12
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"  # RFC 3161 2.3
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"  # RFC 6960 4.2.2.2
DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"  # RFC 9336
JWT = "1.3.6.1.5.5.7.3.37"  # RFC 9509
OAUTH_ACCESS_TOKEN_SIGNING = "1.3.6.1.5.5.7.3.39"  # noqa: S105 - RFC 9509, an identifier

# The names that profiles use for them.
EXTENDED_KEY_USAGES = {
    "serverAuth": SERVER_AUTH,
    "clientAuth": CLIENT_AUTH,
    "timeStamping": TIME_STAMPING,
    "OCSPSigning": OCSP_SIGNING,
    "documentSigning": DOCUMENT_SIGNING,
    "jwt": JWT,
    "oauthAccessTokenSigning": OAUTH_ACCESS_TOKEN_SIGNING,
}

# Signature algorithms.
ECDSA_SHA256 = "1.2.840.10045.4.3.2"  # RFC 5758 3.2
ECDSA_SHA384 = "1.2.840.10045.4.3.3"
ECDSA_SHA512 = "1.2.840.10045.4.3.4"
RSA_SHA256 = "1.2.840.113549.1.1.11"  # RFC 4055 5

# Extensions of RFC 5280 4.2.1 that we write or read ourselves.
SUBJECT_KEY_IDENTIFIER = "2.5.29.14"
PRIVATE_KEY_USAGE_PERIOD = "2.5.29.16"  # RFC 3280 4.2.1.4
SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
CRL_DISTRIBUTION_POINTS = "2.5.29.31"
CERTIFICATE_POLICIES = "2.5.29.32"
AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"

# Certificate policies.
ANY_POLICY = "2.5.29.32.0"  # RFC 5280 4.2.1.4
NCP_PLUS = "0.4.0.2042.1.2"  # EN 319 411-1 5.3: normalised, the key in a secure cryptographic device
QCP_N = "0.4.0.194112.1.0"  # EN 319 411-2: qualified, natural person
QCP_L = "0.4.0.194112.1.1"  # EN 319 411-2: qualified, legal person

# The names that profiles use for them; ``CP`` is what the installation names.
CERTIFICATE_POLICIES_BY_NAME = {"anyPolicy": ANY_POLICY, "NCP+": NCP_PLUS, "QCP-n": QCP_N, "QCP-l": QCP_L}

# Extensions for which pyca/cryptography has no type.
QC_STATEMENTS = "1.3.6.1.5.5.7.1.3"  # RFC 3739 3.2.6

VALIDITY_ASSURED_SHORT_TERM = "0.4.0.194121.2.1"  # EN 319 412-1 5.2.2

# Statements inside qcStatements: EN 319 412-5 and RFC 3739.
QC_COMPLIANCE = "0.4.0.1862.1.1"
QC_SSCD = "0.4.0.1862.1.4"
QC_PDS = "0.4.0.1862.1.5"
QC_TYPE = "0.4.0.1862.1.6"
QC_TYPE_ESIGN = "0.4.0.1862.1.6.1"
QC_TYPE_ESEAL = "0.4.0.1862.1.6.2"
QC_CC_LEGISLATION = "0.4.0.1862.1.7"
PKIX_QC_SYNTAX_V2 = "1.3.6.1.5.5.7.11.2"
SEMANTICS_NATURAL = "0.4.0.194121.1.1"  # EN 319 412-1 5.1
SEMANTICS_LEGAL = "0.4.0.194121.1.2"  # EN 319 412-1 5.1
