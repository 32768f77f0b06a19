//! Who asks, and what they may: tokens, the keys that sign them, and the proofs that a permission
//! was checked.
//!
//! Invariants: a token is believed only under a key of the ring, by that key's own algorithm,
//! within its times and unless it was revoked; a [`MayPush`] or [`MayPull`] exists only where that
//! was checked. Verification reads the database at most every few seconds, never writes it, and
//! follows a revocation within 5 s (R2). Tokens of other issuers are believed only as far as the
//! settings say ([`Trust`]). Status codes are for `http` to choose.

mod claims;
mod error;
mod header;
mod key_file_error;
mod keys;
mod material;
mod oidc;
mod proof;
mod revocations;
mod session;
mod token_key;
mod trust;
mod trust_error;
mod uses;
mod verifier;

pub use claims::{
    Claims, FirstToken, Grants, Origin, Permission, Session, SessionClaims, Signer, Token,
    UnknownPermission,
};
pub use error::AuthError;
pub use header::extract_token;
pub use key_file_error::KeyFileError;
pub use keys::signed_id;
pub use proof::{
    MayAdmin, MayCreate, MayManage, MayPull, MayPush, authorize_admin, authorize_create,
    authorize_manage, authorize_name, authorize_pull, authorize_push,
};
pub use session::session_claims;
pub use token_key::TokenKey;
pub use trust::Trust;
pub use trust_error::TrustError;
pub use uses::TokenUses;
pub use verifier::Verifier;

#[cfg(test)]
mod tests;
