"""ACME (RFC 8555): agencies' and banks' machines order, renew and revoke their certificates without a person."""
