//! Who asks, and what they may: tokens, the keys that sign them, and the proofs that a permission
//! was checked.
//!
//! Invariants: a token is believed only under a key of the ring, by that key's own algorithm,
//! within its times and unless it was revoked; a [`MayPush`] or [`MayPull`] exists only where that
//! was checked. Verification reads the database at most every few seconds, never writes it, and
//! follows a revocation within 5 s (R2). Tokens of other issuers are believed only as far as the
//! settings say ([`Trust`]), and attic's only under keys that the settings call legacy. Status codes are for `http` to choose.

mod claims;
mod decode;
mod error;
mod header;
mod key_file_error;
mod keys;
mod legacy;
mod legacy_grants;
mod material;
mod oidc;
mod permission;
mod proof;
mod revocations;
mod session;
mod token_key;
mod trust;
mod trust_error;
mod uses;
mod verifier;

pub use claims::{Claims, FirstToken, Grants, Origin, Session, SessionClaims, Signer, Token};
pub use error::AuthError;
pub use header::extract_token;
pub use key_file_error::KeyFileError;
pub use keys::signed_id;
pub use legacy::LegacyKeys;
pub use legacy_grants::LegacyGrants;
pub use permission::{Permission, UnknownPermission};
pub use proof::{
    MayAdmin, MayCreate, MayManage, MayPull, MayPush, authorize_admin, authorize_change,
    authorize_create, authorize_manage, authorize_name, authorize_pull, authorize_push,
    check_change,
};
pub use session::session_claims;
pub use token_key::TokenKey;
pub use trust::Trust;
pub use trust_error::TrustError;
pub use uses::TokenUses;
pub use verifier::Verifier;

#[cfg(test)]
mod tests;
