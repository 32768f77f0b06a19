//! The ids of rows, a type for each kind, so that they cannot be mixed up.

/// Declares `i64` newtypes, one per identity, so that they cannot be mixed up.
macro_rules! id_types {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

id_types! {
    /// A cache's id.
    CacheId;
    /// A dedup domain's id.
    DomainId;
    /// A NAR's id.
    NarId;
    /// A pack's id.
    PackId;
    /// A path's id.
    PathId;
}

impl DomainId {
    /// The domain that caches are in unless they were created isolated.
    pub const SHARED: Self = Self(1);
}
