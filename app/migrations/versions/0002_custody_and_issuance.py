"""Custody and issuance

Revision 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what custody and issuance need."""
    op.create_table(
        "ca_acme_accounts",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("jwk", sa.Text(), nullable=False),
        sa.Column("thumbprint", sa.String(length=43), nullable=False),
        sa.Column("contact", sa.Text(), nullable=False),
        sa.Column("external_key_id", sa.String(length=22), nullable=False),
        sa.Column("terms_agreed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_acme_accounts")),
        sa.UniqueConstraint("thumbprint", name=op.f("uq_ca_acme_accounts_thumbprint")),
    )
    with op.batch_alter_table("ca_acme_accounts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_acme_accounts_external_key_id"), ["external_key_id"], unique=False)

    op.create_table(
        "ca_acme_authorizations",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("account_id", sa.String(length=22), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("value", sa.String(length=253), nullable=False),
        sa.Column("wildcard", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("validated_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_acme_authorizations")),
    )
    with op.batch_alter_table("ca_acme_authorizations", schema=None) as batch_op:
        batch_op.create_index("ix_ca_acme_authorizations_account_id_value", ["account_id", "value"], unique=False)

    op.create_table(
        "ca_acme_challenges",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("authorization_id", sa.String(length=22), nullable=False),
        sa.Column("account_id", sa.String(length=22), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("token", sa.String(length=43), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("validated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_acme_challenges")),
    )
    with op.batch_alter_table("ca_acme_challenges", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_acme_challenges_authorization_id"), ["authorization_id"], unique=False)
        batch_op.create_index(
            "ix_ca_acme_challenges_status_next_attempt_at", ["status", "next_attempt_at"], unique=False
        )

    op.create_table(
        "ca_acme_external_keys",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("entitlement", sa.Text(), nullable=False),
        sa.Column("reusable", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_acme_external_keys")),
    )
    op.create_table(
        "ca_acme_order_authorizations",
        sa.Column("order_id", sa.String(length=22), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("authorization_id", sa.String(length=22), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "position", name=op.f("pk_ca_acme_order_authorizations")),
    )
    with op.batch_alter_table("ca_acme_order_authorizations", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_ca_acme_order_authorizations_authorization_id"), ["authorization_id"], unique=False
        )

    op.create_table(
        "ca_acme_orders",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("account_id", sa.String(length=22), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("identifiers", sa.Text(), nullable=False),
        sa.Column("replaces", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.String(length=22), nullable=True),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("csr_sha256", sa.LargeBinary(length=32), nullable=True),
        sa.Column("certificate_id", sa.String(length=36), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_acme_orders")),
        sa.UniqueConstraint("certificate_id", name=op.f("uq_ca_acme_orders_certificate_id")),
    )
    with op.batch_alter_table("ca_acme_orders", schema=None) as batch_op:
        batch_op.create_index("ix_ca_acme_orders_account_id_created_at", ["account_id", "created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_ca_acme_orders_replaces"), ["replaces"], unique=False)

    op.create_table(
        "ca_acme_replacements",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("issued_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("explanation_url", sa.String(length=500), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_acme_replacements")),
    )
    with op.batch_alter_table("ca_acme_replacements", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_acme_replacements_issuer"), ["issuer"], unique=False)

    op.create_table(
        "ca_applications",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("applicant", sa.String(length=200), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=True),
        sa.Column("asked_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("csr", sa.LargeBinary(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("alternative_names", sa.Text(), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("evidence", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.String(length=200), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("certificate_id", sa.String(length=36), nullable=True),
        sa.Column("issuing_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_applications")),
        sa.UniqueConstraint("applicant", "idempotency_key", name=op.f("uq_ca_applications_applicant")),
    )
    with op.batch_alter_table("ca_applications", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_applications_certificate_id"), ["certificate_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_ca_applications_holder"), ["holder"], unique=False)
        batch_op.create_index("ix_ca_applications_state_submitted_at", ["state", "submitted_at"], unique=False)

    op.create_table(
        "ca_approval_requests",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=128), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.Column("requester", sa.String(length=200), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_by", sa.String(length=200), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_approval_requests")),
    )
    with op.batch_alter_table("ca_approval_requests", schema=None) as batch_op:
        batch_op.create_index("ix_ca_approval_requests_state_kind", ["state", "kind"], unique=False)

    op.create_table(
        "ca_approvals",
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("officer", sa.String(length=64), nullable=False),
        sa.Column("key_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "officer", name=op.f("pk_ca_approvals")),
    )
    op.create_table(
        "ca_approved_profiles",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approval_id", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_ca_approved_profiles")),
    )
    op.create_table(
        "ca_est_enrolments",
        sa.Column("certificate_id", sa.String(length=36), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("permit_id", sa.String(length=36), nullable=True),
        sa.Column("renewed_certificate_id", sa.String(length=36), nullable=True),
        sa.Column("enrolled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("certificate_id", name=op.f("pk_ca_est_enrolments")),
        sa.UniqueConstraint("permit_id", name=op.f("uq_ca_est_enrolments_permit_id")),
    )
    with op.batch_alter_table("ca_est_enrolments", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_ca_est_enrolments_renewed_certificate_id"), ["renewed_certificate_id"], unique=False
        )

    op.create_table(
        "ca_est_permits",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("alternative_names", sa.Text(), nullable=False),
        sa.Column("evidence", sa.String(length=120), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(length=32), nullable=True),
        sa.Column("bearer_certificate_id", sa.String(length=36), nullable=True),
        sa.Column("needs_approval", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("spki_sha256", sa.LargeBinary(length=32), nullable=True),
        sa.Column("made_by", sa.String(length=200), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.String(length=200), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ca_est_permits")),
    )
    with op.batch_alter_table("ca_est_permits", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_ca_est_permits_bearer_certificate_id"), ["bearer_certificate_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_ca_est_permits_holder"), ["holder"], unique=False)
        batch_op.create_index(batch_op.f("ix_ca_est_permits_state"), ["state"], unique=False)

    op.create_table(
        "ca_further_certificates",
        sa.Column("slug", sa.String(length=64), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=True),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.Column("served", sa.Boolean(), nullable=False),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_ca_further_certificates")),
    )
    with op.batch_alter_table("ca_further_certificates", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_further_certificates_authority"), ["authority"], unique=False)

    op.create_table(
        "ca_mass_revocation_batches",
        sa.Column("plan", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("certificates", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("skipped", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("plan", "number", name=op.f("pk_ca_mass_revocation_batches")),
    )
    op.create_table(
        "ca_mass_revocation_items",
        sa.Column("plan", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("certificate_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("plan", "batch", "certificate_id", name=op.f("pk_ca_mass_revocation_items")),
    )
    with op.batch_alter_table("ca_mass_revocation_items", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_ca_mass_revocation_items_certificate_id"), ["certificate_id"], unique=False
        )

    op.create_table(
        "ca_mass_revocations",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=True),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("certificates", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("approval", sa.String(length=64), nullable=True),
        sa.Column("planned_by", sa.String(length=200), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_ca_mass_revocations")),
        sa.UniqueConstraint("id", name=op.f("uq_ca_mass_revocations_id")),
    )
    op.create_table(
        "ca_officer_versions",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("roles", sa.String(length=200), nullable=False),
        sa.Column("os_uid", sa.BigInteger(), nullable=False),
        sa.Column("os_user", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("key_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("approval_id", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_ca_officer_versions")),
    )
    with op.batch_alter_table("ca_officer_versions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ca_officer_versions_key_sha256"), ["key_sha256"], unique=False)

    op.create_table(
        "ca_officers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ca_officers")),
    )
    op.create_table(
        "ca_trust_list_versions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("made_by", sa.String(length=200), nullable=False),
        sa.Column("change", sa.String(length=200), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("jws", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_ca_trust_list_versions")),
    )
    op.create_table(
        "signing_wrapping_keys",
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("emptied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("label", name=op.f("pk_signing_wrapping_keys")),
        sa.UniqueConstraint("generation", name=op.f("uq_signing_wrapping_keys_generation")),
    )
    with op.batch_alter_table("ca_authorities", schema=None) as batch_op:
        batch_op.add_column(sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True))

    with op.batch_alter_table("ca_certificates", schema=None) as batch_op:
        batch_op.create_index("ix_ca_certificates_issued_at_id", ["issued_at", "id"], unique=False)

    with op.batch_alter_table("signing_credentials", schema=None) as batch_op:
        batch_op.add_column(sa.Column("certificate_bound", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Take it away again."""
    with op.batch_alter_table("signing_credentials", schema=None) as batch_op:
        batch_op.drop_column("certificate_bound")

    with op.batch_alter_table("ca_certificates", schema=None) as batch_op:
        batch_op.drop_index("ix_ca_certificates_issued_at_id")

    with op.batch_alter_table("ca_authorities", schema=None) as batch_op:
        batch_op.drop_column("retired_at")

    op.drop_table("signing_wrapping_keys")
    op.drop_table("ca_trust_list_versions")
    op.drop_table("ca_officers")
    with op.batch_alter_table("ca_officer_versions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_officer_versions_key_sha256"))

    op.drop_table("ca_officer_versions")
    op.drop_table("ca_mass_revocations")
    with op.batch_alter_table("ca_mass_revocation_items", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_mass_revocation_items_certificate_id"))

    op.drop_table("ca_mass_revocation_items")
    op.drop_table("ca_mass_revocation_batches")
    with op.batch_alter_table("ca_further_certificates", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_further_certificates_authority"))

    op.drop_table("ca_further_certificates")
    with op.batch_alter_table("ca_est_permits", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_est_permits_state"))
        batch_op.drop_index(batch_op.f("ix_ca_est_permits_holder"))
        batch_op.drop_index(batch_op.f("ix_ca_est_permits_bearer_certificate_id"))

    op.drop_table("ca_est_permits")
    with op.batch_alter_table("ca_est_enrolments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_est_enrolments_renewed_certificate_id"))

    op.drop_table("ca_est_enrolments")
    op.drop_table("ca_approved_profiles")
    op.drop_table("ca_approvals")
    with op.batch_alter_table("ca_approval_requests", schema=None) as batch_op:
        batch_op.drop_index("ix_ca_approval_requests_state_kind")

    op.drop_table("ca_approval_requests")
    with op.batch_alter_table("ca_applications", schema=None) as batch_op:
        batch_op.drop_index("ix_ca_applications_state_submitted_at")
        batch_op.drop_index(batch_op.f("ix_ca_applications_holder"))
        batch_op.drop_index(batch_op.f("ix_ca_applications_certificate_id"))

    op.drop_table("ca_applications")
    with op.batch_alter_table("ca_acme_replacements", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_acme_replacements_issuer"))

    op.drop_table("ca_acme_replacements")
    with op.batch_alter_table("ca_acme_orders", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_acme_orders_replaces"))
        batch_op.drop_index("ix_ca_acme_orders_account_id_created_at")

    op.drop_table("ca_acme_orders")
    with op.batch_alter_table("ca_acme_order_authorizations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_acme_order_authorizations_authorization_id"))

    op.drop_table("ca_acme_order_authorizations")
    op.drop_table("ca_acme_external_keys")
    with op.batch_alter_table("ca_acme_challenges", schema=None) as batch_op:
        batch_op.drop_index("ix_ca_acme_challenges_status_next_attempt_at")
        batch_op.drop_index(batch_op.f("ix_ca_acme_challenges_authorization_id"))

    op.drop_table("ca_acme_challenges")
    with op.batch_alter_table("ca_acme_authorizations", schema=None) as batch_op:
        batch_op.drop_index("ix_ca_acme_authorizations_account_id_value")

    op.drop_table("ca_acme_authorizations")
    with op.batch_alter_table("ca_acme_accounts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ca_acme_accounts_external_key_id"))

    op.drop_table("ca_acme_accounts")
