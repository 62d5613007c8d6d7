"""pkilint's validators, by the kind of object they look at. Importing pkilint takes a second, so it waits for use.

This module runs in the issuing process or in a worker process of ``lint_workers``; it holds no state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

from policies.lints import Finding


def linter_version() -> str:
    """The version of the linter that is installed."""
    return version("pkilint")


def build(kind: str) -> Callable[[bytes], list[Finding]]:
    """A function that lints octets of this kind: a profile's ``linter``, or ``crl`` and ``arl`` for CRLs."""
    if kind in ("crl", "arl"):
        return _crl_validator(kind)
    if kind.startswith("etsi:"):
        return _etsi_validator(kind.removeprefix("etsi:"))
    if kind == "tls-server":
        return _tls_server_validator()
    return _pkix_validator()


def _etsi_validator(name: str) -> Callable[[bytes], list[Finding]]:
    from pkilint import etsi, finding_filter, loader
    from pkilint.etsi.etsi_constants import CertificateType
    from pkilint.pkix import certificate

    kind = CertificateType.from_option_str(name)
    container = certificate.create_pkix_certificate_validator_container(
        etsi.create_decoding_validators(kind), etsi.create_validators(kind)
    )
    filters = etsi.create_etsi_finding_filters(kind)
    load = loader.load_der_certificate

    def findings(der: bytes) -> list[Finding]:
        results, _ = finding_filter.filter_results(filters, container.validate(load(der, "").root))
        return _findings(results)

    return findings


def _pkix_validator() -> Callable[[bytes], list[Finding]]:
    from pkilint import loader
    from pkilint.pkix import certificate, extension, name

    container = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    return lambda der: _findings(container.validate(loader.load_der_certificate(der, "").root))


def _tls_server_validator() -> Callable[[bytes], list[Finding]]:
    """The Baseline Requirements' checks of a subscriber certificate, but those that only a CA of the public web can
    pass: its policy identifiers (7.1.2.7.9), state or locality (7.1.2.7.4), and names that the public DNS knows.
    """
    from pkilint import finding_filter, loader
    from pkilint.cabf import cabf_extension, cabf_key, cabf_name, serverauth
    from pkilint.cabf.serverauth import (
        serverauth_extension,
        serverauth_finding_filter,
        serverauth_key,
        serverauth_name,
        serverauth_subscriber,
    )
    from pkilint.pkix import certificate

    spki = "certificate.tbsCertificate.subjectPublicKeyInfo.algorithm"
    subject = [*serverauth.create_subject_name_validators(), serverauth_subscriber.SubscriberCommonNameValidator()]
    extensions = [
        serverauth_extension.CrlDpDistributionPointCountValidator(),
        serverauth_extension.CrlDpDistributionPointNameValidator(),
        serverauth_extension.CrlDpDistributionPointValidator(),
        serverauth_extension.AuthorityInformationAccessHttpUriLocationValidator(),
        serverauth_extension.AuthorityInformationAccessUniqueLocationValidator(),
        serverauth_extension.CertificatePolicyQualifierValidator(),
        cabf_extension.CabfAuthorityKeyIdentifierValidator(),
        serverauth_name.DnsNameLdhLabelSyntaxValidator(),
        serverauth_subscriber.SubscriberEkuAllowanceValidator(),
        serverauth_subscriber.SubscriberExtensionCriticalityValidator(),
        serverauth_subscriber.SubscriberAuthorityInformationAccessAccessMethodPresenceValidator(),
        serverauth_subscriber.SubscriberKeyUsageValidator(),
        serverauth_subscriber.SubscriberBasicConstraintsValidator(),
        serverauth_subscriber.SubscriberSanGeneralNameTypeValidator(),
    ]
    keys = [
        serverauth_key.ServerauthAllowedPublicKeyAlgorithmEncodingValidator(path=spki),
        cabf_key.RsaKeyValidator(),
        cabf_key.EcdsaKeyValidator(),
    ]
    container = certificate.create_pkix_certificate_validator_container(
        serverauth.create_decoding_validators(),
        [
            serverauth_key.ServerauthAllowedSignatureAlgorithmEncodingValidator(
                path="certificate.tbsCertificate.signature"
            ),
            cabf_extension.CabfExtensionsPresenceValidator(),
            certificate.create_issuer_validator_container(
                [cabf_name.RelativeDistinguishedNameContainsOneElementValidator()]
            ),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container(subject),
            certificate.create_extensions_validator_container(extensions),
            certificate.create_spki_validator_container(keys),
        ],
    )
    # As pkilint's own linter for servers does: BR 7.1.2.7.12 lets a name begin with an asterisk, RFC 5280 does not.
    # DnsNameLdhLabelSyntaxValidator looks at the rest of the name.
    filters = [serverauth_finding_filter.DnsNameGeneralNamePreferredNameSyntaxFilter()]
    load = loader.load_der_certificate

    def findings(der: bytes) -> list[Finding]:
        results, _ = finding_filter.filter_results(filters, container.validate(load(der, "").root))
        return _findings(results)

    return findings


def _crl_validator(kind: str) -> Callable[[bytes], list[Finding]]:
    from pkilint import loader, pkix
    from pkilint.cabf import cabf_crl
    from pkilint.pkix import crl, extension, name

    crl_type = crl.CertificateRevocationListType[kind.upper()]
    container = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([cabf_crl.create_validity_period_validator(crl_type)]),
            crl.create_extensions_validator_container([]),
        ],
    )
    return lambda der: _findings(container.validate(loader.load_der_crl(der, "").root))


def _findings(results: Iterable[Any]) -> list[Finding]:
    return [
        Finding(
            code=str(description.finding.code),
            severity=str(description.finding.severity.name),
            clause=type(result.validator).__name__,
            message=description.message or "",
        )
        for result in results
        for description in result.finding_descriptions
    ]
