"""Enrolment over Secure Transport (RFC 7030, clarified by RFC 8951): certificates for agencies' and banks' machines."""
