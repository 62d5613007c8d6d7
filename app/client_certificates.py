"""Which certificate the client proved in TLS, as the front in front of us says.

TLS ends at the front, so the certificate arrives in a header; the front drops whatever a client wrote into that header
itself. One form is taken, the one that the settings name:

    Client-Cert              ``:`` base64 of DER ``:``, a byte sequence (RFC 9440 2.2, RFC 8941 3.3.5)
    X-Client-Cert-Escaped    percent-encoded PEM, nginx's $ssl_client_escaped_cert; nginx cannot write the other one
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from flask import request

from core.errors import CodedError

MAX_HEADER_OCTETS = 12_000  # a certificate of 4,096-bit RSA with a hundred names, escaped
_BYTE_SEQUENCE = re.compile(r":([A-Za-z0-9+/]+={0,2}):")


class ClientCertificateUnreadable(CodedError):
    """The front's header holds no certificate in the form agreed on."""

    code = "client_certificate_unreadable"
    status = 400
    exit_code = 3


class ClientCertificates:
    """Reads the header; ``header`` is ``none`` where no front hands certificates on."""

    def __init__(self, header: str) -> None:
        self._header = header

    def presented(self) -> bytes | None:
        """The certificate of the present request, DER, or None. Raises ClientCertificateUnreadable."""
        if self._header == "none":
            return None
        # RFC 9440 2.2: a singleton; two of them cannot both be the front's word.
        given = request.headers.getlist(self._header)
        text = given[0].strip() if len(given) == 1 else ",".join(given)
        if not text:
            return None
        return read_byte_sequence(text) if self._header == "Client-Cert" else read_escaped(text)


def read_byte_sequence(text: str) -> bytes:
    """The certificate of a ``Client-Cert`` value (RFC 9440 2.2), DER. Raises ClientCertificateUnreadable."""
    match = _BYTE_SEQUENCE.fullmatch(text) if len(text) <= MAX_HEADER_OCTETS else None
    try:
        return _certificate(base64.b64decode(match[1], validate=True) if match else b"")
    except (binascii.Error, ValueError) as error:
        raise ClientCertificateUnreadable("Client-Cert is no byte sequence with a certificate") from error


def read_escaped(text: str) -> bytes:
    """The certificate of a percent-encoded PEM, DER. Raises ClientCertificateUnreadable."""
    try:
        found = x509.load_pem_x509_certificates(unquote_to_bytes(text[:MAX_HEADER_OCTETS]))
    except ValueError as error:
        raise ClientCertificateUnreadable("the client certificate's header holds no PEM") from error
    if len(found) != 1 or len(text) > MAX_HEADER_OCTETS:
        raise ClientCertificateUnreadable("the client certificate's header holds more than one certificate")
    return found[0].public_bytes(Encoding.DER)


def _certificate(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.DER)
