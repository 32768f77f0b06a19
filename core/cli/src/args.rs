//! Arguments that both programs take, for clap, and the messages that they stand for.

mod audit;
mod cache;
mod collection;
mod delete;
mod pin;
mod subject;
mod token;

pub use audit::AuditQueryArgs;
pub use cache::{CacheChanges, NewCacheArgs};
pub use collection::GcArgs;
pub use delete::DeleteFlags;
pub use pin::{PinKeepArgs, parse_nonzero_time};
pub use subject::{SubjectError, only_valid_token};
pub use token::{RotatedToken, TokenCreateArgs, TokenRevokeArgs, TokenRotateArgs};
