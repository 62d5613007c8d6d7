"""The tables of the first release

Revision 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "audit_entries",
        sa.Column(
            "sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(length=100), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("entry_hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit_entries")),
    )
    with op.batch_alter_table("audit_entries", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_entries_event"), ["event"], unique=False)
        batch_op.create_index("ix_audit_entries_subject_sequence", ["subject", "sequence"], unique=False)

    op.create_table(
        "ca_authorities",
        sa.Column("slug", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("key_label", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("certificate_id", sa.String(length=36), nullable=False),
        sa.Column("established_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_ca_authorities")),
    )
    with op.batch_alter_table("ca_authorities", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_authorities_purpose"), ["purpose"], unique=False)

    op.create_table(
        "ca_blocked_keys",
        sa.Column("spki_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("certificate_id", sa.String(length=36), nullable=False),
        sa.Column("blocked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("spki_sha256", name=op.f("pk_ca_blocked_keys")),
    )
    op.create_table(
        "ca_ceremonies",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("plan_sha256", sa.String(length=64), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ca_ceremonies")),
    )
    op.create_table(
        "ca_certificates",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.LargeBinary(length=18), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("profile_version", sa.Integer(), nullable=False),
        sa.Column("profile_digest", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("evidence", sa.String(length=200), nullable=False),
        sa.Column("key_label", sa.String(length=64), nullable=True),
        sa.Column("spki_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_certificates")),
        sa.UniqueConstraint("issuer", "serial", name=op.f("uq_ca_certificates_issuer")),
        sa.UniqueConstraint("sha256", name=op.f("uq_ca_certificates_sha256")),
    )
    with op.batch_alter_table("ca_certificates", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_certificates_holder"), ["holder"], unique=False)
        batch_op.create_index("ix_ca_certificates_issuer_state", ["issuer", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_ca_certificates_profile"), ["profile"], unique=False)
        batch_op.create_index(batch_op.f("ix_ca_certificates_serial"), ["serial"], unique=False)
        batch_op.create_index(batch_op.f("ix_ca_certificates_spki_sha256"), ["spki_sha256"], unique=False)

    op.create_table(
        "ca_crls",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("shard", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("previous", sa.BigInteger(), nullable=False),
        sa.Column("this_update", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_update", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "shard", "number", name=op.f("pk_ca_crls")),
        sa.UniqueConstraint("issuer", "shard", "previous", name=op.f("uq_ca_crls_issuer")),
    )
    op.create_table(
        "ca_issuance_intents",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.LargeBinary(length=18), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("profile_version", sa.Integer(), nullable=False),
        sa.Column("profile_digest", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("evidence", sa.String(length=200), nullable=False),
        sa.Column("key_label", sa.String(length=64), nullable=True),
        sa.Column("spki_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tbs", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_issuance_intents")),
        sa.UniqueConstraint("issuer", "serial", name=op.f("uq_ca_issuance_intents_issuer")),
    )
    with op.batch_alter_table("ca_issuance_intents", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_issuance_intents_holder"), ["holder"], unique=False)
        batch_op.create_index("ix_ca_issuance_intents_state_changed_at", ["state", "changed_at"], unique=False)

    op.create_table(
        "ca_profile_versions",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_ca_profile_versions")),
    )
    op.create_table(
        "ca_suspensions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("certificate_id", sa.String(length=36), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_suspensions")),
    )
    with op.batch_alter_table("ca_suspensions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_suspensions_certificate_id"), ["certificate_id"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_result", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index("ix_outbox_state_next_attempt_at", ["state", "next_attempt_at"], unique=False)

    op.create_table(
        "signing_credentials",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped_key_mac", sa.LargeBinary(), nullable=False),
        sa.Column("wrapping_key", sa.String(length=64), nullable=False),
        sa.Column("algorithm", sa.String(length=20), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("pin_hash", sa.Text(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=True),
        sa.Column("certificate_serial", sa.String(length=40), nullable=True),
        sa.Column("chain", sa.JSON(), nullable=True),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_attempts", sa.Integer(), nullable=False),
        sa.Column("lock_level", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_credentials")),
    )
    with op.batch_alter_table("signing_credentials", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_signing_credentials_certificate_serial"), ["certificate_serial"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_signing_credentials_person_id"), ["person_id"], unique=False)

    op.create_table(
        "signing_requests",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("client_id", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=True),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("reached_level", sa.String(length=8), nullable=True),
        sa.Column("language", sa.String(length=2), nullable=True),
        sa.Column("webhook", sa.String(length=2000), nullable=True),
        sa.Column("return_url", sa.String(length=2000), nullable=True),
        sa.Column("verification_code", sa.String(length=40), nullable=False),
        sa.Column("document_sha256", sa.String(length=64), nullable=False),
        sa.Column("document_size", sa.BigInteger(), nullable=False),
        sa.Column("document_pages", sa.Integer(), nullable=False),
        sa.Column("existing_signatures", sa.Integer(), nullable=False),
        sa.Column("signed_sha256", sa.String(length=64), nullable=True),
        sa.Column("code", sa.String(length=60), nullable=True),
        sa.Column("rejection_reason", sa.String(length=500), nullable=True),
        sa.Column("retention_days", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("document_deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_requests")),
        sa.UniqueConstraint("verification_code", name=op.f("uq_signing_requests_verification_code")),
    )
    with op.batch_alter_table("signing_requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_signing_requests_client_id"), ["client_id"], unique=False)
        batch_op.create_index("ix_signing_requests_state_expires_at", ["state", "expires_at"], unique=False)

    op.create_table(
        "sso_people",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("username", sa.String(length=64), nullable=False),
        sa.Column("given_name", sa.String(length=120), nullable=False),
        sa.Column("family_name", sa.String(length=120), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=False),
        sa.Column("totp_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("totp_last_step", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sso_people")),
        sa.UniqueConstraint("username", name=op.f("uq_sso_people_username")),
    )
    op.create_table(
        "sso_relying_parties",
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("name_mn", sa.String(length=200), nullable=False),
        sa.Column("name_en", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("auth_method", sa.String(length=30), nullable=False),
        sa.Column("auth_algorithm", sa.String(length=10), nullable=True),
        sa.Column("secret_digest", sa.String(length=64), nullable=True),
        sa.Column("jwks", sa.JSON(), nullable=True),
        sa.Column("redirect_uris", sa.JSON(), nullable=False),
        sa.Column("post_logout_redirect_uris", sa.JSON(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("sector", sa.String(length=255), nullable=False),
        sa.Column("minimum_acr", sa.String(length=60), nullable=True),
        sa.Column("webhook_uris", sa.JSON(), nullable=False),
        sa.Column("return_urls", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_sso_relying_parties")),
    )
    op.create_table(
        "signing_activations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("sdr", sa.String(length=128), nullable=False),
        sa.Column("credential_id", sa.String(length=36), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["signing_credentials.id"],
            name=op.f("fk_signing_activations_credential_id_signing_credentials"),
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name=op.f("fk_signing_activations_request_id_signing_requests")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_activations")),
    )
    with op.batch_alter_table("signing_activations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_signing_activations_request_id"), ["request_id"], unique=False)

    op.create_table(
        "signing_documents",
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name=op.f("fk_signing_documents_request_id_signing_requests")
        ),
        sa.PrimaryKeyConstraint("request_id", "role", name=op.f("pk_signing_documents")),
    )
    op.create_table(
        "signing_idempotency_keys",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("client_id", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["signing_requests.id"],
            name=op.f("fk_signing_idempotency_keys_request_id_signing_requests"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_idempotency_keys")),
        sa.UniqueConstraint("client_id", "key", name=op.f("uq_signing_idempotency_keys_client_id")),
    )
    op.create_table(
        "signing_signers",
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("placement", sa.JSON(), nullable=True),
        sa.Column("pages_shown", sa.JSON(), nullable=False),
        sa.Column("credential_id", sa.String(length=36), nullable=True),
        sa.Column("sdr", sa.String(length=128), nullable=True),
        sa.Column("prepared", sa.LargeBinary(), nullable=True),
        sa.Column("prepared_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("code", sa.String(length=60), nullable=True),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name=op.f("fk_signing_signers_request_id_signing_requests")
        ),
        sa.PrimaryKeyConstraint("request_id", "position", name=op.f("pk_signing_signers")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_signing_signers_token_sha256")),
    )
    with op.batch_alter_table("signing_signers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_signing_signers_person_id"), ["person_id"], unique=False)

    op.create_table(
        "sso_access_tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("family", sa.String(length=36), nullable=True),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=True),
        sa.Column("session_id", sa.String(length=36), nullable=True),
        sa.Column("sub", sa.String(length=64), nullable=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("acr", sa.String(length=60), nullable=True),
        sa.Column("amr", sa.JSON(), nullable=False),
        sa.Column("authenticated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["sso_relying_parties.client_id"],
            name=op.f("fk_sso_access_tokens_client_id_sso_relying_parties"),
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["sso_people.id"], name=op.f("fk_sso_access_tokens_person_id_sso_people")
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sso_access_tokens")),
    )
    with op.batch_alter_table("sso_access_tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sso_access_tokens_client_id"), ["client_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sso_access_tokens_family"), ["family"], unique=False)
        batch_op.create_index(batch_op.f("ix_sso_access_tokens_person_id"), ["person_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sso_access_tokens_session_id"), ["session_id"], unique=False)

    op.create_table(
        "sso_consents",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("claims_version", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("acr", sa.String(length=60), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["sso_relying_parties.client_id"], name=op.f("fk_sso_consents_client_id_sso_relying_parties")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["sso_people.id"], name=op.f("fk_sso_consents_person_id_sso_people")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sso_consents")),
    )
    with op.batch_alter_table("sso_consents", schema=None) as batch_op:
        batch_op.create_index("ix_sso_consents_person_id_client_id", ["person_id", "client_id"], unique=False)

    op.create_table(
        "sso_person_identifiers",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.LargeBinary(length=32), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["person_id"], ["sso_people.id"], name=op.f("fk_sso_person_identifiers_person_id_sso_people")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sso_person_identifiers")),
        sa.UniqueConstraint("kind", "mac", name=op.f("uq_sso_person_identifiers_kind")),
    )
    with op.batch_alter_table("sso_person_identifiers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sso_person_identifiers_person_id"), ["person_id"], unique=False)

    op.create_table(
        "sso_sessions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("cookie_digest", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("acr", sa.String(length=60), nullable=False),
        sa.Column("amr", sa.JSON(), nullable=False),
        sa.Column("authenticated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["sso_people.id"], name=op.f("fk_sso_sessions_person_id_sso_people")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sso_sessions")),
        sa.UniqueConstraint("cookie_digest", name=op.f("uq_sso_sessions_cookie_digest")),
    )
    with op.batch_alter_table("sso_sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sso_sessions_person_id"), ["person_id"], unique=False)

    op.create_table(
        "sso_subjects",
        sa.Column("sector", sa.String(length=255), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("sub", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["sso_people.id"], name=op.f("fk_sso_subjects_person_id_sso_people")),
        sa.PrimaryKeyConstraint("sector", "person_id", name=op.f("pk_sso_subjects")),
        sa.UniqueConstraint("sector", "sub", name=op.f("uq_sso_subjects_sector")),
    )
    op.create_table(
        "signing_intents",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("activation_id", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("credential_id", sa.String(length=36), nullable=False),
        sa.Column("certificate_serial", sa.String(length=40), nullable=False),
        sa.Column("sdr", sa.String(length=128), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(
            ["activation_id"],
            ["signing_activations.id"],
            name=op.f("fk_signing_intents_activation_id_signing_activations"),
        ),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["signing_credentials.id"],
            name=op.f("fk_signing_intents_credential_id_signing_credentials"),
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name=op.f("fk_signing_intents_request_id_signing_requests")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_intents")),
        sa.UniqueConstraint("activation_id", name=op.f("uq_signing_intents_activation_id")),
    )
    with op.batch_alter_table("signing_intents", schema=None) as batch_op:
        batch_op.create_index("ix_signing_intents_outcome_opened_at", ["outcome", "opened_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_signing_intents_request_id"), ["request_id"], unique=False)

    op.create_table(
        "sso_authorization_codes",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("family", sa.String(length=36), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("session_id", sa.String(length=36), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("code_challenge", sa.String(length=43), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=True),
        sa.Column("sub", sa.String(length=64), nullable=False),
        sa.Column("sid", sa.String(length=64), nullable=False),
        sa.Column("acr", sa.String(length=60), nullable=False),
        sa.Column("amr", sa.JSON(), nullable=False),
        sa.Column("authenticated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redeemed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["sso_relying_parties.client_id"],
            name=op.f("fk_sso_authorization_codes_client_id_sso_relying_parties"),
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["sso_people.id"], name=op.f("fk_sso_authorization_codes_person_id_sso_people")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sso_sessions.id"], name=op.f("fk_sso_authorization_codes_session_id_sso_sessions")
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sso_authorization_codes")),
        sa.UniqueConstraint("family", name=op.f("uq_sso_authorization_codes_family")),
    )
    with op.batch_alter_table("sso_authorization_codes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sso_authorization_codes_client_id"), ["client_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sso_authorization_codes_person_id"), ["person_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sso_authorization_codes_session_id"), ["session_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sso_authorization_codes_sid"), ["sid"], unique=False)


def downgrade() -> None:
    """Remove every table."""
    with op.batch_alter_table("sso_authorization_codes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sso_authorization_codes_sid"))
        batch_op.drop_index(batch_op.f("ix_sso_authorization_codes_session_id"))
        batch_op.drop_index(batch_op.f("ix_sso_authorization_codes_person_id"))
        batch_op.drop_index(batch_op.f("ix_sso_authorization_codes_client_id"))

    op.drop_table("sso_authorization_codes")
    with op.batch_alter_table("signing_intents", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_signing_intents_request_id"))
        batch_op.drop_index("ix_signing_intents_outcome_opened_at")

    op.drop_table("signing_intents")
    op.drop_table("sso_subjects")
    with op.batch_alter_table("sso_sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sso_sessions_person_id"))

    op.drop_table("sso_sessions")
    with op.batch_alter_table("sso_person_identifiers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sso_person_identifiers_person_id"))

    op.drop_table("sso_person_identifiers")
    with op.batch_alter_table("sso_consents", schema=None) as batch_op:
        batch_op.drop_index("ix_sso_consents_person_id_client_id")

    op.drop_table("sso_consents")
    with op.batch_alter_table("sso_access_tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sso_access_tokens_session_id"))
        batch_op.drop_index(batch_op.f("ix_sso_access_tokens_person_id"))
        batch_op.drop_index(batch_op.f("ix_sso_access_tokens_family"))
        batch_op.drop_index(batch_op.f("ix_sso_access_tokens_client_id"))

    op.drop_table("sso_access_tokens")
    with op.batch_alter_table("signing_signers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_signing_signers_person_id"))

    op.drop_table("signing_signers")
    op.drop_table("signing_idempotency_keys")
    op.drop_table("signing_documents")
    with op.batch_alter_table("signing_activations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_signing_activations_request_id"))

    op.drop_table("signing_activations")
    op.drop_table("sso_relying_parties")
    op.drop_table("sso_people")
    with op.batch_alter_table("signing_requests", schema=None) as batch_op:
        batch_op.drop_index("ix_signing_requests_state_expires_at")
        batch_op.drop_index(batch_op.f("ix_signing_requests_client_id"))

    op.drop_table("signing_requests")
    with op.batch_alter_table("signing_credentials", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_signing_credentials_person_id"))
        batch_op.drop_index(batch_op.f("ix_signing_credentials_certificate_serial"))

    op.drop_table("signing_credentials")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index("ix_outbox_state_next_attempt_at")

    op.drop_table("outbox")
    with op.batch_alter_table("ca_suspensions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_suspensions_certificate_id"))

    op.drop_table("ca_suspensions")
    op.drop_table("ca_profile_versions")
    with op.batch_alter_table("ca_issuance_intents", schema=None) as batch_op:
        batch_op.drop_index("ix_ca_issuance_intents_state_changed_at")
        batch_op.drop_index(batch_op.f("ix_ca_issuance_intents_holder"))

    op.drop_table("ca_issuance_intents")
    op.drop_table("ca_crls")
    with op.batch_alter_table("ca_certificates", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_certificates_spki_sha256"))
        batch_op.drop_index(batch_op.f("ix_ca_certificates_serial"))
        batch_op.drop_index(batch_op.f("ix_ca_certificates_profile"))
        batch_op.drop_index("ix_ca_certificates_issuer_state")
        batch_op.drop_index(batch_op.f("ix_ca_certificates_holder"))

    op.drop_table("ca_certificates")
    op.drop_table("ca_ceremonies")
    op.drop_table("ca_blocked_keys")
    with op.batch_alter_table("ca_authorities", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_authorities_purpose"))

    op.drop_table("ca_authorities")
    with op.batch_alter_table("audit_entries", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_entries_subject_sequence")
        batch_op.drop_index(batch_op.f("ix_audit_entries_event"))

    op.drop_table("audit_entries")
